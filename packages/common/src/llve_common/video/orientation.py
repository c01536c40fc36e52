"""Frames that are stored on their side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import Type

from llve_common.errors import MediaError
from llve_common.video.filters import FilterChain

# By whether columns and rows are reversed; 4 more where rows and columns change places before.
_NUMBERS = {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}


def orientation_of(frame: av.VideoFrame, path: Path) -> int:
    """How a decoded frame lies, as the number of :func:`~llve_common.io.decoders.upright`.

    Raises:
        MediaError: no quarter turn makes it upright.
    """
    data = _side_data(frame).get("DISPLAYMATRIX")
    if data is None:
        return 1
    # A stored point (x, y) is displayed at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
    if (a or d) and (b or c):
        raise MediaError(
            "the video is turned by an angle that is no multiple of 90 degrees",
            where=path,
            got=f"{frame.rotation} degrees",
            mend="remove its rotation tag",
        )
    transposed = not (a or d)
    x, y = (c, b) if transposed else (a, d)
    return _NUMBERS[bool(x < 0), bool(y < 0)] + 4 * transposed


def _side_data(frame: av.VideoFrame) -> Mapping[str, Buffer]:
    try:
        return cast("Mapping[str, Buffer]", frame.side_data)
    except ValueError:
        # PyAV does not know all kinds that its ffmpeg has, and then gives none.
        others = range(len(Type), 2 * len(Type))
        chain = FilterChain(*(f"sidedata=mode=delete:type={number}" for number in others))
        (frame,) = chain.frames(frame)
        return cast("Mapping[str, Buffer]", frame.side_data)
