"""SCI does what every paper must do."""

from pathlib import Path

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance
from llve_sci.cli import app
from llve_sci.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        return ["train", "--data_path", str(folder / "train" / "low"), "--epochs", "1"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", folder / "test" / "low", "--target_path", folder / "test" / "high"]
        return ["test", *map(str, data), "--save_path", str(folder / "out")]
