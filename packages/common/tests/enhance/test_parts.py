"""A video that was interrupted goes on: the parts are joined to what an unbroken run gives."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import frames_of, make_clip, noise, sound_packets

from llve_common.enhance.files import enhance_all
from llve_common.enhance.frames import ready
from llve_common.enhance.jobs import Wishes, folder_of, jobs_to_do, plan_jobs
from llve_common.enhance.parts import parts_in
from llve_common.errors import ConfigError
from llve_common.paper.contract import LoadedWeights
from llve_common.video.writer import PART

IN_PARTS = Wishes(resume=True)
TIMES = [0, 900, 2000, 3000, 4100, 9990, 10000, 11000, 19999, 25000, 36000, 36500, 37000, 41000]
HERE = Path(__file__).parents[1]

KILLED = """
import os, signal, sys
from pathlib import Path
from conftest import make_paper
from llve_common.enhance.files import enhance_all
from llve_common.enhance.frames import ready
from llve_common.enhance.jobs import Wishes
from llve_common.paper.contract import Model
from torch import nn

def watch(done, total):
    if done == 10:
        os.kill(os.getpid(), signal.SIGKILL)

job = tuple(map(Path, sys.argv[1:]))
model = Model(make_paper(), nn.Identity())
enhance_all(ready(model), [job], wishes=Wishes(resume=True), watch=watch)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """One of uneven times, with sound, whose parts have 6, 3, 1, 3 and 1 frames."""
    path = tmp_path_factory.mktemp("clip") / "a.mkv"
    ticks = {"ticks": TIMES, "time_base": Fraction(1, 1000)}
    return make_clip(path, **ticks, draw=noise, audio=("aac",), seconds=42)


def times_of(path):
    with av.open(path) as container:
        return sorted(p.pts * p.time_base for p in container.demux(video=0) if p.size)


class Stop(BaseException):
    pass


def stopped(model, source, target, at, wishes=IN_PARTS):
    def watch(done, total):
        if done == at:
            raise Stop

    with pytest.raises(Stop):
        enhance_all(ready(model), [(source, target)], wishes=wishes, watch=watch)


