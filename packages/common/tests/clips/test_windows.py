"""Which frames a window holds, also at a clip's ends."""

import pytest

from llve_common.clips.windows import reflected, window_indices
from llve_common.errors import DataError


@pytest.mark.parametrize(
    ("border", "at_start", "at_end"),
    [
        ("reflection", [2, 1, 0, 1, 2], [4, 5, 6, 5, 4]),
        ("replicate", [0, 0, 0, 1, 2], [4, 5, 6, 6, 6]),
        ("new_info", [4, 3, 0, 1, 2], [4, 5, 6, 3, 2]),
        ("circle", [3, 4, 0, 1, 2], [4, 5, 6, 2, 3]),
    ],
)
def test_border_modes(border, at_start, at_end):
    assert window_indices(0, 6, 5, border) == at_start
    assert window_indices(6, 6, 5, border) == at_end
    assert window_indices(3, 6, 5, border) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("border", "shortest"), [("reflection", 3), ("new_info", 5)])
def test_a_clip_too_short_for_its_border_mode(border, shortest):
    assert all(len(window_indices(i, shortest - 1, 5, border)) == 5 for i in range(shortest))
    with pytest.raises(DataError, match=f"at least {shortest} for windows of 5"):
        window_indices(0, shortest - 2, 5, border)


@pytest.mark.parametrize(
    ("index", "last", "expected"),
    [(0, 4, 0), (-1, 4, 1), (-2, 4, 2), (5, 4, 3), (6, 4, 2), (3, 0, 0), (-3, 1, 1), (4, 1, 0)],
)
def test_reflected(index, last, expected):
    assert reflected(index, last) == expected
