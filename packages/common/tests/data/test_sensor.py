"""Low light as a sensor makes it: exposure, noise, colour, lamps and compression."""

import random
from dataclasses import replace

import numpy as np
import pytest

from llve_common.data.sensor import (
    COLOURED,
    NEUTRAL,
    PRESETS,
    Sensor,
    draw_sensor,
    encoded,
    exposed,
    low_light,
)
from llve_common.data.synthetic import read_photograph
from llve_common.io.profiles import from_linear, to_linear
from llve_common.video import Colour, VideoWriter

CLEAN = Sensor(
    mean=0.1, contrast=0, red=1, blue=1, shot_gain=0, read_std=0, row_std=0, smoothing=0, black=0,
    flicker=0, beat=0, bands=0, light=0, light_y=0, light_x=0, light_size=0.3, jpeg=0, crf=0,
    highlight=0, kept=0,
)  # fmt: skip
PHOTOGRAPH = read_photograph("coffee")[:120, :160]
GREY = np.full((96, 128, 3), 128, np.uint8)


def darkened(frames=(PHOTOGRAPH,), seed=0, **changed):
    dark = low_light(frames, replace(CLEAN, **changed), np.random.default_rng(seed))
    return np.array(dark, float)


class Rng:
    """Draws one value every time."""

    def __init__(self, value):
        self.random = lambda: value
        self.uniform = lambda low, high: low + (high - low) * value


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_lie_within_their_ranges(preset):
    ranges = PRESETS[preset]
    low, high = draw_sensor(ranges, Rng(0.0)), draw_sensor(ranges, Rng(0.999999))
    assert low.mean == pytest.approx(ranges.mean[0])
    assert high.mean == pytest.approx(ranges.mean[1], rel=1e-4)
    assert low.jpeg == ranges.jpeg[0]
    assert high.jpeg == high.crf == high.flicker == high.light == 0, "in a share of clips alone"


def test_the_set_to_train_on_leaves_colours_nearly_as_they_are():
    assert NEUTRAL.red == NEUTRAL.blue == (0.96, 1.04)
    assert COLOURED.red == COLOURED.blue == (0.7, 1.4)


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("contrast", [0, 0.3])
def test_the_dark_frame_is_the_photograph_dimmed_in_linear_light(mean, contrast):
    dark = darkened(mean=mean, contrast=contrast)[0] / 255
    assert dark.mean() == pytest.approx(mean, rel=0.08 if not contrast else 0.7)
    if not contrast:
        linear = to_linear(PHOTOGRAPH / 255)
        expected = from_linear(linear * exposed(linear, mean))
        np.testing.assert_allclose(dark, expected, atol=0.005)


def test_the_tables_code_as_the_functions_do():
    linear = np.geomspace(1e-6, 1, 1000)
    np.testing.assert_allclose(encoded(linear), from_linear(linear), atol=1e-4)


def test_noise_grows_with_the_signal_as_drawn_and_neighbours_share_it():
    few = darkened([GREY], mean=0.2, read_std=2e-3)[0] / 255
    shot = darkened([GREY], mean=0.4, shot_gain=1e-4)[0] / 255
    for dark, std in ((few, 2e-3), (shot, (1e-4 * to_linear(0.4)) ** 0.5)):
        linear = to_linear(dark)
        # Where the mosaic has a value of that colour, demosaicing leaves it as it is.
        assert linear[::2, ::2, 0].std() == pytest.approx(std, rel=0.1)
        red = linear[..., 0] - linear[..., 0].mean()
        assert (red[::2, :-1] * red[::2, 1:]).mean() > 0.3 * std**2
    assert not np.array_equal(few, darkened([GREY], 1, mean=0.2, read_std=2e-3)[0] / 255)


def test_rows_share_their_noise():
    dark = darkened([GREY], row_std=2e-3)[0]
    assert np.ptp(dark.mean((1, 2))) > 2
    assert dark.std(1).max() == 0


def test_colour_gains_lamps_flicker_and_black_level_do_as_named():
    plain = darkened([GREY, GREY])
    red, green, blue = darkened([GREY], red=1.4, blue=0.7)[0].mean((0, 1))
    assert red > green > blue
    lit = darkened([GREY], light=3, light_y=0.5, light_x=0.5)[0]
    assert lit[48, 64, 0] > 1.5 * lit[0, 0, 0]
    flickering = darkened([GREY, GREY], flicker=0.12, beat=0.25)
    assert abs(flickering[1].mean() - flickering[0].mean()) > 1
    assert np.ptp(darkened([GREY], flicker=0.12, bands=2)[0].mean((1, 2))) > 2
    assert darkened([GREY], black=1e-3)[0].mean() > plain[0].mean() + 1


def test_what_the_photograph_clips_stays_bright_as_a_lamp_and_the_rest_does_not():
    lamp = GREY.copy()
    lamp[40:50, 40:50] = 255
    plain, dark = darkened([lamp])[0], darkened([lamp], highlight=60)[0]
    assert plain.max() < 128
    assert dark[45, 45].min() == 255
    np.testing.assert_array_equal(dark[0], plain[0])


def test_a_dark_scene_stays_darker_where_its_light_is_kept():
    scenes = [GREY // 2, GREY]
    assert np.ptp([darkened([scene])[0].mean() for scene in scenes]) < 1
    night, day = (darkened([scene], kept=1)[0].mean() for scene in scenes)
    assert day / night == pytest.approx(2, rel=0.1)


def test_a_range_of_one_value_draws_nothing():
    fewer, more = random.Random(0), random.Random(0)
    draw_sensor(replace(NEUTRAL, kept=(1.0, 1.0), highlight=(2.0, 2.0)), fewer)
    draw_sensor(NEUTRAL, more)
    assert fewer.random() == more.random()


@pytest.mark.parametrize("compression", [{"jpeg": 75}, {"crf": 26}])
def test_compression_changes_pixels_but_not_the_picture(compression):
    frames = [PHOTOGRAPH, PHOTOGRAPH[::-1].copy()]
    plain, stored = darkened(frames), darkened(frames, **compression)
    assert stored.shape == plain.shape
    assert 0 < abs(stored - plain).mean() < 5


def test_clips_are_compressed_in_the_matrix_that_the_bundled_weights_learned_with(monkeypatch):
    seen = []

    def writer(file, like, **more):
        seen.append(like.colour)
        return VideoWriter(file, like, **more)

    monkeypatch.setattr("llve_common.data.sensor.VideoWriter", writer)
    darkened([PHOTOGRAPH], crf=26)
    assert seen == [Colour()]
