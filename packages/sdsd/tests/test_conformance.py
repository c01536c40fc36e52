"""SDSD does what every paper must do."""

import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from llve_common.data.clip import Clip, paired_clips
from llve_common.data.sdsd.layout import low_and_high
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.testing.conformance import Conformance
from llve_sdsd.__main__ import app
from llve_sdsd.paper import PAPER

TINY = ["network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1"]


class TestConformance(Conformance):
    paper = PAPER
    app = app
    published_settings: ClassVar = {
        "network.nf": 16,
        "network.front_blocks": 1,
        "data.size": (48, 32),
        "data.border": "new_info",
        "data.test_clips": ("pair13", "pair15"),
        "train.iterations": 6,
        "train.fusion_only": 3,
        "train.schedule.periods": (3, 3),
        "train.seed": 2318,
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
        root = write_clip_set(folder / "set", clips=1, frames=5, height=32, width=48)
        names = {"clips": "pair13,pair15", "size": [48, 32], "weights": weights}
        return str(self.option_file(folder, command, root, **names))

    def how_to_train(self, folder: Path) -> list[str]:
        root = one_clip(folder, test=False)
        short = ["train.iterations=1", "train.batch_size=2", "train.workers=0", "data.size=null"]
        return ["train", "--data_path", str(root), *TINY, *short]

    def how_to_test(self, folder: Path) -> list[str]:
        root = one_clip(folder / "set", test=True)
        words = ["test", "--data_path", str(root), "--save_path", str(folder / "out")]
        return [*words, "data.size=null"]


def one_clip(folder: Path, *, test: bool) -> Path:
    """The synthetic set with one clip left, each of whose windows has all of its five frames."""
    root = write_clip_set(folder, suffix=".png", clips=1, frames=5, height=32, width=48)

    def wanted(clip: Clip) -> bool:
        return (clip.name in SDSD_INDOOR_TEST) == test

    clips = paired_clips(*low_and_high(root))
    kept = next(clip for clip in clips if wanted(clip))
    for clip in clips:
        if clip is not kept:
            for side in ("GT", "input"):
                shutil.rmtree(root / side / clip.name)
    return root
