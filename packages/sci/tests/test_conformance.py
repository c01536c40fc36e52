"""SCI does what every paper must do."""

from pathlib import Path
from typing import ClassVar

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance
from llve_sci.__main__ import app
from llve_sci.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app
    published_settings: ClassVar = {
        "train.batch_size": 2,
        "train.epochs": 1,
        "train.lr": 1e-4,
        "train.seed": 5,
        "network.stages": 2,
    }

    def published_training(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        words = ["--data_path", str(folder / "train" / "low"), "--save", str(folder / "EXP")]
        values = ["--batch_size", "2", "--epochs", "1", "--lr", "1e-4", "--stage", "2"]
        return ["train", *words, *values, "--seed", "5"]

    def published_test(self, folder: Path, weights: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        words = ["--data_path", str(folder / "test" / "low"), "--model", str(weights)]
        return ["test", *words, "--save_path", str(folder / "results")]

    def how_to_train(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        return ["train", "--data_path", str(folder / "train" / "low"), "--epochs", "1"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", folder / "test" / "low", "--target_path", folder / "test" / "high"]
        return ["test", *map(str, data), "--save_path", str(folder / "out")]
