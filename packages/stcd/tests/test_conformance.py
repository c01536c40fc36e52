"""STCD does what every paper must do."""

from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs
from llve_stcd.__main__ import app
from llve_stcd.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app
    kinds_of_losses = ([], ["objective.criterion=cb2"])

    def how_to_train(self, folder: Path) -> list[str]:
        short = ["train.iterations=1", "train.batch_size=2", "train.workers=0", "network.nf=8"]
        return ["train", *one_clip(folder, "pair1"), *short]

    def how_to_test(self, folder: Path) -> list[str]:
        clip = one_clip(folder / "set", "pair13")
        return ["test", *clip, "--save_path", str(folder / "out")]


def one_clip(folder: Path, name: str) -> list[str]:
    """One clip of three frames."""
    write_pairs(folder / "input" / name, folder / "GT" / name)
    return ["--data_path", str(folder), "data.size=null"]
