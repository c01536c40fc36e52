"""The published command lines and option files of STCD."""

from pathlib import Path
from typing import ClassVar

from published import PublishedLines, random_weights

from llve_common.data.synthetic import write_clip_set
from llve_stcd.__main__ import app
from llve_stcd.network import STCD
from llve_stcd.paper import PAPER


class TestPublishedLines(PublishedLines):
    paper = PAPER
    app = app
    scripts: ClassVar = {"stcd/train.py": ["train"], "stcd/test.py": ["test"]}
    parsers: ClassVar = {}  # -opt, and the launcher's two, are in the lines
    moved: ClassVar = {"/home/nfs/nerf_dataset": "dataset"}
    small_test: ClassVar = {"data.size": None}
    small: ClassVar = {
        **small_test, "network.nf": 8, "train.batch_size": 2, "train.workers": 0,
        "train.iterations": 1, "train.validate_every": None, "run.tensorboard": False,
    }  # fmt: skip

    def make_data(self):
        write_clip_set(Path("dataset/indoor_np"), clips=1, frames=3, height=32, width=48)
        weights = Path("pretrained_model/SDSD_indoor_model/indoor_G.pth")
        random_weights(weights, lambda: STCD(8), PAPER)

    def test_training_without_dkm_is_said_first(self):
        self.run(*self.commands(self.lines()[0])[0])
        [log] = Path("experiments").glob("*/train.log")
        first = log.read_text().splitlines()[0]
        assert "training by dense inverse search (dis), not by DKM as published" in first
