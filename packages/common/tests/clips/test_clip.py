"""Clips of image files and of videos, read and found alike."""

import numpy as np
import pytest

from llve_common.clips.clip import (
    Clip,
    clip_of,
    clips_in,
    frames_in_all,
    image_clips,
    paired_clips,
    read_alike,
    read_frame,
)
from llve_common.errors import DataError, MediaError
from llve_common.io.images import write_image


def levels(frames):
    """What grey frames hold, to the nearest ten: a video's encoder changes a little."""
    return [round(frame.image.pixels.mean(), -1) for frame in frames]


# Reading


def test_image_files_are_read_in_all_bits_or_resized_in_8(tmp_path, picture):
    pixels = picture(6, 8)
    write_image(tmp_path / "eight.npy", pixels)
    write_image(tmp_path / "deep.png", pixels.astype(np.uint16) * 256 + 7)
    files = (tmp_path / "eight.npy", tmp_path / "deep.png")
    stored = (pixels, pixels.astype(np.uint16) * 256 + 7)
    read = Clip("a", files, files).read_targets()
    for frame, file, expected in zip(read, files, stored, strict=True):
        np.testing.assert_array_equal(frame.image.pixels, expected)
        assert (frame.name, frame.where) == (file.name, file)
        np.testing.assert_array_equal(read_frame(file), pixels)
    for found, expected in zip(read_alike(files, None, "pair"), stored, strict=True):
        np.testing.assert_array_equal(found, expected)
    [small] = Clip("a", files, size=(4, 3)).read(start=1)
    np.testing.assert_array_equal(small.image.pixels, read_frame(files[0], (4, 3)))
    assert small.image.pixels.shape == (3, 4, 3)
    assert list(Clip("a", files).read_targets()) == []


def test_a_video_is_read_as_its_frames(video_file):
    video = video_file("dark.mp4", [20, 40, 60, 80])
    clip = Clip("dark", (video,), (video,))
    assert levels(clip.read()) == [20, 40, 60, 80]
    assert levels(clip.read(start=2)) == levels(clip.read_targets(start=2)) == [60, 80]
    [first, second] = clip.first(2).read()
    assert second.where == f"{video}, frame 1"
    assert (clip.count, clip.first(2).count, clip.first(9).count) == (4, 2, 4)
    assert (clip.place, clip.file(12)) == (video, video / "00012.png")
    resized = next(Clip("dark", (video,), size=(10, 6)).read()).image.pixels
    assert resized.shape == (6, 10, 3)
    assert first.image.pixels.shape == (40, 48, 3)
    video.write_bytes(b"no video")
    broken = Clip("dark", (video,))
    assert frames_in_all([clip, clip]) == 8
    assert frames_in_all([clip, broken]) is None
    with pytest.raises(MediaError, match=r"dark\.mp4"):
        _ = broken.count


def test_the_first_frames_of_image_files_are_those_files(image_file):
    low, high = (
        tuple(image_file(f"{side}/{n}.png", seed=n) for n in range(5)) for side in ("low", "high")
    )
    clip = Clip("a", low, high)
    assert (clip.first(3).frames, clip.first(3).targets) == (low[:3], high[:3])
    assert (clip.count, clip.first(3).count) == (5, 3)
    assert (clip.place, clip.file(4)) == (low[0].parent, low[4])
    assert len(list(clip.first(3).read(start=1))) == 2


# Finding


def test_frames_come_in_natural_order(image_file, tmp_path):
    files = [image_file(f"clip/{number}.png") for number in (1, 2, 10)]
    assert clip_of(tmp_path / "clip").frames == tuple(files)


def test_clips_and_frames_are_matched_by_name(root):
    clips = paired_clips(root / "input", root / "GT")
    assert [clip.name for clip in clips] == ["pair1", "pair10", "pair2"]
    assert [clip.count for clip in clips] == [6, 5, 5]
    for clip in clips:
        for frame, target in zip(clip.frames, clip.targets, strict=True):
            assert frame.relative_to(root / "input") == target.relative_to(root / "GT")
    assert [clip.targets for clip in paired_clips(root / "input", None)] == [None] * 3


