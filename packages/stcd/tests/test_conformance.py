"""STCD does what every paper must do."""

import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.testing.conformance import Conformance
from llve_stcd.__main__ import app
from llve_stcd.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app
    published_settings: ClassVar = {
        "network.nf": 64,
        "network.front_blocks": 1,
        "data.size": (48, 32),
        "data.test_clips": ("pair13", "pair15"),
        "train.iterations": 4,
        "train.schedule.periods": (4,),
        "train.seed": 11,
        "run.name": "tiny",
    }

    @pytest.fixture(autouse=True)
    def _option_file(self, write_option_file) -> None:
        self.option_file = write_option_file

    def published_training(self, folder: Path) -> list[str]:
        return ["train", "-opt", self.option_file_on_a_set(folder, "train")]

    def published_test(self, folder: Path, weights: Path) -> list[str]:
        return ["test", "-opt", self.option_file_on_a_set(folder, "test", weights)]

    def option_file_on_a_set(self, folder: Path, command: str, weights: Path | None = None) -> str:
        root = write_clip_set(folder / "set", clips=1, frames=3, height=32, width=48)
        names = {"clips": "pair13,pair15", "size": [48, 32], "weights": weights}
        return str(self.option_file(folder, command, root, **names))

    def how_to_train(self, folder: Path) -> list[str]:
        root = one_clip(folder, test=False)
        short = ["train.iterations=1", "train.batch_size=2", "train.workers=0", "data.size=null"]
        return ["train", "--data_path", str(root), "network.nf=8", *short]

    def how_to_test(self, folder: Path) -> list[str]:
        root = one_clip(folder / "set", test=True)
        words = ["test", "--data_path", str(root), "--save_path", str(folder / "out")]
        return [*words, "data.size=null"]


def one_clip(folder: Path, *, test: bool) -> Path:
    """The synthetic set with one clip left, of three frames."""
    root = write_clip_set(folder, suffix=".png", clips=1, frames=3, height=24, width=32)
    names = sorted(each.name for each in (root / "GT").iterdir())
    kept = next(name for name in names if (name in SDSD_INDOOR_TEST) == test)
    for name in names:
        if name != kept:
            for side in ("GT", "input"):
                shutil.rmtree(root / side / name)
    return root
