"""Every command that the package's README and settings tell the user to type, typed."""

import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.synthetic import write_clip_set
from llve_common.engine.checkpoint import write_weights
from llve_common.engine.shipped import shipped_configs
from llve_common.flow.raft import Raft
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.nn.vgg import Vgg19Features
from llve_tcenet.cli import app
from llve_tcenet.paper import PAPER

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[str]:
    blocks = README.read_text(encoding="utf-8").split("```sh\n")[1:]
    lines = "".join(block.split("```")[0] for block in blocks).splitlines()
    found = [line.split("  #")[0].strip() for line in lines if line.startswith("tcenet ")]
    heads = (file.read_text("utf-8").splitlines()[0] for file in shipped_configs(PAPER).values())
    return found + [
        head.partition(": ")[2].partition(",")[0] for head in heads if ": tcenet" in head
    ]


def test_the_pages_hold_commands():
    assert len(commands()) > 10


@pytest.fixture
def reader(tmp_path, monkeypatch, random_weights):
    """A folder with the files that the page speaks of."""
    made = write_clip_set(tmp_path / "made", suffix=".png", clips=1, frames=6, height=40, width=48)
    sdsd, syn = tmp_path / "data" / "SDSD_CUHK", tmp_path / "data" / "DS_LOL"
    names = sorted(each.name for each in (made / "input").iterdir())
    for folder in (tmp_path / "LOW", sdsd / "videoSDSD_low", syn / "low_and_noise"):
        shutil.copytree(made / "input", folder)
    for folder in (tmp_path / "NORMAL", sdsd / "videoSDSD_normal", syn / "normal"):
        shutil.copytree(made / "GT", folder)
    for file in (sdsd / "train_list.txt", syn / "train_list.txt", sdsd / "test_list.txt"):
        file.write_text("".join(f"{name}\n" for name in names[:2]))
    shutil.copytree(made / "GT" / names[0], tmp_path / "VIDEOS" / "one")
    info = VideoInfo(tmp_path / "dark.mp4", 48, 40, Fraction(25), Fraction(1, 12800))
    with VideoWriter(tmp_path / "dark.mp4", info, width=48, height=40) as writer:
        for number in range(3):
            writer.write(np.full((40, 48, 3), 20, np.uint8), Fraction(number, 25))
    (tmp_path / "models").mkdir()
    for name in ("WEIGHTS.pth", "WEIGHTS", "models/Mine_epoch_300.pth"):
        shutil.copy(random_weights, tmp_path / name)
    torch.manual_seed(0)
    write_weights(tmp_path / "raft-things.pth", Raft().state_dict())
    write_weights(tmp_path / "vgg19-dcbb9e9d.pth", Vgg19Features().state_dict())
    (tmp_path / "Pretrained_RAFT").mkdir()
    shutil.copy(tmp_path / "raft-things.pth", tmp_path / "Pretrained_RAFT")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_command_of_a_page(reader, command):
    words = shlex.split(command.removeprefix("tcenet"))
    if "simulate" in words:
        # Into the place that the page names, but not over the set that is there.
        shutil.rmtree(reader / "data" / "DS_LOL")
    if "train" in words[:2]:
        words += ["--epochs", "1", "--repeat_times", "1", "--batch_size", "2", "--threads", "0"]
        words += ["train.crop=32", "objective.raft.iterations=1", "--use_tensorboard", "false"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (command, result.output, result.exception)
