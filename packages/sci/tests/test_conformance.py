"""SCI does what every paper must do."""

from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs
from llve_sci.__main__ import app
from llve_sci.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        write_pairs(folder / "low", folder / "high")
        return ["train", "--data_path", str(folder / "low"), "--epochs", "1"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_pairs(folder / "low", folder / "high")
        data = ["--data_path", str(folder / "low"), "--target_path", str(folder / "high")]
        return ["test", *data, "--save_path", str(folder / "out")]
