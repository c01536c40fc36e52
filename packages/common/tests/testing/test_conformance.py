"""The conformance suite on a video paper of five frames, made for this test."""

import sys
from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "tests" / "papers"))

from llve_five.__main__ import app
from llve_five.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        write_pairs(folder / "low", folder / "high")
        return ["train", "--data_path", str(folder / "low"), f"data.high={folder / 'high'}"]

    def how_to_test(self, folder: Path) -> list[str]:
        data = self.how_to_train(folder)[1:]
        return ["test", *data, "--save_path", str(folder / "out")]
