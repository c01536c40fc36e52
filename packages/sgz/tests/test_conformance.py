"""SGZ does what every paper must do."""

from pathlib import Path

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance
from llve_sgz.cli import app
from llve_sgz.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", str(folder / "train" / "low"), "data.size=64"]
        return ["train", *data, "--epochs", "1", "--num_workers", "0", "--no-seg"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", folder / "test" / "low", "--target_path", folder / "test" / "high"]
        return ["test", *map(str, data), "--save_path", str(folder / "out")]
