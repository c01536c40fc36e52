"""The published command lines and option files of SDSD."""

import shutil
from pathlib import Path
from typing import ClassVar

from published import PublishedLines, random_weights

from llve_common.data.sdsd.splits import TEST_CLIPS
from llve_common.data.synthetic import write_clip_set
from llve_sdsd.__main__ import app
from llve_sdsd.network import RetinexNet
from llve_sdsd.paper import PAPER

NARROW = {"nf": 8, "groups": 2, "front_blocks": 1, "back_blocks": 1}
ROOT = Path("path_to_dataset")


class TestPublishedLines(PublishedLines):
    paper = PAPER
    app = app
    scripts: ClassVar = {
        "sdsd/train.py": ["train"],
        "sdsd/quantitative_test.py": ["test"],
        "sdsd/qualitative_test.py": ["test", "--save-images"],
    }
    parsers: ClassVar = {}  # -opt, and the launcher's two, are in the lines
    small_test: ClassVar = {"data.size": None}
    small: ClassVar = {
        **small_test, **{f"network.{name}": value for name, value in NARROW.items()},
        "data.crop": 32, "train.batch_size": 2, "train.workers": 0, "train.iterations": 1,
        "train.validate_every": None, "run.tensorboard": False,
    }  # fmt: skip

    def make_data(self):
        write_clip_set(ROOT / "indoor_np", clips=1, frames=5, height=32, width=48)
        first = TEST_CLIPS["indoor"][0]
        for side in ("GT", "input"):
            shutil.copytree(ROOT / "indoor_np" / side, ROOT / "outdoor_np" / side)
            clip = ROOT / "outdoor_np" / side / first
            clip.rename(clip.with_name(TEST_CLIPS["outdoor"][0]))
        for side, name in (("GT", "SMID_Long_np"), ("input", "SMID_LQ_np")):
            shutil.copytree(ROOT / "indoor_np" / side, ROOT / name)
            (ROOT / name / first).rename(ROOT / name / TEST_CLIPS["smid"][0])
        for split in TEST_CLIPS:
            random_weights(Path(f"pretrain/{split}_G.pth"), lambda: RetinexNet(**NARROW), PAPER)
