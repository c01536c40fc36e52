import tracemalloc
from itertools import pairwise, zip_longest

import numpy as np
import pytest
from skimage import data

from llve_common.errors import DataError
from llve_common.flow.dis import dis_flow
from llve_common.metrics.temporal import GuideFlow, Mabd, MabdResult, WarpingError


def warping_error(frames, guides, estimate=dis_flow):
    motion, metric = GuideFlow(estimate), WarpingError()
    for frame, guide in zip(frames, guides, strict=True):
        metric.update(frame, motion.next(guide))
    return metric.compute()


def mabd(frames, targets=()):
    metric = Mabd()
    for frame, target in zip_longest(frames, targets):
        metric.update(frame, target)
    return metric.compute()


def panning_clip(length, dx=3, dy=2, height=112, width=144):
    """A camera over a real image: what is at p in one frame is at p - (dx, dy) in the next."""
    image = data.astronaut()
    return [
        image[60 + t * dy : 60 + t * dy + height, 150 + t * dx : 150 + t * dx + width]
        for t in range(length)
    ]


def still_clip(length, height=48, width=64):
    return [data.astronaut()[100 : 100 + height, 200 : 200 + width]] * length


def constant_estimator(x, y):
    """An estimator that knows the pan: +(x, y) to the previous frame, the opposite to the next."""
    calls = []

    def estimate(first, _second):
        calls.append(None)
        sign = 1 if len(calls) % 2 else -1
        return np.full((*first.shape[:2], 2), (sign * x, sign * y), np.float32)

    return estimate


def test_a_still_video_is_perfectly_steady():
    clip = still_clip(4)
    assert warping_error(clip, clip) == mabd(clip, clip).mean == mabd(clip, clip).mse == 0


def test_a_known_shift_is_followed():
    clip = panning_clip(4)
    followed = warping_error(clip, clip)
    unaligned = np.mean([np.mean((b / 255 - a / 255) ** 2) for a, b in pairwise(clip)])
    assert followed < 1e-3
    assert followed < unaligned / 20


def test_the_flow_goes_from_the_later_frame_to_the_earlier():
    clip = panning_clip(3)
    # Frame t is read at p + (3, 2) for frame t+1's p, exactly; the opposite is far off.
    assert warping_error(clip, clip, constant_estimator(3, 2)) == pytest.approx(0, abs=1e-12)
    assert warping_error(clip, clip, constant_estimator(-3, -2)) > 1e-2


def test_a_brightness_ramp_in_closed_form():
    step = 0.03
    guides = still_clip(5)
    ramp = [frame / 255 * 0.5 + step * t for t, frame in enumerate(guides)]
    assert warping_error(ramp, guides) == pytest.approx(step**2, rel=1e-5)
    result = mabd(ramp, guides)
    assert result.mean == pytest.approx(step, rel=1e-5)
    assert result.mse == pytest.approx(step**2, rel=1e-5)


@pytest.mark.parametrize(("channel", "weight"), [(0, 0.299), (1, 0.587), (2, 0.114)])
def test_mabd_weighs_colours_as_bt601_luma(channel, weight):
    dark, bright = np.zeros((2, 5, 6, 3))
    bright[..., channel] = 0.5
    assert mabd([dark, bright, dark]).mean == pytest.approx(0.5 * weight, rel=1e-6)


def test_mabd_and_its_error_by_hand():
    def grey(*levels):
        return [np.full((4, 4, 3), level) for level in levels]

    result = mabd(grey(0.1, 0.3, 0.2), grey(0.5, 0.6, 0.2))
    assert result.mean == pytest.approx((0.2 + 0.1) / 2, rel=1e-5)
    assert result.mse == pytest.approx(((0.2 - 0.1) ** 2 + (0.1 - 0.4) ** 2) / 2, rel=1e-5)


def test_only_valid_pixels_count():
    first, second = np.zeros((2, 8, 10, 3))
    second[:, :4] = 0.5
    second[:, 4:] = 0.25

    def left_half_disagrees(frame, _other):
        flow = np.zeros((*frame.shape[:2], 2), np.float32)
        flow[:, :4] = (0, 0.9)
        return flow

    error = warping_error([first, second], [first, second], left_half_disagrees)
    assert error == pytest.approx(0.25**2)


def test_a_reused_buffer_does_not_hide_a_change():
    buffer = np.zeros((40, 40, 3), np.float32)
    guide = still_clip(1, 40, 40)[0]
    motion, error, brightness = GuideFlow(), WarpingError(), Mabd()
    for level in (0.0, 0.5):
        buffer[...] = level
        error.update(buffer, motion.next(guide))
        brightness.update(buffer)
    assert error.compute() == pytest.approx(0.25)
    assert brightness.compute().mean == pytest.approx(0.5, rel=1e-6)


def test_memory_does_not_grow_with_the_clip():
    frame = still_clip(1, 64, 64)[0]
    motion, error, brightness = GuideFlow(constant_estimator(0, 0)), WarpingError(), Mabd()

    def feed(count):
        for _ in range(count):
            error.update(frame, motion.next(frame))
            brightness.update(frame, frame)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = feed(3)
        assert feed(30) - before < frame.nbytes
    finally:
        tracemalloc.stop()


def test_a_clip_without_neighbours_or_a_target_has_no_measure():
    for clip in (still_clip(0), still_clip(1)):
        assert warping_error(clip, clip) is None
        assert mabd(clip, clip) == MabdResult(None, None)
    alone = mabd(panning_clip(3))
    assert alone.mean > 0
    assert alone.mse is None


def test_a_pair_without_valid_pixels_is_left_out():
    clip = panning_clip(3)
    flows = iter([1000, 1000, 3, -3])

    def cut_then_pan(first, _second):
        x = next(flows)
        return np.full((*first.shape[:2], 2), (x, x * 2 / 3), np.float32)

    assert warping_error(clip, clip, cut_then_pan) == pytest.approx(0, abs=1e-10)
    flows = iter([1000, 1000])
    assert warping_error(clip[:2], clip[:2], cut_then_pan) is None


def test_eight_bit_and_floating_frames_measure_the_same():
    clip = panning_clip(3)
    floating = [f / 255 for f in clip]
    assert warping_error(floating, floating) == pytest.approx(warping_error(clip, clip), rel=1e-6)
    assert mabd(floating).mean == pytest.approx(mabd(clip).mean, rel=1e-6)


BAD_FRAMES = {
    "grey": np.zeros((40, 40)), "alpha": np.zeros((40, 40, 4)), "empty": np.zeros((0, 40, 3)),
    "sixteen bits": np.zeros((40, 40, 3), np.uint16), "to 255": np.full((40, 40, 3), 255.0),
    "negative": np.full((40, 40, 3), -0.1), "not a number": np.full((40, 40, 3), np.nan),
    "another size": np.zeros((40, 41, 3)),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_frames_that_do_not_fit_are_refused(bad):
    good = np.zeros((40, 40, 3))
    with pytest.raises(DataError, match="frame 1"):
        warping_error([good, bad], [good, good])
    with pytest.raises(DataError, match="frame 1 of the guide"):
        warping_error([good, good], [good, bad])
    with pytest.raises(DataError, match="frame 1"):
        mabd([good, bad])
    with pytest.raises(DataError):
        mabd([good, good], [good, bad])


def test_a_target_for_some_frames_only_is_refused():
    with pytest.raises(DataError, match="only some frames"):
        mabd(still_clip(2), still_clip(1))
