"""``enhance`` of any paper: whatever comes between, it says one clear thing and loses nothing."""

import os
import signal
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.commands.paper import paper_app
from llve_common.enhance.files import enhance_job
from llve_common.enhance.frames import frame_enhancer
from llve_common.io.images import write_image
from llve_common.io.video import VideoReader
from llve_common.testing.conformance import run_command
from llve_common.weights.files import write_weights


@pytest.fixture
def typed(paper, tmp_path):
    """The app of a paper whose network does nothing, unless another one is given, and words."""

    def make(source, target, enhance=lambda network, frames: frames):
        chosen = paper(enhance=enhance)
        weights = tmp_path / "weights.safetensors"
        write_weights(weights, chosen.network({}, None).state_dict())
        words = ("enhance", source, "-o", target, "--weights", weights, "--device", "cpu")
        return paper_app(chosen), [str(word) for word in words]

    return make


@pytest.fixture
def run(typed):
    def run(*given, fails=False):
        app, words = typed(*given)
        return run_command(app, *words, fails=fails)

    return run


def left_in(folder):
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_a_folder_of_everything(run, video_file, image_file, tmp_path):
    video_file("in/a.mp4", range(5))
    image_file("in/sub/b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "d.mp4").write_bytes(b"nothing")
    output = run(tmp_path / "in", tmp_path / "out", fails=True)
    assert "enhanced 6 frames" in output
    assert "2 of 4 files could not be enhanced" in output
    assert f"{tmp_path / 'in' / 'c.png'}: the image cannot be decoded" in output
    assert str(tmp_path / "in" / "d.mp4") in output
    assert left_in(tmp_path / "out") == ["a.mp4", "b.png"]
    with VideoReader(tmp_path / "out" / "a.mp4") as video:
        assert len(list(video)) == 5


def test_a_frame_that_is_no_number_is_named(run, video_file, tmp_path):
    source = video_file("dark.mp4", range(5))

    def spoiled(network, frames):
        return frames * (torch.nan if frames.mean() > 2 / 255 else 1)

    output = run(source, tmp_path / "out" / "bright.mp4", spoiled, fails=True)
    assert f"{source}, frame 3: the enhanced image holds values that are not a number" in output
    assert left_in(tmp_path / "out") == []


def test_a_name_that_is_too_long_is_one_message(run, tmp_path):
    output = run("a" * 300 + ".png", tmp_path / "out.png", fails=True)
    assert "a.png: cannot be used\n  got: File name too long" in output


def test_ctrl_c_leaves_nothing_behind(typed, video_file, tmp_path):
    source, seen = video_file("dark.mp4", range(50)), []

    def stopped(network, frames):
        seen.append(frames)
        if len(seen) == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return frames

    result = CliRunner().invoke(*typed(source, tmp_path / "out" / "bright.mp4", stopped))
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    assert 9 <= len(seen) < 50
    assert left_in(tmp_path / "out") == []


def test_a_long_clip_is_never_read_far_ahead(model, video_file, tmp_path):
    source, read, ahead = video_file("dark.mp4", range(60), 16, 16), [], []
    enhance = frame_enhancer(model())

    def counting(frames):
        return enhance(read.append(frame) or frame for frame in frames)

    jobs = (source, tmp_path / "out.mp4")
    enhance_job(counting, jobs, watch=lambda done, total: ahead.append(len(read) - done))
    # Two frames wait in front of the network and of the encoder, and one is on its way to each.
    assert max(ahead) <= 6


def test_processes_share_a_folder(run, image_file, tmp_path, monkeypatch):
    for number in range(5):
        image_file(f"in/{number}.png")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, frames in enumerate((3, 2)):
        monkeypatch.setenv("RANK", str(rank))
        assert f"enhanced {frames} frames" in run(tmp_path / "in", tmp_path / "out")
    assert left_in(tmp_path / "out") == [f"{number}.png" for number in range(5)]


@contextmanager
def mounted(folder, options):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("options", "said"), [("size=16k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_disk_that_takes_no_more(run, tmp_path, options, said):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    write_image(tmp_path / "noise.png", noise)
    with mounted(tmp_path / "disk", options) as disk:
        output = run(tmp_path / "noise.png", disk / "out.png", fails=True)
        assert str(disk / "out.png") in output
        assert said in output
        assert left_in(disk) == []
