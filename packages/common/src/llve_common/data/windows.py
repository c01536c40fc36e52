"""Windows of consecutive frames, also at a clip's ends."""

from __future__ import annotations


def reflected(index: int, last: int) -> int:
    """An index inside a clip, mirrored at its ends as often as needed.

    Args:
        index: any; -1 becomes 1, and ``last + 1`` becomes ``last - 1``.
        last: the clip's last index; a clip of one frame gives 0 for every index.
    """
    if last == 0:
        return 0
    place = index % (2 * last)
    return min(place, 2 * last - place)
