"""The published command lines of SCI."""

from pathlib import Path
from typing import ClassVar

from published import PublishedLines, random_weights

from llve_common.testing.conformance import write_pairs
from llve_sci.__main__ import app
from llve_sci.network import Cascade
from llve_sci.paper import PAPER


class TestPublishedLines(PublishedLines):
    paper = PAPER
    app = app
    scripts: ClassVar = {
        "sci/train.py": ["train"],
        "sci/finetune.py": ["finetune"],
        "sci/test.py": ["test"],
    }
    small: ClassVar = {"train.epochs": 1, "run.tensorboard": False}
    parsers: ClassVar = {file: [words] for file, words in scripts.items()}

    def make_data(self):
        for name in ("medium", "finetune"):
            write_pairs(Path("data") / name / "low", Path("data") / name / "high")
        for name in ("medium", "difficult"):
            random_weights(Path(f"weights/{name}.pt"), Cascade, PAPER)
