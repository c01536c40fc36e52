"""``sci enhance`` on whatever a user may have: works, or says one clear thing and loses nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.enhance.frames import enhance_frames, enhance_job, frame_enhancer
from llve_common.io.frames import Frame
from llve_common.io.images import Image, read_image, to_pixels, to_tensor, write_image
from llve_common.io.video import VideoInfo, VideoReader, VideoWriter
from llve_common.metrics.fidelity import psnr
from llve_common.testing.reference import shared_file
from llve_common.weights.network import load_network
from llve_sci.cli import app
from llve_sci.paper import PAPER

CPU = torch.device("cpu")


def run(*command, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in command])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def make_video(path, times=None, size=(48, 64)):
    times = times or [Fraction(number, 25) for number in range(10)]
    info = VideoInfo(path, size[1], size[0], Fraction(25), Fraction(1, 12800))
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 90, (size[0], size[1] + 4 * len(times), 3), dtype=np.uint8)
    with VideoWriter(path, info, width=size[1], height=size[0]) as writer:
        for number, moment in enumerate(times):
            writer.write(texture[:, 2 * number : 2 * number + size[1]], moment)
    return path


def make_sound(path, video_of=None):
    """A file with a tone, and with the picture of another file where one is given."""
    with av.open(str(path), "w") as output:
        tone = output.add_stream("aac", rate=16000)
        tone.layout = "mono"
        for start in range(0, 8000, 1024):
            wave = np.sin(np.arange(start, start + 1024, dtype=np.float32) / 10)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(tone.encode(frame))
        output.mux(tone.encode(None))
    return path


def times_of(path):
    with VideoReader(path) as reader:
        return [frame.time for frame in reader]


def left_over(folder):
    return [file for file in Path(folder).rglob(".*") if file.is_file()]


def test_a_video_keeps_times_size_and_rate(tmp_path):
    source = make_video(tmp_path / "dark.mp4")
    assert "enhanced 10 frames" in run("enhance", source)
    target = tmp_path / "dark-enhanced.mp4"
    with VideoReader(source) as before, VideoReader(target) as after:
        assert (after.info.width, after.info.height) == (before.info.width, before.info.height)
        assert after.info.rate == before.info.rate
    assert times_of(target) == times_of(source)
    with VideoReader(source) as before, VideoReader(target) as after:
        assert next(after).pixels.mean() > next(before).pixels.mean()


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_other_containers(tmp_path, suffix):
    source = make_video(tmp_path / f"dark{suffix}")
    run("enhance", source, "-o", tmp_path / "out")
    assert len(times_of(tmp_path / "out" / f"dark{suffix}")) == 10


def test_variable_frame_rate(tmp_path):
    moments = [Fraction(n, 100) for n in (0, 4, 8, 20, 22, 50)]
    source = make_video(tmp_path / "dark.mp4", moments)
    run("enhance", source, "-o", tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == times_of(source) == moments


@pytest.mark.parametrize("size", [(47, 63), (2, 2), (1, 1)])
def test_odd_and_tiny_videos(tmp_path, size):
    source = make_video(tmp_path / "dark.mp4", size=size)
    run("enhance", source, "-o", tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.info.height, reader.info.width) == size
        assert len(list(reader)) == 10


def test_one_frame(tmp_path):
    source = make_video(tmp_path / "dark.mp4", [Fraction(0)])
    run("enhance", source, "-o", tmp_path / "out.mp4")
    assert len(times_of(tmp_path / "out.mp4")) == 1


def test_a_rotated_phone_clip_comes_out_upright(tmp_path):
    source = make_video(tmp_path / "dark.mp4")
    content = source.read_bytes()
    unit = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0" + bytes(12) + b"\x40\0\0\0"
    quarter = bytes(4) + b"\0\1\0\0" + bytes(4) + b"\xff\xff\0\0" + bytes(16) + b"\x40\0\0\0"
    place = content.index(unit, content.index(b"tkhd"))
    source.write_bytes(content[:place] + quarter + content[place + 36 :])
    run("enhance", source, "-o", tmp_path / "out.mp4")
    with VideoReader(source) as before, VideoReader(tmp_path / "out.mp4") as after:
        assert before.info.rotation in {90, 270}
        assert after.info.rotation == 0
        assert (after.info.width, after.info.height) == (48, 64)
        expected = enhanced(next(before).pixels)
        assert psnr(next(after).pixels, expected) > 30


def enhanced(pixels):
    network, _ = load_network(PAPER, None, CPU)
    return to_pixels(
        enhance_frames(PAPER, network, to_tensor(pixels)[None, None])[0, 0], "truncate"
    )


@pytest.mark.reference
def test_a_real_clip_is_the_network_applied_to_its_frames(tmp_path):
    source = shared_file("data", "video", "bikes")
    run("enhance", source, "-o", tmp_path / "out")
    frames = sorted(source.glob("*.png"))
    assert frames
    for frame in frames[::5]:
        difference = np.abs(
            enhanced(read_image(frame).pixels).astype(int)
            - read_image(tmp_path / "out" / frame.name).pixels
        )
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 1e-4 * difference.size


def test_images_of_every_kind(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 90, (9, 7, 3), dtype=np.uint8)
    deep = colour.astype(np.uint16) * 257
    grey = np.repeat(colour[..., :1], 3, axis=2)
    alpha = rng.integers(0, 255, (9, 7), dtype=np.uint8)
    images = {
        "colour.png": (colour, None), "alpha.png": (colour, alpha), "grey.bmp": (grey, None),
        "deep.png": (deep, None), "deep-alpha.png": (deep, alpha.astype(np.uint16) * 257),
        "photo.jpg": (colour, None), "pixel.png": (colour[:1, :1], None), "deep.tif": (deep, None),
        "frame.npy": (colour, None), "deep.npy": (deep, None),
    }  # fmt: skip
    for name, (pixels, transparency) in images.items():
        write_image(tmp_path / "in" / name, pixels, transparency)
    run("enhance", tmp_path / "in", "-o", tmp_path / "out")
    for name, (pixels, transparency) in images.items():
        result = read_image(tmp_path / "out" / name)
        assert result.pixels.dtype == pixels.dtype
        assert result.pixels.shape == pixels.shape
        if transparency is not None:
            np.testing.assert_array_equal(result.alpha, transparency)


def test_npy_frames_are_bgr(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 200
    np.save(tmp_path / "frame.npy", red)
    assert (read_image(tmp_path / "frame.npy").pixels == [200, 0, 0]).all()
    write_image(tmp_path / "back.npy", read_image(tmp_path / "frame.npy").pixels)
    np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), red)


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 4, 3), np.nan, np.float32),
        np.zeros((4, 4), np.uint8),
        np.array([{"a": 1}], dtype=object),
    ],
    ids=["not a number", "wrong shape", "pickled"],
)
def test_npy_of_another_kind_is_refused(tmp_path, array):
    np.save(tmp_path / "frame.npy", array, allow_pickle=True)
    output = run("enhance", tmp_path / "frame.npy", "-o", tmp_path / "out.npy", fails=True)
    assert f"{tmp_path / 'frame.npy'}: the image cannot be decoded" in output
    assert not (tmp_path / "out.npy").exists()


def test_weights_that_give_no_number_are_named_with_the_image(tmp_path):
    from llve_common.weights.files import read_weights, write_weights
    from llve_common.weights.network import bundled_weights

    state = read_weights(bundled_weights(PAPER))
    state["enhance.out_conv.0.bias"] = torch.full((3,), torch.nan)
    write_weights(tmp_path / "bad.safetensors", state)
    source = make_video(tmp_path / "dark.mp4")
    output = run("enhance", source, "--weights", tmp_path / "bad.safetensors", fails=True)
    assert f"{source}, frame 0: the enhanced image holds values that are not a number" in output
    assert not (tmp_path / "dark-enhanced.mp4").exists()
    assert left_over(tmp_path) == []


def test_a_video_cut_in_the_middle_leaves_the_target_as_it_was(tmp_path):
    source = make_video(tmp_path / "dark.mkv", [Fraction(n, 25) for n in range(60)])
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    target = tmp_path / "out.mkv"
    target.write_bytes(b"what was there before")
    output = run("enhance", source, "-o", target, fails=True)
    assert f"{source}" in output
    assert output.count("error:") == 1
    assert target.read_bytes() == b"what was there before"
    assert left_over(tmp_path) == []


def test_files_that_are_no_picture(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    sound = make_sound(tmp_path / "sound.mp4")
    for source in (tmp_path / "text.mp4", sound, tmp_path / "nothing.mp4", tmp_path / "a.doc"):
        if source.suffix == ".doc":
            source.write_text("hello")
        output = run("enhance", source, "-o", tmp_path / "out.mp4", fails=True)
        assert str(source) in output
        assert output.count("error:") == 1
    assert not (tmp_path / "out.mp4").exists()
    assert left_over(tmp_path) == []


def test_a_folder_with_one_broken_file_of_each_kind(tmp_path):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4")
    write_image(tmp_path / "in" / "sub" / "b.png", np.zeros((5, 5, 3), np.uint8))
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "d.mp4").write_bytes(b"nothing")
    output = run("enhance", tmp_path / "in", "-o", tmp_path / "out", fails=True)
    assert "2 of 4 files could not be enhanced" in output
    assert f"{tmp_path / 'in' / 'c.png'}: the image cannot be decoded" in output
    assert str(tmp_path / "in" / "d.mp4") in output
    assert (tmp_path / "out" / "sub" / "b.png").is_file()
    assert len(times_of(tmp_path / "out" / "a.mp4")) == 10


def test_names_that_would_lose_something(tmp_path):
    source = make_video(tmp_path / "in.mp4")
    before = source.read_bytes()
    assert "over its source" in run("enhance", source, "-o", source, fails=True)
    output = run("enhance", source, "-o", tmp_path / "out.avi", fails=True)
    assert ".avi" in output
    assert ".mp4" in output
    (tmp_path / "file").write_text("mine")
    run("enhance", source, "-o", tmp_path / "file" / "out.mp4", fails=True)
    assert source.read_bytes() == before
    assert (tmp_path / "file").read_text() == "mine"
    assert left_over(tmp_path) == []


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


def test_a_full_disk(tmp_path):
    source = make_video(tmp_path / "dark.mp4", [Fraction(n, 25) for n in range(60)], (128, 160))
    picture = tmp_path / "noise.png"
    write_image(picture, np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    with mounted(tmp_path / "small", "size=16k") as small:
        for origin, name in ((source, "out.mp4"), (picture, "out.png")):
            output = run("enhance", origin, "-o", small / name, fails=True)
            assert str(small / name) in output
            assert "No space left" in output
            assert list(small.iterdir()) == []


def test_a_folder_that_may_not_be_written(tmp_path):
    source = make_video(tmp_path / "dark.mp4")
    with mounted(tmp_path / "fixed", "ro") as fixed:
        output = run("enhance", source, "-o", fixed / "out.mp4", fails=True)
        assert "Read-only file system" in output
        assert str(fixed) in output


def test_memory_does_not_grow_with_the_clip():
    network, _ = load_network(PAPER, None, CPU)
    enhance = frame_enhancer(PAPER, network, CPU)

    def most_alive(count):
        made = 0

        def frames():
            nonlocal made
            for number in range(count):
                made += 1
                yield Frame(Image(np.zeros((8, 8, 3), np.uint8)), f"{number}", number)

        return max(made - done for done, _ in enumerate(enhance(frames()), 1))

    assert most_alive(30) == most_alive(600)


def test_a_long_clip_is_never_read_far_ahead(tmp_path):
    source = make_video(tmp_path / "dark.mp4", [Fraction(n, 25) for n in range(60)], (16, 16))
    read = 0
    ahead = []

    def counting(frames):
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    jobs = (source, tmp_path / "out.mp4")
    enhance_job(counting, jobs, watch=lambda done, total: ahead.append(read - done))
    # Two frames wait in front of the encoder, and one is on its way.
    assert max(ahead) <= 4


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    source = make_video(tmp_path / "dark.mp4", [Fraction(n, 25) for n in range(900)], (96, 128))
    command = [sys.executable, "-m", "llve_sci", "enhance", source, "-o", tmp_path / "out.mp4"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Jobs in the background of a script are started with Ctrl-C ignored, and pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started = time.monotonic()
    while not left_over(tmp_path) and time.monotonic() - started < 60:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dark.mp4"]


@pytest.mark.multiprocess
def test_processes_share_a_folder(tmp_path):
    for number in range(5):
        image = np.full((6, 6, 3), 10 * number, np.uint8)
        write_image(tmp_path / "in" / f"{number}.png", image)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--standalone", "-m", "llve_sci", "enhance", tmp_path / "in", "-o"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, tmp_path / "out"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        f"{number}.png" for number in range(5)
    ]
    assert "enhanced 3 frames" in done.stdout
    assert "enhanced 2 frames" in done.stdout
