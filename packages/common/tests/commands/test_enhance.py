"""``enhance`` of any paper: whatever comes between, it says one clear thing and loses nothing."""

import os
import re
import signal
import subprocess
import wave
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import PIL.Image
import pytest
import torch
from clips import make_clip, video_packets
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.commands.paper import paper_app
from llve_common.enhance.files import enhance_job
from llve_common.enhance.frames import frame_enhancer
from llve_common.io.images import read_image, write_image
from llve_common.paper.recommended import Recommended
from llve_common.testing.conformance import files_below, run_command
from llve_common.video import VideoReader


@pytest.fixture
def typed(paper, weights):
    """The app of a paper whose network does nothing, unless another one is given, and words."""

    def make(source, target=None, enhance=lambda network, frames: frames, more=()):
        words = ("enhance", source, *(("-o", target) if target else ()), *more)
        words = (*words, "--weights", weights, "--device", "cpu")
        return paper_app(paper(enhance=enhance)), [str(word) for word in words]

    return make


@pytest.fixture
def run(typed):
    def run(*given, fails=False, **more):
        program, words = typed(*given, **more)
        return run_command(program, *words, fails=fails)

    return run


def left_in(folder):
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_a_folder_of_everything(run, video_file, image_file, tmp_path):
    """What cannot be read is named, what cannot be enhanced for whatever reason too."""
    video_file("in/a.mp4", range(5))
    image_file("in/sub/b.png")
    image_file("in/large.png", 16, 16)
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "d.mp4").write_bytes(b"nothing")
    np.save(tmp_path / "in" / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("empty.npy", "notes.txt", ".hidden.png", ".hidden/e.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()

    def limited(network, frames):
        if frames.shape[-1] == 16:
            raise MemoryError
        return frames

    output = run(tmp_path / "in", tmp_path / "out", limited, fails=True)
    assert "enhanced 6 frames" in output
    assert "5 of 7 files could not be enhanced" in output
    assert f"{tmp_path / 'in' / 'c.png'}: the image cannot be decoded" in output
    assert f"{tmp_path / 'in' / 'large.png'}: could not be enhanced: MemoryError" in output
    for name in ("d.mp4", "empty.npy", "objects.npy"):
        assert str(tmp_path / "in" / name) in output
    assert "left out, neither images nor videos: .hidden; .hidden.png; notes.txt" in output
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


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_nothing_behind(typed, video_file, tmp_path, number, code):
    source, seen, handler = video_file("dark.mp4", range(50)), [], signal.getsignal(number)

    def stopped(network, frames):
        seen.append(frames)
        if len(seen) == 9:
            os.kill(os.getpid(), number)
        return frames

    result = CliRunner().invoke(*typed(source, tmp_path / "out" / "bright.mp4", stopped))
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert "interrupted; a video begun with --resume could go on from here" in result.output
    assert 9 <= len(seen) < 50
    assert left_in(tmp_path / "out") == []
    assert signal.getsignal(number) == handler


def test_an_interrupted_video_goes_on_by_the_same_line(
    typed, run, video_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("llve_common.enhance.parts.SECONDS", Fraction(2, 25))
    source, seen = video_file("dark.mp4", [20 * number for number in range(12)]), []

    def stopped(network, frames):
        seen.append(frames)
        if len(seen) == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return frames

    words = {"target": tmp_path / "bright.mp4", "more": ["--resume"]}
    result = CliRunner().invoke(*typed(source, enhance=stopped, **words))
    assert "interrupted; the same command goes on, by its --resume" in result.output
    output = run(source, **words)
    assert re.search(r"bright\.mp4: goes on after the \d+ frames that are there", output)
    assert times_of(tmp_path / "bright.mp4") == times_of(source)
    assert len(list(tmp_path.iterdir())) == 3


def test_an_interrupted_batch_goes_on_by_the_same_line(typed, run, video_file, tmp_path):
    sources, seen = [video_file(f"{name}.mp4", range(5)) for name in "ab"], []

    def stopped(network, frames):
        seen.append(frames)
        if len(seen) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return frames

    words = {"target": tmp_path / "out", "more": [sources[1], "--resume"]}
    assert CliRunner().invoke(*typed(sources[0], enhance=stopped, **words)).exit_code == 130
    first = (tmp_path / "out" / "a.mp4").stat().st_mtime_ns
    output = run(sources[0], **words)
    assert "left as they are, since they were there: 1" in output
    assert (tmp_path / "out" / "a.mp4").stat().st_mtime_ns == first
    assert left_in(tmp_path / "out") == ["a.mp4", "b.mp4"]


def times_of(file):
    with VideoReader(file) as video:
        return [float(frame.time) for frame in video]


def test_what_the_output_says_is_done(run, video_file, image_file, picture, tmp_path):
    """Frames to a video, a video to frames, an image to another kind of image."""
    for number in (1, 2, 10):
        write_image(tmp_path / f"in/{number}.png", np.full((8, 8, 3), 20 * number, np.uint8))
    run(tmp_path / "in", tmp_path / "joined.mkv", more=["--fps", "10"])
    assert times_of(tmp_path / "joined.mkv") == [0, 0.1, 0.2]
    run(tmp_path / "joined.mkv", tmp_path / "parted")
    frames = [f"{number:05d}.png" for number in range(3)]
    assert left_in(tmp_path / "parted") == frames
    means = [read_image(tmp_path / "parted" / name).pixels.mean() for name in frames]
    assert means == pytest.approx([20, 40, 200], abs=2)
    image = image_file("a.png")
    run(image, tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").pixels, read_image(image).pixels)


def test_sound_is_taken_from_another_file(run, image_file, video_file, tmp_path):
    sound, target = tmp_path / "sound.wav", tmp_path / "out.mkv"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    image_file("in/0.png"), image_file("in/1.png")
    run(tmp_path / "in", target, more=["--sound", sound])
    with av.open(str(target)) as video:
        [heard] = video.streams.audio
        assert sum(packet.size for packet in video.demux(heard)) == 16_000
    late = make_clip(tmp_path / "late.ts", ticks=range(25), muxer={"output_ts_offset": "100"})
    run(late, target, more=["--sound", sound])
    with av.open(str(target)) as video:
        assert sum(packet.size for packet in video.demux(audio=0)) == 16_000
    silent = video_file("silent.mp4", range(2))
    said = run(tmp_path / "in", target, more=["--sound", silent], fails=True)
    assert "silent.mp4: the file has no sound" in said


@pytest.mark.parametrize(
    ("sources", "more", "said"),
    [
        (["notes.txt"], [], "notes.txt: neither an image nor a video by its name"),
        (["pipe.png"], [], "pipe.png: neither a file nor a folder"),
        (["empty.png"], ["-o", "b.png"], "empty.png: the image cannot be decoded"),
        (["half.mkv"], ["-o", "a.mp4"], "half.mkv: the video is damaged"),
        (["text.mp4"], ["-o", "a.mp4"], "text.mp4: not a video that ffmpeg can open"),
        (["a.png"], ["-o", "a.png"], "the result would be written over its source"),
        (["a.png"], ["-o", "x.zip"], "x.zip: files of this kind cannot be written"),
        (["frames"], ["-o", "x.gif"], "x.gif: files of this kind cannot be written"),
        (["frames"], ["-o", "x.png"], "x.png: frames cannot become an image"),
        (["a.mp4"], ["-o", "x.png"], "x.png: frames cannot become an image"),
        (["a.png"], ["-o", "x.mp4"], "x.mp4: an image cannot become a video"),
        (["a.png", "b.png"], ["-o", "x.mp4"], "x.mp4: several results cannot be written to one"),
        (["."], ["-o", "x.mp4"], "x.mp4: several results cannot be written to one file"),
        (["deep.png"], ["-o", "x.jpg"], "x.jpg: files of this kind cannot hold"),
        (["a.png"], ["-o", "a.mp4/x.png"], "x.png: cannot be written"),
        (["a.png"], ["--fps", "3"], "--fps: this is for videos, and there is none"),
        (["a.png"], ["--preview", "3"], "--preview: this is for videos, and there is none"),
        (["a.mp4"], ["-o", "x.mp4", "--fps", "3"], "the video has times of its own"),
        (["frames"], ["-o", "x.mp4", "--fps", "1/0"], "--fps: not a frame rate"),
        (["frames"], ["-o", "x.mp4", "--sound", "no.wav"], "no.wav: no such file"),
        (["a.png"], ["--crf", "20"], "--crf: this is for videos, and there is none"),
        (["a.mp4"], ["--crf", "52"], "crf: no such quality"),
        (["a.mp4"], ["--codec", "h266"], "codec: no such video codec"),
        (["a.png"], ["--start", "1"], "--start: this is for videos, and there is none"),
        (["a.mp4"], ["--end", "inf"], "--end: not a time"),
        (["-"], ["--raw", "8x8@25", "-o", "x.mp4", "--end", "1"], "--end: this is for videos"),
        (["twins"], ["-o", "out"], "a.png: two inputs would be written to the same file"),
        (["a.png"], ["--suffix", "/../b"], "--suffix: not the end of a name"),
        (["a.png"], ["--suffix", ""], "the result would be written over its source"),
        (["a.png", "b.png"], [], "b.png: this is there already: is it the output"),
        ([""], [], "a name is empty"),
        (["frames"], ["--raw", "8x8@25"], "raw frames come by a pipe"),
        (["-"], ["--raw", "8@25"], "--raw: not a form of raw frames"),
        (["-", "a.png"], ["-o", "-"], "say where the results of several sources go"),
        (["-"], [], "standard input: no image that is known by its first bytes"),
    ],
)
def test_what_cannot_be_is_refused(
    paper, weights, video_file, image_file, tmp_path, monkeypatch, sources, more, said
):
    for name in ("a.png", "b.png", "frames/0.png", "frames/1.png"):
        image_file(name)
    image_file("deep.png", dtype=np.uint16)
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("a.bmp", "a.png"):
        image_file(f"twins/{name}").rename(tmp_path / "twins" / name.replace("bmp", "gif"))
    for name, content in {"notes.txt": b"neither", "empty.png": b"", "text.mp4": b"text"}.items():
        (tmp_path / name).write_bytes(content)
    whole = video_file("half.mkv", range(3)).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    video_file("a.mp4", range(3))
    before = files_below(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["enhance", *sources, *more, "--weights", weights]
    kind = "video" if sources == ["twins"] else "image"
    assert said in run_command(paper_app(paper(kind=kind)), *words, fails=True)
    assert files_below(tmp_path) == before


def test_results_are_replaced_when_it_is_said(run, image_file, tmp_path):
    """A file that is named is; of others that are there, all are told of at first."""
    a, b, out = image_file("a.png"), image_file("b.png", seed=1), tmp_path / "out"
    run(a, tmp_path / "named.png")
    run(b, tmp_path / "named.png")
    assert (tmp_path / "named.png").read_bytes() == b.read_bytes()
    run(a, out)
    (out / "a.png").write_bytes(b"from before")
    several = [b, "-o", out]
    assert "out/a.png\n" in run(a, more=several, fails=True)
    assert left_in(out) == ["a.png"]
    assert "there: 1" in run(a, more=[*several, "--skip-existing"])
    assert (out / "a.png").read_bytes() == b"from before"
    assert (out / "b.png").read_bytes() == b.read_bytes()
    run(a, more=[*several, "--overwrite"])
    assert (out / "a.png").read_bytes() == a.read_bytes()
    run(a, more=[b, "--suffix", "_new", "-o", out])
    assert left_in(out) == ["a.png", "a_new.png", "b.png", "b_new.png"]
    run(a, more=[tmp_path / "last.png"])
    assert (tmp_path / "last.png").is_file()


@pytest.mark.parametrize(("more", "count"), [
    ([], 45), (["--start", "0.2", "--end", "0.6"], 10), (["--preview", "2"], 25)
])  # fmt: skip
def test_frames_of_a_video_are_whole_or_not(run, tmp_path, more, count):
    """However many they are, which a file with longer sound does not say, and however named."""
    source = make_clip(tmp_path / "a.mkv", ticks=range(45), audio=("aac",), seconds=3)
    out, skip = tmp_path / "out", [*more, "--skip-existing"]
    write_image(out / "00001.png", np.zeros((8, 8, 3), np.uint8))
    for words in (more, skip):
        assert "out/00001.png" in run(source, out, more=words, fails=True)
    assert f"enhanced {count} frames" in run(source, out, more=[*more, "--overwrite"])
    assert "there: 1" in run(source, out, more=skip)
    (out / f"{count - 1:05d}.png").unlink()
    assert f"enhanced {count} frames" in run(source, out, more=skip)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_frames_of_a_video_that_breaks_off_are_never_all(run, tmp_path, name):
    faststart = {"movflags": "+faststart"} if name == "a.mp4" else {}
    source = make_clip(tmp_path / name, options={"bf": "0"}, muxer=faststart)
    source.write_bytes(source.read_bytes()[: video_packets(source)[-1][0]])
    for more in ([], ["--skip-existing"]):
        assert "the file breaks off" in run(source, tmp_path / "out", more=more, fails=True)


def test_an_output_within_its_folder_is_no_source(run, image_file, tmp_path, monkeypatch):
    image_file("in/a.png")
    monkeypatch.chdir(tmp_path / "in")
    run("./", "out")
    run(".", "out", more=["--overwrite"])
    assert left_in(tmp_path / "in" / "out") == ["a.png"]
    image_file("b/b.png"), image_file("c/c.png")
    for _ in range(2):
        run("../b", "../c/out", more=["../c", "--overwrite"])
    assert left_in(tmp_path / "c") == ["b.png", "c.png", "c.png"]


def test_an_ending_of_frames_in_the_folder_of_work(
    paper, weights, image_file, tmp_path, monkeypatch
):
    image_file("b/b.png")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    words = ["enhance", "../b", "-o", ".", "--suffix", "_x", "--weights", weights]
    run_command(paper_app(paper(kind="video")), *words)
    assert left_in(tmp_path / "in_x") == ["b.png"]


def test_strength_mixes_with_the_input(run, picture, tmp_path):
    for dtype in (np.uint8, np.uint16):
        pixels = picture(dtype=dtype)
        write_image(tmp_path / "a.png", pixels)
        black = lambda network, frames: 0 * frames  # noqa: E731
        for strength in (0, 0.25, 1):
            run(tmp_path / "a.png", tmp_path / "b.png", black, ["--strength", strength])
            found = read_image(tmp_path / "b.png").pixels
            np.testing.assert_array_equal(found, np.rint((1 - strength) * pixels.astype(float)))


def test_a_part_of_a_video_is_read_and_written_without_loss(run, video_file, tmp_path):
    source, target = video_file("dark.mp4", range(0, 200, 4)), tmp_path / "out.mkv"
    part = ["--start", "0.4", "--end", "0.8", "--codec", "ffv1", "--strength", "0"]
    run(source, target, more=part)
    with VideoReader(source) as before, VideoReader(target) as after:
        frames = [frame.pixels for frame in before][10:20]
        np.testing.assert_array_equal([frame.pixels for frame in after], frames)


def test_damage_is_passed_over_when_it_is_said(run, video_file, tmp_path):
    source = video_file("dark.mkv", range(0, 200, 2), 16, 16)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    run(source, tmp_path / "out.mkv", fails=True)
    run(source, tmp_path / "out.mkv", more=["--keep-going"])
    assert len(times_of(tmp_path / "out.mkv")) > 1


def test_tags_are_left_out_when_it_is_said(run, tmp_path):
    tags = PIL.Image.Exif()
    tags[0x010F] = "a maker"
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=tags)
    for more, there in (([], True), (["--strip"], False)):
        run(tmp_path / "a.jpg", tmp_path / "b.jpg", more=more)
        with PIL.Image.open(tmp_path / "b.jpg") as image:
            assert (0x010F in image.getexif()) is there


def test_a_preview_shows_one_second_in_so_many(run, video_file, tmp_path):
    source = video_file("dark.mp4", [*range(25)] * 5, 16, 16)
    run(source, tmp_path / "out.mp4", more=["--preview", "2"])
    assert times_of(tmp_path / "out.mp4") == pytest.approx([n / 25 for n in range(75)])


def test_pipes(typed, image_file, tmp_path):
    """An image, and raw frames, which are all there or an error."""

    def piped(data, *words, **more):
        return CliRunner().invoke(*typed("-", more=words, **more), input=data)

    source = image_file("a.png", dtype=np.uint16).read_bytes()
    result = piped(source)
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == source
    assert "enhanced 1 frame" in result.stderr
    assert piped(source, "-o", tmp_path / "b.png").exit_code == 0
    assert (tmp_path / "b.png").read_bytes() == source
    raw, form = np.random.default_rng(0).bytes(4 * 6 * 3 * 5), ["--raw", "6x4@10"]
    assert piped(raw, *form).stdout_bytes == raw
    assert piped(raw, *form, "-o", tmp_path / "c.mp4").exit_code == 0
    assert times_of(tmp_path / "c.mp4") == pytest.approx([n / 10 for n in range(5)])
    exact = ["--raw", "6x4@29.97002997", "-o", tmp_path / "d.mp4"]
    assert piped(raw, *exact).exit_code == 0
    assert times_of(tmp_path / "d.mp4") == pytest.approx([n * 1001 / 30000 for n in range(5)])
    frames = [*form, "-o", tmp_path / "frames"]
    (tmp_path / "frames").mkdir()
    assert piped(raw, *frames).exit_code == 0
    assert left_in(tmp_path / "frames") == [f"{n:05d}.png" for n in range(5)]
    assert "results are there already" in piped(raw, *frames).output
    assert "enhanced 5 frames" in piped(raw, *frames, "--skip-existing").output
    broken = piped(raw[:-1], *form)
    assert (broken.exit_code, broken.stdout_bytes) == (1, raw[: 4 * 72])
    assert "frame 4: the raw frames end within a frame" in broken.stderr


def test_every_program_says_its_version(paper):
    assert run_command(paper_app(paper()), "--version").startswith("tiny 0.")
    assert run_command(app, "--version").startswith("llve-common 0.")
    for words in (["-h"], ["enhance", "-h"], ["compare", "-h"]):
        assert "Usage" in run_command(app, *words)


def test_llve_takes_the_paper_that_its_table_recommends(
    paper, weights, image_file, video_file, tmp_path, monkeypatch
):
    tiny = SimpleNamespace(name="tiny", load=paper)
    monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: [tiny])
    image, video = image_file("a.png"), video_file("a.mp4", range(3))
    words = ["enhance", "--weights", weights, "-o", tmp_path / "out"]
    refused = run_command(app, *words, image, fails=True)
    assert "no paper that is recommended for images is installed" in refused
    table = {"image": [Recommended("other", 20, 0.7), Recommended("tiny", 12.3, 0.5)], "video": []}
    monkeypatch.setattr("llve_common.paper.recommended.TABLE", table)
    assert "tiny is recommended for images" in run_command(app, *words, image)
    assert "tiny 0.500, 12.30 dB" in run_command(app, *words, image, "--overwrite")
    assert "for videos is installed" in run_command(app, *words, video, fails=True)


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
