"""The published command lines of TCE-Net."""

from pathlib import Path
from typing import ClassVar

from published import PublishedLines

from llve_common.testing.conformance import write_pairs
from llve_tcenet.__main__ import app
from llve_tcenet.paper import PAPER


class TestPublishedLines(PublishedLines):
    paper = PAPER
    app = app
    scripts: ClassVar = {"tcenet/main.py": []}
    parsers: ClassVar = {"tcenet/config.py": [["train"], ["test"]]}
    # A log line at every iteration would hide the others; epoch 0 there is none.
    other_defaults: ClassVar = {"--log_step"}
    small: ClassVar = {
        "objective.flow": "dis", "objective.perceptual": False, "train.epochs": 1,
        "train.repeat": 1, "train.batch_size": 2, "train.workers": 0, "train.crop": 16,
        "run.tensorboard": False,
    }  # fmt: skip

    def make_data(self):
        folders = {"SDSD_CUHK": ("videoSDSD_low", "videoSDSD_normal"),
                   "DS_LOL": ("low_and_noise", "normal"),
                   "DRV_HKUST": ("VBM4D_rawRGB", "long")}  # fmt: skip
        for name, (low, normal) in folders.items():
            root = Path("data") / name
            for video in ("a", "b"):
                write_pairs(root / low / video, root / normal / video, 6)
            (root / "train_list.txt").write_text("a\nb\n")
            (root / "test_list.txt").write_text("a\n")

    def test_one_data_set_alone_takes_what_lies_beside_it(self):
        """``--DRV_dir`` with its ground truth; the bare test with the published list."""
        drv = Path("data/DRV_HKUST")
        self.run("--mode", "train", "--version", "Mine", "--DRV_dir", str(drv / "VBM4D_rawRGB"))
        real = self.seen[-1].data.real
        assert (real.low, real.normal) == (drv / "VBM4D_rawRGB", drv / "long")
        assert real.list == drv / "train_list.txt"
        self.run("--mode", "test", "--version", "Mine")
        data = self.seen[-1].data
        root = Path("data/SDSD_CUHK")
        assert (data.normal, data.list) == (root / "videoSDSD_normal", root / "test_list.txt")
