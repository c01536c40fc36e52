"""Pictures that are stored on their side, as the numbers of EXIF's orientation say."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def upright(planes: NDArray[T], orientation: int) -> NDArray[T]:
    """A stored picture (H, W) or (H, W, channels) as it is seen, contiguous in memory.

    Args:
        planes: stored.
        orientation: 1 (as it is seen) to 8; from 5 on rows and columns change places.
    """
    if orientation > 4:
        planes = planes.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)
