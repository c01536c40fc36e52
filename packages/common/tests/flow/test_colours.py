"""Pictures of optical flow."""

from __future__ import annotations

import numpy as np
import pytest

from llve_common.errors import DataError
from llve_common.flow.colours import flow_picture
from llve_common.testing.reference import reference_arrays


@pytest.mark.reference
def test_equals_the_published_picture():
    arrays = reference_arrays("tcenet/utils")
    np.testing.assert_array_equal(
        flow_picture(arrays["flow_color_in"]), arrays["flow_color_rgb_u8"]
    )


def test_directions_have_their_hues():
    flow = np.array([[[2, 0], [0, 2], [-2, 0], [0, -2]]], np.float32)
    right, down, left, up = flow_picture(flow)[0].tolist()
    assert right == [255, 0, 0]
    assert down[0] == 255
    assert 200 < down[1] < 255  # between red and yellow, near yellow
    assert left[0] == 0
    assert min(left[1:]) > 200
    assert up[1] == 0
    assert up[0] < up[2] == 255


def test_every_hue_is_a_step_on_the_wheel():
    # One pixel in the middle of each of the wheel's 54 steps.
    angle = -np.pi + 2 * np.pi * (np.arange(54) + 0.5) / 54
    flow = -np.stack([np.cos(angle), np.sin(angle)], -1)[None]
    hues = flow_picture(flow)[0].astype(int)
    assert len(np.unique(hues, axis=0)) == 54
    assert np.abs(np.diff(hues, axis=0)).max() <= 64
    assert hues.min(axis=1).max() <= 1
    assert hues.max(axis=1).min() >= 253


def test_saturation_is_the_length_over_the_largest():
    flow = np.zeros((1, 4, 2))
    flow[0, :, 0] = [0, 1, 2, 4]
    picture = flow_picture(flow)
    np.testing.assert_allclose(picture[0, :, 1], [255, 191, 127, 0], atol=1)
    np.testing.assert_array_equal(picture[0, :, 0], 255)
    np.testing.assert_allclose(flow_picture(1000 * flow).astype(int), picture, atol=1)


def test_no_flow_is_white_and_none_that_is_not_finite_or_of_another_shape_taken():
    flow = np.zeros((2, 2, 2), np.float32)
    assert (flow_picture(flow) == 255).all()
    flow[1, 1, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        flow_picture(flow)
    for shape in ((4, 4), (4, 4, 3), (0, 4, 2)):
        with pytest.raises(DataError, match="does not fit"):
            flow_picture(np.zeros(shape))
