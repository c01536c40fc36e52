"""Every command that the package's README and settings tell the user to type, typed."""

import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from llve_common.data.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.engine.checkpoint import write_weights
from llve_common.io.images import read_image, write_image
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.testing.pages import page_commands, settings_commands
from llve_stcd.cli import app
from llve_stcd.matcher import dis_matches
from llve_stcd.network import STCD
from llve_stcd.paper import PAPER

README = Path(__file__).parents[1] / "README.md"
SHORT = (
    "network.nf=8", "data.size=null", "train.batch_size=1", "train.workers=0",
    "train.iterations=1", "train.validate_every=null",
)  # fmt: skip


def commands() -> list[str]:
    return [*page_commands(README, "stcd"), *settings_commands(PAPER)]


def test_the_pages_hold_commands():
    assert len(commands()) > 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the pages speak of."""
    folder = tmp_path_factory.mktemp("reader")
    size = {"frames": 5, "height": 32, "width": 40}
    # Six clips of each photograph: all twelve of the test are there.
    made = write_clip_set(folder / "SDSD" / "indoor_np", clips=6, **size)
    write_clip_set(folder / "SDSD" / "indoor_png", suffix=".png", clips=1, **size)
    for place in ("data", "path_to_dataset"):
        (folder / place).mkdir()
        (folder / place / "indoor_np").symlink_to(made)
    for side in ("GT", "input"):
        outdoor = folder / "data" / "outdoor_np" / side
        outdoor.mkdir(parents=True)
        (outdoor / SDSD_OUTDOOR_TEST[0]).symlink_to(made / side / SDSD_INDOOR_TEST[0])
        (outdoor / "pair2").symlink_to(made / side / SDSD_INDOOR_TEST[1])
    frames = [
        read_image(path).pixels for path in sorted((made / "input" / SDSD_INDOOR_TEST[0]).iterdir())
    ]
    write_image(folder / "frame.png", frames[0])
    write_image(folder / "next.png", frames[1])
    write_video(folder / "dark.mp4", frames)
    write_weights(folder / "indoor_G.pth", STCD(nf=8).state_dict())
    shutil.copy(folder / "indoor_G.pth", folder / "WEIGHTS")
    write_weights(folder / "DKMv3_indoor.pth", {"any": torch.zeros(1)})
    for name, command in (("SDSD_indoor", "train"), ("SDSD_indoor_test", "test")):
        (folder / f"{name}.yml").write_text(yaml.dump(published_options(command)))
    return folder


def write_video(path: Path, frames: list) -> None:
    height, width = frames[0].shape[:2]
    info = VideoInfo(path, width, height, Fraction(25), Fraction(1, 12800))
    with VideoWriter(path, info, width=width, height=height) as writer:
        for number, frame in enumerate(frames):
            writer.write(frame, Fraction(number, 25))


def published_options(command: str) -> dict:
    """The keys of a published option file that say where its files are."""
    root = "path_to_dataset/indoor_np"
    data = {"dataroot_GT": f"{root}/GT", "dataroot_LQ": f"{root}/input"}
    path = {"root": "./"} | ({"pretrain_model_G": "indoor_G.pth"} if command == "test" else {})
    return {"name": "indoor", "datasets": {command: data}, "path": path}


@pytest.mark.parametrize("command", commands())
def test_command_of_a_page(folder, monkeypatch, command):
    monkeypatch.chdir(folder)
    # The matcher itself, with its 72 million weights, has tests of its own.
    monkeypatch.setattr("llve_stcd.matcher.dkm_matcher", lambda *settings: dis_matches)
    words = shlex.split(command.removeprefix("stcd"))
    if words[:2] == ["data", "synthetic"]:
        words += ["--clips", "1", "--frames", "5", "--height", "32", "--width", "40"]
    if words[0] == "train":
        words = ["SDSD/indoor_np" if word == "synthetic/indoor_np" else word for word in words]
        words += SHORT
    if words[0] == "test":
        words += ["data.size=null", "data.first=2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (command, result.output, result.exception)
