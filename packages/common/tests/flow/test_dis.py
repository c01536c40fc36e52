import subprocess
import sys

import cv2
import numpy as np
import pytest
from skimage import data

from llve_common.errors import DataError
from llve_common.flow.dis import dis_flow, forward_backward_error, forward_backward_valid


def moving_pair(height, width, dx, dy):
    """Two views of a real image; what is at p in the first is at p + (dx, dy) in the second."""
    image = data.astronaut()
    y, x = 100, 150
    first = image[y : y + height, x : x + width]
    second = image[y - dy : y - dy + height, x - dx : x - dx + width]
    return first, second


# The last is smaller than what is padded.
@pytest.mark.parametrize(
    ("size", "shift", "near"), [((160, 224), (4, -3), 0.05), ((24, 28), (1, 0), 0.2)]
)
def test_finds_a_known_shift_from_first_to_second(size, shift, near):
    first, second = moving_pair(*size, *shift)
    flow = dis_flow(first, second)
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), shift, atol=near)
    assert not dis_flow(first, first).any()


def test_the_number_of_threads_does_not_matter():
    first, second = moving_pair(256, 320, dx=5, dy=2)
    threads, flows = cv2.getNumThreads(), []
    try:
        for number in (1, 2, 5):
            cv2.setNumThreads(number)
            flows.append(dis_flow(first, second))
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(flow, flows[0]) for flow in flows)


def test_takes_read_only_and_mirrored_views():
    first, second = moving_pair(64, 80, dx=2, dy=0)
    mirrored = first[:, ::-1], second[:, ::-1]
    for frame in mirrored:
        frame.flags.writeable = False
    np.testing.assert_array_equal(dis_flow(*mirrored), dis_flow(*(f.copy() for f in mirrored)))


# In a process of its own, because OpenCV can end the process on such sizes.
EVERY_SIZE = """
import numpy as np
from llve_common.flow.dis import dis_flow
rng = np.random.default_rng(0)
sides = [1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 65, 161]
for height, width in [(h, w) for h in sides for w in sides] + [(8, 2000), (33, 3001), (2000, 3)]:
    first, second = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    flow = dis_flow(first, second)
    assert flow.shape == (height, width, 2), (height, width)
    assert np.isfinite(flow).all(), (height, width)
    assert np.abs(flow).max() < 2 * max(32, height, width), (height, width)
"""


def test_no_size_is_too_small_or_too_odd():
    done = subprocess.run([sys.executable, "-c", EVERY_SIZE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"


@pytest.mark.parametrize(
    ("shape", "other", "kind"),
    [
        ((40, 40), (40, 40), np.uint8),
        ((40, 40, 3), (40, 40, 3), np.float32),
        ((40, 40, 3), (40, 41, 3), np.uint8),
        ((0, 40, 3), (0, 40, 3), np.uint8),
    ],
)
def test_frames_that_do_not_fit_are_refused(shape, other, kind):
    with pytest.raises(DataError):
        dis_flow(np.zeros(shape, kind), np.zeros(other, kind))


def constant_flow(x, y=0.0, size=(6, 30)):
    return np.full((*size, 2), (x, y), np.float32)


def test_opposite_flows_agree_except_where_they_leave_the_image():
    valid = forward_backward_valid(constant_flow(2, 1), constant_flow(-2, -1))
    expected = np.zeros((6, 30), bool)
    expected[:-1, :-2] = True
    np.testing.assert_array_equal(valid, expected)
    assert valid.dtype == np.bool_


# Beyond 20 pixels the bound grows with the flow: 0.05 * 24 = 1.2.
@pytest.mark.parametrize(
    ("forward", "backward", "agree"),
    [
        (0.0, 0.99, True), (0.0, 1.0, False), (10.0, -9.01, True), (10.0, -9.0, False),
        (24.0, -22.81, True), (24.0, -22.79, False),
    ],
)  # fmt: skip
def test_the_bound_is_one_pixel_or_a_twentieth_of_the_flow(forward, backward, agree):
    valid = forward_backward_valid(constant_flow(forward), constant_flow(backward))
    assert valid[0, 0] == agree


def test_the_backward_flow_is_read_where_the_forward_one_points():
    forward, backward = constant_flow(3), constant_flow(50)
    backward[:, 3:6] = (-3, 0)
    valid = forward_backward_valid(forward, backward)
    assert valid[:, :3].all()
    assert not valid[:, 3:].any()


def test_the_error_is_the_way_from_the_start_and_infinite_outside():
    error = forward_backward_error(constant_flow(3, 1), constant_flow(0, -5))
    np.testing.assert_allclose(error[:-1, :-3], 5)
    assert np.isinf(error[-1]).all()
    assert np.isinf(error[:, -3:]).all()


def test_flow_that_is_not_finite_is_invalid_and_of_other_shapes_refused():
    assert not forward_backward_valid(constant_flow(np.nan), constant_flow(0)).any()
    assert not forward_backward_valid(constant_flow(0), constant_flow(np.nan)).any()
    wide, planes = constant_flow(0, size=(6, 31)), np.zeros((2, 5, 5))
    for pair in ((constant_flow(0), wide), (planes, planes)):
        with pytest.raises(DataError, match="two flows"):
            forward_backward_valid(*pair)
