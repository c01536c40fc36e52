"""The conformance suite on a video paper of five frames, made for this test."""

import os
import sys
from pathlib import Path

import pytest

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance

PAPERS = Path(__file__).parent / "papers"
sys.path.insert(0, str(PAPERS))

from llve_five.cli import app  # noqa: E402
from llve_five.paper import PAPER  # noqa: E402


class TestConformance(Conformance):
    paper = PAPER
    app = app

    @pytest.fixture(autouse=True)
    def found_by_other_processes(self, monkeypatch):
        path = os.pathsep.join([str(PAPERS), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)

    def how_to_train(self, folder: Path) -> list[str]:
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = made / "train"
        return ["train", "--data_path", str(data / "low"), f"data.high={data / 'high'}"]

    def how_to_test(self, folder: Path) -> list[str]:
        made = write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data, out = made / "test", folder / "out"
        paths = ["--data_path", str(data / "low"), "--save_path", str(out)]
        return ["test", *paths, f"data.high={data / 'high'}"]
