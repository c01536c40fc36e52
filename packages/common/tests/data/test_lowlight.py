import random

import numpy as np
import pytest

from llve_common.data.lowlight import Darkening, DarkeningRanges, darken, draw_darkening
from llve_common.io.profiles import to_linear

ALMOST_NONE = {"shot_gain": 1e-12, "read_std": 0.0}


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(1, 1, 1), (0.9, 0.5, 3), (1, 0.7, 2.2)])
def test_without_noise_it_is_the_closed_form(alpha, beta, gamma):
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    low = darken(frame, Darkening(alpha, beta, gamma, **ALMOST_NONE), np.random.default_rng(0))
    expected = 255 * beta * (alpha * frame / 255) ** gamma
    # Half a level of rounding, and the little noise that a gain cannot be without.
    np.testing.assert_allclose(low, expected, atol=0.51)
    assert low.dtype == np.uint8


def test_noise_has_the_variance_of_shot_and_read_noise():
    frame = np.full((200, 200, 3), 188, np.uint8)
    linear = to_linear(np.array(188 / 255))
    for gain, read in ((1e-3, 0.0), (1e-12, 0.02), (1e-3, 0.02)):
        low = darken(frame, Darkening(1, 1, 1, gain, read), np.random.default_rng(0))
        light = to_linear(low / 255)
        assert light.mean() == pytest.approx(linear, abs=1e-3)
        assert light.var() == pytest.approx(gain * linear + read**2, rel=0.03)


def test_noise_of_the_pixels_is_independent():
    frame = np.full((200, 200, 3), 188, np.uint8)
    low = darken(frame, Darkening(1, 1, 1, 1e-3, 0.01), np.random.default_rng(0)).astype(float)
    low -= low.mean()
    for shifted in (low[1:, :, 0] * low[:-1, :, 0], low[..., 0] * low[..., 1]):
        assert abs(shifted.mean()) < 0.05 * low.var()


def test_drawn_parameters_lie_in_their_ranges_and_follow_from_the_seed():
    ranges = DarkeningRanges()
    drawn = [draw_darkening(ranges, random.Random(seed)) for seed in range(300)]
    for name in ("alpha", "beta", "gamma", "shot_gain", "read_std"):
        low, high = getattr(ranges, name)
        values = [getattr(each, name) for each in drawn]
        assert low <= min(values) < max(values) <= high
    assert drawn[7] == draw_darkening(ranges, random.Random(7))
    # Uniform in the logarithm: half of the draws lie below the geometric mean.
    low, high = ranges.shot_gain
    below = sum(each.shot_gain < (low * high) ** 0.5 for each in drawn)
    assert 120 < below < 180
