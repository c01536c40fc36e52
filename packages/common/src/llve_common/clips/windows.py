"""Windows of consecutive frames, also at a clip's ends."""

from typing import Literal

from llve_common.errors import DataError

Border = Literal["reflection", "replicate", "new_info", "circle"]
"""What stands in for frames beyond a clip's ends: the mirrored ones, the last one again, frames
from beyond the window's other end, or, as the published "circle" has it, other frames of it."""


def reflected(index: int, last: int) -> int:
    """An index inside a clip up to ``last``, mirrored at its ends as often as needed.

    -1 becomes 1, and ``last + 1`` becomes ``last - 1``; a clip of one frame gives 0 for all.
    """
    if last == 0:
        return 0
    place = index % (2 * last)
    return min(place, 2 * last - place)


def window_indices(centre: int, last: int, frames: int, border: Border) -> list[int]:
    """The indices of a window's frames, as published for SDSD.

    Args:
        centre: the middle frame's index in the clip.
        last: the clip's last index.
        frames: in the window; an odd number.
        border: beyond the clip's ends.

    Raises:
        DataError: the clip is too short for the border mode.
    """
    half = frames // 2
    around = range(centre - half, centre + half + 1)
    indices = [_filled_in(index, centre, last, frames, border) for index in around]
    if not all(0 <= index <= last for index in indices):
        shortest = half + 1 if border == "reflection" else frames
        raise DataError(
            f"the clip is too short for the border mode '{border}'",
            got=f"{last + 1} frames",
            expected=f"at least {shortest} for windows of {frames}",
            mend="leave the clip out, or use the border mode 'replicate'",
        )
    return indices


def index_in_clip(index: int, centre: int, last: int, frames: int, border: Border) -> int:
    """One index of a window, as :func:`window_indices`; mirrored where a clip is too short."""
    found = _filled_in(index, centre, last, frames, border)
    return found if 0 <= found <= last else reflected(index, last)


def _filled_in(index: int, centre: int, last: int, frames: int, border: Border) -> int:
    if 0 <= index <= last:
        return index
    before, half = index < 0, frames // 2
    if border == "replicate":
        return 0 if before else last
    if border == "reflection":
        return -index if before else 2 * last - index
    if border == "new_info":
        return centre + half - index if before else centre - half - (index - last)
    return frames + index if before else index - frames
