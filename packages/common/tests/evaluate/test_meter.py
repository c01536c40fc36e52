"""A clip through a network, and everything that is measured of it."""

import io
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import PIL.Image
import pytest

from llve_common.clips.clip import Clip
from llve_common.errors import DataError
from llve_common.evaluate import meter
from llve_common.evaluate.meter import Camera, Guide, Meter, evenly_spread, put_through
from llve_common.io.images import Image, read_image, write_image
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import NamedFlow

MEASURES = {"psnr": psnr, "ssim": partial(ssim, definition="gaussian11")}
STEADINESS = {"warping_error", "mabd", "mabd_mse"}


def halved(frames):
    """A network: half of every level."""
    for frame in frames:
        yield replace(frame, image=Image(frame.image.pixels // 2))


def pixels_of(files):
    return [read_image(file).pixels for file in files]


# Through a network


def test_a_frame_is_read_once_it_is_wanted(clip, monkeypatch):
    read = []
    monkeypatch.setattr(
        "llve_common.clips.clip.read_image", lambda path: read.append(path) or read_image(path)
    )
    passing = put_through(clip(frames=9), iter)
    next(passing), next(passing)
    assert [path.parent.name for path in read] == ["low", "high"] * 2


def test_frames_and_ground_truth_are_cropped_alike(clip):
    one = clip(frames=1, size=(13, 17))
    [passed] = put_through(one, iter, multiple=4)
    [low, high] = pixels_of([*one.frames, *one.targets])
    for found, whole in ((passed.source, low), (passed.result, low), (passed.target, high)):
        np.testing.assert_array_equal(found, whole[:12, :16])
    with pytest.raises(DataError, match=r"too small to be cropped.*\n  got: 17x13"):
        next(put_through(one, iter, multiple=16))


@pytest.mark.parametrize("size", [(12, 20), (12, 15)])
def test_ground_truth_of_another_size_is_named(clip, size):
    one = clip(frames=1, target_size=size)
    # Cropped, the second would be of one size with the frame.
    with pytest.raises(DataError, match="differ in size") as caught:
        list(put_through(one, iter, multiple=6))
    assert caught.value.where == one.frames[0]
    assert caught.value.got == f"14x12, and {one.targets[0]} {size[1]}x{size[0]}"


@pytest.mark.parametrize(("truth", "said"), [(2, "ends before"), (4, "has more frames")])
def test_ground_truth_of_another_length_is_named(clip, video_file, truth, said):
    one = clip(size=(40, 48))
    video = video_file("truth.mp4", range(truth))
    with pytest.raises(DataError, match=f"the ground truth {said}"):
        list(put_through(Clip("a", one.frames, (video,)), iter))
    assert len(list(put_through(Clip("a", one.frames[:1], (video,)).first(1), iter))) == 1


# Measures


def measured(one, flow=None, *, before=True):
    """The scores of the frames, then those of the whole, and the means."""
    found = Meter(MEASURES, flow and Guide(flow), before=before)
    frames = [found.add(passed) for passed in put_through(one, halved)]
    return frames, found.over_time(), found.means()


def test_frames_are_scored_as_they_are_and_as_they_were(clip):
    one = clip()
    frames, whole, means = measured(one)
    lows, highs = pixels_of(one.frames), pixels_of(one.targets)
    for scores, low, high in zip(frames, lows, highs, strict=True):
        assert scores == {
            "psnr": psnr(low // 2, high),
            "ssim": ssim(low // 2, high, "gaussian11"),
            "input_psnr": psnr(low, high),
            "input_ssim": ssim(low, high, "gaussian11"),
        }
    assert means == pytest.approx({k: np.mean([each[k] for each in frames]) for k in frames[0]})
    assert whole == {}
    assert measured(one, before=False)[0][0].keys() == {"psnr", "ssim"}


def test_a_mean_is_over_the_frames_that_have_the_score(clip):
    one = clip(frames=2)
    for file, colour in zip(one.targets, ((128, 128, 128), (200, 30, 30)), strict=True):
        write_image(file, np.full((12, 14, 3), colour, np.uint8))
    found = Meter({}, None, before=False, quality=True)
    grey, red = (found.add(passed) for passed in put_through(one, iter))
    assert "colour_error" not in red
    assert found.means()["colour_error"] == grey["colour_error"] > 0


def test_without_ground_truth_nothing_is_scored(clip):
    assert measured(clip(truth=False)) == ([{}] * 3, {}, {})


def test_a_frame_too_small_to_score_is_named(clip):
    one = clip(size=(6, 9))
    with pytest.raises(DataError, match="too small for SSIM") as caught:
        measured(one)
    assert caught.value.where == one.frames[0]


def test_steadiness_is_along_one_flow_that_is_estimated_once(clip):
    calls = []

    def still(first, second):
        calls.append((first.copy(), second.copy()))
        return np.zeros((*first.shape[:2], 2), np.float32)

    one = clip()
    _, whole, _ = measured(one, NamedFlow("still", still))
    low = np.stack(pixels_of(one.frames)) / 255
    assert whole.keys() == STEADINESS | {f"input_{name}" for name in STEADINESS}
    assert whole["input_warping_error"] == pytest.approx(np.square(np.diff(low, axis=0)).mean())
    assert whole["warping_error"] == pytest.approx(whole["input_warping_error"] / 4, rel=0.02)
    assert whole["mabd"] == pytest.approx(whole["input_mabd"] / 2, rel=0.02)
    assert whole["mabd_mse"] > whole["input_mabd_mse"] > 0
    # Back and forth between neighbouring frames of the ground truth, for both together.
    expected = [pair for a, b in pairwise(pixels_of(one.targets)) for pair in ((b, a), (a, b))]
    np.testing.assert_array_equal(calls, expected)


def test_steadiness_without_ground_truth_or_neighbours(clip):
    flow = NamedFlow("still", lambda first, _: np.zeros((*first.shape[:2], 2), np.float32))
    assert measured(clip(truth=False), flow, before=False)[1].keys() == {"warping_error", "mabd"}
    assert measured(clip(frames=1), flow)[1] == {}


# What is shown


@pytest.mark.parametrize(
    ("middle", "frames", "kept"),
    [(3, 1, [3]), (3, 3, [2, 3, 4]), (3, 9, range(7)), (20, 2, [5, 6]), (0, 2, [0, 1]), (3, 0, [])],
)
def test_frames_of_the_middle_and_a_strip_are_kept(monkeypatch, middle, frames, kept):
    monkeypatch.setattr(meter, "STRIP_FRAMES", 4)
    monkeypatch.setattr(meter, "LONGEST_SIDE", 50)
    camera = Camera(middle, frames)
    for number in range(7):
        pixels = np.full((20, 100, 3), 30 * number, np.uint8)
        camera.add(pixels, f"{number}.png" if number else "", {"psnr": number})
    view = camera.view()
    if not kept:
        assert view is None
        return
    assert view.frames == tuple(f"{number}.png" if number else "frame 0" for number in kept)
    assert [each["psnr"] for each in view.scores] == list(kept)
    shown = [np.asarray(PIL.Image.open(io.BytesIO(each))) for each in view.pictures]
    assert [each.shape for each in shown] == [(10, 50, 3)] * len(kept)
    assert [each.mean() for each in shown] == pytest.approx([30 * each for each in kept], abs=2)
    assert view.strip[:, 0, 0].tolist() == [0, 30, 60, 90]


def test_an_image_has_no_strip():
    camera = Camera(0, 1)
    camera.add(np.zeros((2, 2, 3), np.uint8), "", {})
    assert camera.view().strip is None


def test_some_of_many_are_spread_evenly():
    assert evenly_spread(range(20), 6) == [1, 5, 8, 11, 15, 18]
    assert evenly_spread("abc", 6) == ["a", "b", "c"]
