"""Every command that the package's README and settings tell the user to type, typed."""

import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llve_common.data.synthetic import write_dark_photograph, write_image_set
from llve_common.engine.checkpoint import read_weights, write_weights
from llve_common.engine.network import bundled_weights
from llve_common.testing.pages import page_commands, settings_commands
from llve_sgz.cli import app
from llve_sgz.network import Segmenter
from llve_sgz.paper import PAPER

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[str]:
    return [*page_commands(README, "sgz"), *settings_commands(PAPER)]


def test_the_pages_hold_commands():
    assert len(commands()) > 8


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with the files that the page speaks of."""
    made = write_image_set(tmp_path / "synthetic", clips=1, frames=1, height=24, width=32)
    for low in ("photos", "LOW", "IMAGES", "LOL/eval15/low"):
        shutil.copytree(made / "test" / "low", tmp_path / low)
    for high in ("HIGH", "LOL/eval15/high"):
        shutil.copytree(made / "test" / "high", tmp_path / high)
    write_dark_photograph(tmp_path, "astronaut", 0)[1].rename(tmp_path / "dark.jpg")
    weights = read_weights(bundled_weights(PAPER))
    for name in ("Epoch99.pth", "WEIGHTS.pth"):
        write_weights(tmp_path / name, weights)
    shutil.copy(tmp_path / "WEIGHTS.pth", tmp_path / "WEIGHTS")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_command_of_a_page(reader, command):
    words = shlex.split(command.removeprefix("sgz"))
    if words[0] == "train":
        words += ["--epochs", "1", "--num_workers", "0", "data.size=64"]
    if "--seg-weights" in words:
        write_weights(reader / "resnet50.pth", Segmenter().resnet.state_dict())
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (command, result.output, result.exception)
