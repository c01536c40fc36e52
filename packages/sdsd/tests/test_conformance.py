"""SDSD does what every paper must do."""

from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs
from llve_sdsd.__main__ import app
from llve_sdsd.paper import PAPER

TINY = ["network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1"]
SHORT = ["train.iterations=1", "train.batch_size=2", "train.workers=0"]


class TestConformance(Conformance):
    paper = PAPER
    app = app

    def how_to_train(self, folder: Path) -> list[str]:
        return ["train", *one_clip(folder, "pair1"), *TINY, *SHORT]

    def how_to_test(self, folder: Path) -> list[str]:
        clip = one_clip(folder / "set", "pair13")
        return ["test", *clip, "--save_path", str(folder / "out")]


def one_clip(folder: Path, name: str) -> list[str]:
    """One clip, each of whose windows has all of its five frames."""
    write_pairs(folder / "input" / name, folder / "GT" / name, 5, (32, 48))
    return ["--data_path", str(folder), "data.size=null"]