def killed(model, source, target, at, wishes):
    del model, at, wishes
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{KILLED}"]
    result = subprocess.run([*words, source, target], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize(("name", "codec", "end"), [
    ("a.mp4", "h264", killed), ("a.mov", "h265", stopped), ("a.mkv", "h264", stopped),
    ("b.mkv", "ffv1", stopped),
])  # fmt: skip
def test_interrupted_run_goes_on_and_gives_what_an_unbroken_one_does(
    model, clip, tmp_path, caplog, name, codec, end
):
    wishes = replace(IN_PARTS, codec=codec)
    whole, broken = tmp_path / f"whole-{name}", tmp_path / name
    end(model(), clip, broken, 10, wishes)
    assert not broken.exists()
    assert len(parts_in(folder_of(broken))) == 2
    result = enhance_all(ready(model()), [(clip, broken)], wishes=wishes)
    assert result.failures == ()
    assert result.frames == len(TIMES) - 9
    assert "goes on after the 9 frames that are there" in caplog.text
    assert enhance_all(ready(model()), [(clip, whole)], wishes=wishes).frames == len(TIMES)
    assert sorted(tmp_path.iterdir()) == sorted([whole, broken])
    for one, other, source in zip(*map(frames_of, (broken, whole, clip)), strict=True):
        assert one.time == other.time == source.time
        np.testing.assert_array_equal(one.pixels, other.pixels)
        if codec == "ffv1":
            np.testing.assert_array_equal(one.pixels, source.pixels)
    assert times_of(broken) == times_of(whole)
    sounds = [[data for _, data in sound_packets(path)[0]] for path in (broken, whole, clip)]
    assert sounds[0] == sounds[1]
    assert sounds[0][1:] == sounds[2][-len(sounds[0]) + 1 :]


def test_a_run_that_ends_while_it_removes_its_parts_goes_on(model, clip, tmp_path, monkeypatch):
    unlink, parts = Path.unlink, []

    def stop(path, **more):
        if path.suffix == PART and path.exists():  # no temporary file that has been moved
            parts.append(path)
        if len(parts) == 2:
            raise Stop
        unlink(path, **more)

    target = tmp_path / "a.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(Stop):
            enhance_all(ready(model()), [(clip, target)], wishes=IN_PARTS)
    jobs = [(clip, target)]
    assert jobs_to_do(jobs, None, IN_PARTS, overwrite=False, skip_existing=True) == jobs
    assert enhance_all(ready(model()), jobs, wishes=IN_PARTS).failures == ()
    assert not jobs_to_do(jobs, None, IN_PARTS, overwrite=False, skip_existing=True)
    assert times_of(target) == times_of(clip)
    assert list(tmp_path.iterdir()) == [target]


def test_a_finished_video_is_left_as_it_is_and_an_empty_one_is_not(clip, tmp_path):
    target = tmp_path / "a.mp4"
    folder_of(target).mkdir()
    (folder_of(target) / ".DS_Store").touch()
    for content, left in ((b"whole", []), (b"", [(clip, target)])):
        target.write_bytes(content)
        jobs = [(clip, target)]
        assert jobs_to_do(jobs, None, IN_PARTS, overwrite=False, skip_existing=True) == left


def test_what_becomes_of_the_sound_is_said_once(model, tmp_path, caplog):
    source = make_clip(tmp_path / "a.mkv", ticks=range(9), audio=("pcm_u8",), seconds=1)
    jobs = [(source, tmp_path / "a.mp4")]
    assert enhance_all(ready(model()), jobs, wishes=IN_PARTS).failures == ()
    assert caplog.text.count("encoded anew as AAC") == 1


def test_parts_are_on_the_disk_before_they_get_their_names(model, clip, tmp_path, monkeypatch):
    sync, replace_, synced = os.fsync, Path.replace, set()
    monkeypatch.setattr(
        os, "fsync", lambda file: sync(file) or synced.add(os.fstat(file.fileno()).st_ino)
    )

    def moved(path, target):
        assert path.suffix == ".json" or path.stat().st_ino in synced
        return replace_(path, target)

    monkeypatch.setattr(Path, "replace", moved)
    jobs = [(clip, tmp_path / "a.mkv")]
    assert enhance_all(ready(model()), jobs, wishes=IN_PARTS).failures == ()


def test_folder_of_frames_goes_on_with_the_next_one(model, image_file, tmp_path):
    """If it is the same or a copy, which other frames of the same size are not."""
    for number in range(5):
        image_file(f"in/{number}.npy")
    wishes, jobs = replace(IN_PARTS, rate=Fraction(1, 4)), [(tmp_path / "in", tmp_path / "a.mp4")]
    stopped(model(), *jobs[0], 4, wishes)
    image_file("in/2.npy", seed=1)
    [failure] = enhance_all(ready(model()), jobs, wishes=wishes).failures
    assert "got: source " in failure
    image_file("in/2.npy")
    result = enhance_all(ready(model()), jobs, wishes=wishes)
    assert (result.frames, result.failures) == (2, ())
    assert times_of(tmp_path / "a.mp4") == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("changed", ["source", "weights", "--crf", "--strength"])
def test_what_changed_is_named(model, clip, tmp_path, changed):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mp4"
    source.write_bytes(clip.read_bytes())
    stopped(model(), source, target, 7)
    other = {"--crf": {"crf": 30}, "--strength": {"strength": 0.5}}.get(changed, {})
    if changed == "source":
        source.write_bytes(clip.read_bytes() + b"\0")
    weights = LoadedWeights(tmp_path, "0" * 64, bundled=False) if changed == "weights" else None
    chosen = replace(model(), weights=weights)
    [failure] = enhance_all(
        ready(chosen), [(source, target)], wishes=replace(IN_PARTS, **other)
    ).failures
    assert "the parts that are there were made otherwise" in failure
    assert f"got: {changed} " in failure
    assert "," not in failure.partition("got: ")[2].partition("\n")[0]
    assert str(folder_of(target)) in failure
    assert not target.exists()


def test_a_run_without_a_part_binds_none_to_its_source(model, clip, tmp_path):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    source.write_bytes(clip.read_bytes()[:20_000])
    assert enhance_all(ready(model()), [(source, target)], wishes=IN_PARTS).failures
    assert list(tmp_path.iterdir()) == [source]
    stopped(model(), clip, target, 7)
    for part in parts_in(folder_of(target)):  # as of a run that was killed before its first one
        part.path.unlink()
    source.write_bytes(clip.read_bytes())
    assert enhance_all(ready(model()), [(source, target)], wishes=IN_PARTS).failures == ()


@pytest.mark.parametrize(("wishes", "said"), [
    ({"codec": "ffv1"}, ".mov does not take ffv1"),
    ({"sound": HERE / "conftest.py"}, "conftest.py: not a video that ffmpeg can open"),
])  # fmt: skip
def test_what_cannot_be_joined_is_refused_before_any_work(model, clip, tmp_path, wishes, said):
    done, wishes = [], replace(IN_PARTS, **wishes)
    jobs = [(clip, tmp_path / "out.mov")]
    watch = lambda *counts: done.append(counts)  # noqa: E731
    [failure] = enhance_all(ready(model()), jobs, wishes=wishes, watch=watch).failures
    assert said in failure
    assert done == list(tmp_path.iterdir()) == []


def test_part_that_is_missing_is_named(model, clip, tmp_path):
    target = tmp_path / "out.mp4"
    stopped(model(), clip, target, 12)
    parts_in(folder_of(target))[1].path.unlink()
    [failure] = enhance_all(ready(model()), [(clip, target)], wishes=IN_PARTS).failures
    assert "a part is missing or damaged" in failure
    assert not target.exists()


def test_record_that_is_damaged_is_one_message(model, clip, tmp_path):
    target = tmp_path / "out.mp4"
    stopped(model(), clip, target, 7)
    [record] = folder_of(target).glob("*.json")
    for content in (b"", b"[1]", b'{"paper": 1}', b"\xff"):
        record.write_bytes(content)
        [failure] = enhance_all(ready(model()), [(clip, target)], wishes=IN_PARTS).failures
        assert f"{record}: the content is not what llve writes" in failure
    assert parts_in(folder_of(target))


@pytest.mark.parametrize(("name", "target", "wishes", "said"), [
    ("a.png", "b.png", {}, "for videos"), ("clip", "frames", {}, "for videos"),
    ("clip", "b.mp4", {"preview": 2}, "does not go on so"),
])  # fmt: skip
def test_what_does_not_go_on_is_refused(clip, image_file, tmp_path, name, target, wishes, said):
    source = clip if name == "clip" else image_file(name)
    wishes = replace(IN_PARTS, **wishes)
    with pytest.raises(ConfigError, match=said):
        plan_jobs("image", [source], tmp_path / target, wishes=wishes)
