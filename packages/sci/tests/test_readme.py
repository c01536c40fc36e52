"""Every command that a README tells the user to type, typed."""

import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import llve_common.__main__ as common
from llve_common.data.synthetic import write_dark_photograph, write_image_set
from llve_common.engine.checkpoint import read_weights, write_weights
from llve_common.engine.network import bundled_weights
from llve_common.installed import installed_papers
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.testing.pages import page_commands, settings_commands
from llve_sci.cli import app
from llve_sci.paper import PAPER
from llve_sci.weights import to_published

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "packages/sci/README.md", "packages/common/README.md")
PROGRAMS = {"sci": app, "python -m llve_common": common.app}


def commands() -> list[tuple[str, str]]:
    written = [
        (page, command) for page in PAGES for command in page_commands(ROOT / page, *PROGRAMS)
    ]
    return written + [("settings", command) for command in settings_commands(PAPER)]


def test_the_pages_hold_commands():
    assert len(commands()) > 20


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of."""
    made = write_image_set(tmp_path / "synthetic", clips=1, frames=1, height=24, width=32)
    for low in ("photos", "LOW", "IMAGES", "FRAMES", "LOL/eval15/low"):
        shutil.copytree(made / "test" / "low", tmp_path / low)
    for high in ("HIGH", "LOL/eval15/high"):
        shutil.copytree(made / "test" / "high", tmp_path / high)
    write_dark_photograph(tmp_path, "astronaut", 0)[1].rename(tmp_path / "dark.jpg")
    write_video(tmp_path / "dark.mp4")
    published = to_published(read_weights(bundled_weights(PAPER)))
    write_weights(tmp_path / "medium.pt", published)
    write_weights(tmp_path / "WEIGHTS.pt", published)
    shutil.copy(tmp_path / "WEIGHTS.pt", tmp_path / "WEIGHTS")
    write_weights(tmp_path / "medium.safetensors", read_weights(bundled_weights(PAPER)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_video(path: Path) -> None:
    info = VideoInfo(path, 64, 48, Fraction(25), Fraction(1, 12800))
    with VideoWriter(path, info, width=64, height=48) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8), Fraction(number, 25))


@pytest.mark.parametrize(("page", "command"), [pytest.param(*one, id=one[1]) for one in commands()])
def test_command_of_a_page(reader, page, command):
    program = next(name for name in PROGRAMS if command.startswith(name))
    words = shlex.split(command.removeprefix(program))
    if "sci,sgz" in words and "sgz" not in installed_papers():
        pytest.skip("needs llve-sgz installed")
    if words[0] in {"train", "finetune"}:
        words += ["--epochs", "1"]
    result = CliRunner().invoke(PROGRAMS[program], words)
    assert result.exit_code == 0, (page, command, result.output, result.exception)