def test_numpy_and_images_may_face_each_other(tmp_path, write_clip):
    write_clip(tmp_path / "png" / "pair7", 5, ".png")
    write_clip(tmp_path / "npy" / "pair7", 5, ".npy")
    [clip] = paired_clips(tmp_path / "png", tmp_path / "npy")
    assert (clip.frames[3].name, clip.targets[3].name) == ("0003.png", "0003.npy")
    np.testing.assert_array_equal(read_frame(clip.frames[3]), read_frame(clip.targets[3]))


def test_videos_and_folders_may_face_each_other(tmp_path, video_file, write_clip):
    a, b = video_file("low/a.mp4", [1, 2]), video_file("low/b.mp4", [1])
    write_clip(tmp_path / "low" / "c", 1, ".png")
    write_clip(tmp_path / "high" / "a", 2, ".png")
    write_clip(tmp_path / "high" / "c", 1, ".png")
    bright = video_file("high/b.mkv", [1])
    clips = paired_clips(tmp_path / "low", tmp_path / "high")
    assert [clip.name for clip in clips] == ["a", "b", "c"]
    assert [clip.frames[0] for clip in clips[:2]] == [a, b]
    assert [file.name for file in clips[0].targets] == ["0000.png", "0001.png"]
    assert clips[1].targets == (bright,)
    [alone] = paired_clips(a, bright, (10, 6))
    assert alone == Clip("a", (a,), (bright,), (10, 6))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("GT/pair10/0002.npy", "input/pair10/0002.npy has no ground truth"),
        ("input/pair1/0005.npy", "GT/pair1/0005.npy has no input"),
        ("GT/pair2", "input/pair2 has no ground truth"),
    ],
)
def test_what_has_no_partner_is_named(root, lost, said):
    for file in [root / lost, *(root / lost).glob("*")][::-1]:
        file.rmdir() if file.is_dir() else file.unlink()
    with pytest.raises(DataError, match=said):
        paired_clips(root / "input", root / "GT")


def test_folders_without_clips_are_refused(root):
    with pytest.raises(DataError, match="holds no clip"):
        clips_in(root / "GT" / "pair1")
    with pytest.raises(DataError, match="no such folder"):
        paired_clips(root / "nowhere", None)
    (root / "input" / ".hidden").mkdir()
    assert list(clips_in(root / "input")) == ["pair1", "pair10", "pair2"]
    (root / "input" / "pair2.mp4").touch()
    with pytest.raises(DataError, match="several clips have one name"):
        clips_in(root / "input")


def test_images_of_a_folder_are_one_clip_unless_there_are_videos(
    tmp_path, image_file, video_file, caplog
):
    low = [image_file(f"low/{name}") for name in ("b.png", "more/a.png", "sub/a.png")]
    high = [image_file(f"high/{name}") for name in ("b.jpg", "more/a.png", "sub/a.png")]
    low[0].with_suffix(".txt").touch()
    [clip] = image_clips(tmp_path / "low", tmp_path / "high")
    assert clip == Clip("low", tuple(low), tuple(high))
    assert [clip.label(index) for index in range(3)] == ["b.png", "more/a.png", "sub/a.png"]
    [flat] = [clip_of(tmp_path / "low")]
    assert flat.frames == (low[0],)
    video = video_file("videos/a.mp4", [1])
    assert image_clips(video.parent, None) == image_clips(video, None) == [Clip("a", (video,))]
    image_file("videos/b.png")
    assert image_clips(video.parent, low[0].parent.parent / "videos") == [
        Clip("a", (video,), (video,))
    ]
    assert "left out, images beside videos: b.png" in caplog.text
    with pytest.raises(DataError, match="is a file, not a folder"):
        image_clips(low[0].with_suffix(".txt"), None)
