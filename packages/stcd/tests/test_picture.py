"""Pictures of matches and of a decomposition."""

import numpy as np
import torch

from llve_common.testing.motion import moved_views
from llve_stcd.matchers import dis_matches
from llve_stcd.network import Decomposition
from llve_stcd.picture import decomposition_picture, matches_picture

HEIGHT, WIDTH = 240, 320


def test_matches_from_top_to_bottom():
    first, second, _, _ = moved_views((6, 0), size=(HEIGHT, WIDTH))
    matches = dis_matches(first[None], second[None])
    picture = matches_picture(first, second, matches)
    assert picture.shape == (4 * HEIGHT + 24, 2 * WIDTH + 8, 3)
    rows = [picture[row * (HEIGHT + 8) :][:HEIGHT].astype(int) for row in range(4)]
    (image, other), (brought, _), (way, back), (certainty, _) = (
        (row[:, :WIDTH], row[:, -WIDTH:]) for row in rows
    )
    np.testing.assert_array_equal(image, first)
    np.testing.assert_array_equal(other, second)
    inner = np.s_[30:-30, 30:-30]
    # The second image brought onto the first looks like the first; the second itself does not.
    assert np.abs(brought - image)[inner].mean() < 4 < np.abs(other - image)[inner].mean()
    # To the right is red, to the left cyan.
    assert way[inner][..., 0].mean() > 200 > 60 > way[inner][..., 1].mean()
    assert back[inner][..., 1].mean() > 200 > 60 > back[inner][..., 0].mean()
    expected = matches.certainty[0, :, :WIDTH, None].numpy() * 255
    assert np.abs(certainty - expected).max() <= 0.51


def test_a_still_pair_has_no_direction():
    first, _, _, _ = moved_views(size=(32, 40))
    picture = matches_picture(first, first, dis_matches(first[None], first[None]))
    assert picture.shape == (4 * 32 + 24, 2 * 40 + 8, 3)
    np.testing.assert_array_equal(picture[40:72, :40], first)
    assert (picture[2 * 40 :] == 255).all()


def test_a_decomposition_from_left_to_right():
    low = torch.full((2, 3, 4, 6), 0.1, requires_grad=True)
    parts = [torch.full((2, 3, 4, 6), value) for value in (0.8, 0.0, 0.4, 0.0, 0.5, 0.0)]
    picture = decomposition_picture(low, Decomposition(*parts))
    assert picture.shape == (4, 4 * 6 + 3 * 8, 3)
    assert picture[0, [0, 14, 28, 42], 0].tolist() == [26, 204, 128, 102]
    assert (picture[:, 6:14] == 255).all()
