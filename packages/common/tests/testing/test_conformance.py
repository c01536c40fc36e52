"""The conformance suite on a video paper of five frames, made for this test."""

import os
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance

PAPERS = Path(__file__).resolve().parents[4] / "tests" / "papers"
sys.path.insert(0, str(PAPERS))

from llve_five.__main__ import app  # noqa: E402
from llve_five.paper import PAPER  # noqa: E402


class TestConformance(Conformance):
    paper = PAPER
    app = app

    @pytest.fixture(autouse=True)
    def found_by_other_processes(self, monkeypatch):
        path = os.pathsep.join([str(PAPERS), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)

    published_settings: ClassVar = {"run.device": "cpu"}

    def published_training(self, folder: Path) -> list[str]:
        # Nobody published it: its own words, and how its data are named beside them.
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32) / "train"
        self.instead = (f"data.high={made / 'high'}",)
        words = ["--data_path", str(made / "low"), "--save", str(folder / "runs")]
        return ["train", *words, "--device", "cpu"]

    def published_test(self, folder: Path, weights: Path) -> list[str]:
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32) / "test"
        words = ["--data_path", str(made / "low"), "--save_path", str(folder / "results")]
        return ["test", *words, "--model", str(weights)]

    def how_to_train(self, folder: Path) -> list[str]:
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = made / "train"
        return ["train", "--data_path", str(data / "low"), f"data.high={data / 'high'}"]

    def how_to_test(self, folder: Path) -> list[str]:
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data, out = made / "test", folder / "out"
        paths = ["--data_path", str(data / "low"), "--save_path", str(out)]
        return ["test", *paths, f"data.high={data / 'high'}"]
