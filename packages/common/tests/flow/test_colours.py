"""Pictures of optical flow."""

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


def test_no_flow_is_white_and_none_that_is_not_finite_or_of_another_shape_taken():
    flow = np.zeros((2, 2, 2), np.float32)
    assert (flow_picture(flow) == 255).all()
    flow[1, 1, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        flow_picture(flow)
    for shape in ((4, 4), (4, 4, 3), (0, 4, 2)):
        with pytest.raises(DataError, match="does not fit"):
            flow_picture(np.zeros(shape))
