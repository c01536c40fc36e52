"""Views whose flow is known."""

import numpy as np
import pytest

from llve_common.flow.warp import warp_frame
from llve_common.testing.motion import moved_views


@pytest.mark.parametrize(("shift", "degrees"), [((5, -3), 0), ((0, 0), 6), ((2.5, 4), -3)])
def test_the_flow_brings_each_view_onto_the_other(shift, degrees):
    first, second, there, back = moved_views(shift, degrees, (120, 160))
    inner = np.s_[15:-15, 15:-15]
    for one, other, flow in ((first, second, there), (second, first, back)):
        brought = warp_frame(other.astype(np.float32), flow)
        assert np.abs(brought - one)[inner].mean() < 3
        assert np.abs(other.astype(int) - one)[inner].mean() > 10


def test_a_shift_moves_the_content_and_its_flow_is_the_shift():
    first, second, there, back = moved_views((4, 2), size=(60, 80))
    np.testing.assert_allclose(there, np.broadcast_to([4, 2], there.shape), atol=1e-9)
    np.testing.assert_allclose(back, -there, atol=1e-9)
    difference = first[:-2, :-4].astype(int) - second[2:, 4:]
    assert np.abs(difference).max() <= 1
