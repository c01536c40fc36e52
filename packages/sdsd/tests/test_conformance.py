"""SDSD does what every paper must do."""

import shutil
from pathlib import Path

from llve_common.data.clips import Clip, low_and_high, paired_clips
from llve_common.data.splits import SDSD_INDOOR_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.testing.conformance import Conformance
from llve_sdsd.cli import app
from llve_sdsd.paper import PAPER

TINY = ["network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1"]


class TestConformance(Conformance):
    paper = PAPER
    app = app

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
