"""A training set of a folder of photographs."""

import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from llve_common.clips.clip import read_frame
from llve_common.data.photographs import write_photograph_set
from llve_common.data.scenes import moving_clip
from llve_common.data.sdsd.layout import clips_to_test, clips_to_train, set_clips
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.data.sensor import NEUTRAL
from llve_common.data.synthetic import read_photograph
from llve_common.errors import DataError
from llve_common.io.images import write_image

NAMES = ("coffee", "chelsea", "rocket", "astronaut")
OPTIONS = {
    "layout": "clips", "clips": 2, "frames": 5, "size": (32, 48), "ranges": NEUTRAL, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for name in NAMES:
        write_image(folder / "some" / f"{name}.png", read_photograph(name))
    return folder


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "set"
    write_photograph_set(photographs, out, **OPTIONS)
    return out


def pixels(root):
    files = sorted(path for path in root.rglob("*") if path.suffix in {".npy", ".png"})
    return {path.relative_to(root).as_posix(): read_frame(path) for path in files}


def test_the_set_is_read_as_sdsd_and_holds_out_whole_photographs(made):
    clips = set_clips(made)
    train, test = clips_to_train(clips, SDSD_INDOOR_TEST), clips_to_test(clips, SDSD_INDOOR_TEST, 9)
    record = json.loads((made / "synthetic.json").read_text())
    used = [
        {record[clip.name]["photograph"].rsplit("-", 1)[0] for clip in each}
        for each in (train, test)
    ]
    assert [len(train), len(test)] == [6, 1]
    assert not used[0] & used[1]
    assert used[0] | used[1] == {f"some-{name}" for name in NAMES}
    for split, each in (("train", train), ("test", test)):
        listed = (made / f"{split}_list.txt").read_text().split()
        assert sorted(listed) == [clip.name for clip in each]
    for clip in clips:
        low, normal = ([read_frame(file) for file in side] for side in (clip.frames, clip.targets))
        assert np.shape(low) == np.shape(normal) == (5, 32, 48, 3)
        assert np.mean(low) < 0.26 * 255 < np.mean(normal)
        assert abs(np.diff(np.array(normal, float), axis=0)).mean() > 0.2, "something moves"


def test_every_pixel_follows_from_photographs_and_seed_alone(photographs, made, tmp_path):
    first = pixels(made)
    for seed, workers, same in ((0, 2, True), (1, 1, False)):
        options = OPTIONS | {"seed": seed, "workers": workers}
        write_photograph_set(photographs, tmp_path / str(seed), **options)
        again = pixels(tmp_path / str(seed))
        assert again.keys() == first.keys()
        assert all(np.array_equal(again[name], first[name]) for name in first) == same


def test_images_for_papers_that_take_folders_of_them(photographs, tmp_path):
    options = OPTIONS | {"layout": "images", "frames": 1, "clips": 1}
    some = shutil.copytree(photographs, tmp_path / "photographs") / "some"
    (some / "rocket.png").rename(some / os.fsdecode(b"\xff.png"))
    write_photograph_set(some, tmp_path / "set", **options)
    files = list(pixels(tmp_path / "set"))
    assert len([file for file in files if file.startswith("train/low")]) == 3
    assert [file.replace("low", "high") for file in files if "/low/" in file] == [
        file for file in files if "/high/" in file
    ]


def test_what_is_no_photograph_is_left_out_and_named(photographs, tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    write_image(tmp_path / "tiny.png", np.zeros((4, 4, 3), np.uint8))
    write_image(tmp_path / "one.png", read_photograph("coffee"))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(DataError, match="too few photographs") as caught,
    ):
        write_photograph_set(tmp_path, tmp_path / "set", **OPTIONS)
    assert caught.value.got == 1
    assert "broken.png" in caplog.text
    assert "tiny.png" in caplog.text
    assert not (tmp_path / "set").exists()


def test_a_clip_moves_smoothly_and_is_exposed_as_a_camera_does():
    pictures = [read_photograph(name) for name in NAMES[:3]]
    for seed in range(3):
        clip = moving_clip(pictures, 6, (64, 96), random.Random(seed))
        assert 0.3 < np.mean(clip[0]) / 255 < 0.5
        likeness = [
            structural_similarity(*pair, channel_axis=2, win_size=7) for pair in pairwise(clip)
        ]
        assert all(0.2 < each < 0.99999 for each in likeness), "it moves, without a cut"
    dark = [picture // 8 for picture in pictures]
    assert np.mean(moving_clip(dark, 1, (64, 96), random.Random(0))[0]) < 0.3 * 255, "not by force"
    kept = moving_clip(dark, 1, (64, 96), random.Random(0), kept=1.0)[0]
    assert np.mean(kept) < 2 * np.mean(dark[0])


WRITES_AND_RENDERS = """
import os, time
from llve_common.data.photographs import _settle
if os.fork() == 0:
    _settle()
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end them")
def test_processes_that_render_die_with_the_one_that_writes():
    # A process of its own: one that is forked off this one may wait for a lock of its threads.
    words = [sys.executable, "-c", WRITES_AND_RENDERS]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
        renderer = Path("/proc", writer.stdout.readline().strip(), "stat")
        writer.kill()
        writer.wait()
        deadline = time.monotonic() + 20
        while renderer.exists() and renderer.read_text().split()[2] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.05)
