"""SGZ does what every paper must do."""

from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs
from llve_sgz.__main__ import app
from llve_sgz.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        write_pairs(folder / "low", folder / "high")
        data = ["--data_path", str(folder / "low"), "data.size=64"]
        return ["train", *data, "--epochs", "1", "--num_workers", "0", "--no-seg"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_pairs(folder / "low", folder / "high")
        data = ["--data_path", str(folder / "low"), "--target_path", str(folder / "high")]
        return ["test", *data, "--save_path", str(folder / "out")]
