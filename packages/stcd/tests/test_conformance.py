"""STCD does what every paper must do."""

import shutil
from pathlib import Path

from llve_common.data.splits import SDSD_INDOOR_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.testing.conformance import Conformance
from llve_stcd.cli import app
from llve_stcd.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

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
