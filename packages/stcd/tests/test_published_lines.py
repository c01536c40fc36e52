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

    def make_data(self):
        write_clip_set(Path("dataset/indoor_np"), clips=1, frames=3, height=32, width=48)
        weights = Path("pretrained_model/SDSD_indoor_model/indoor_G.pth")
        random_weights(weights, lambda: STCD(8), PAPER)

    def smaller(self, settings):
        data = {"size": None}
        if settings.procedure == "test":
            return settings.model_copy(update={"data": settings.data.model_copy(update=data)})
        changed = {
            "data": data, "network": {"nf": 8},
            "train": {"batch_size": 2, "workers": 0, "iterations": 1, "validate_every": None},
            "run": {"tensorboard": False},
        }  # fmt: skip
        parts = {k: getattr(settings, k).model_copy(update=v) for k, v in changed.items()}
        return settings.model_copy(update=parts)

    def test_training_without_dkm_is_said_first(self):
        self.run(*self.commands(self.lines()[0])[0])
        [log] = Path("experiments").glob("*/train.log")
        first = log.read_text().splitlines()[0]
        assert "training by dense inverse search (dis), not by DKM as published" in first
