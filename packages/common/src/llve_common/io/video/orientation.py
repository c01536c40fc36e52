"""Frames that are stored on their side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.buffer import Buffer
from av.sidedata.sidedata import Type

from llve_common.errors import MediaError
from llve_common.io.video.filters import FilterChain


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a rectangle on its grid: transpose first, then mirror."""

    transposed: bool
    columns_reversed: bool
    rows_reversed: bool

    @classmethod
    def of(cls, frame: av.VideoFrame, path: Path) -> Self:
        """What makes a decoded frame upright.

        Raises:
            MediaError: no quarter turn does.
        """
        data = _side_data(frame).get("DISPLAYMATRIX")
        if data is None:
            return cls(transposed=False, columns_reversed=False, rows_reversed=False)
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
        return cls(transposed, columns_reversed=bool(x < 0), rows_reversed=bool(y < 0))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright frame."""
        return (height, width) if self.transposed else (width, height)

    def turn(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A stored frame (H, W, 3) made upright, contiguous in memory."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.columns_reversed:
            pixels = pixels[:, ::-1]
        if self.rows_reversed:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def _side_data(frame: av.VideoFrame) -> Mapping[str, Buffer]:
    try:
        return cast("Mapping[str, Buffer]", frame.side_data)
    except ValueError:
        # PyAV does not know all kinds that its ffmpeg has, and then gives none.
        others = range(len(Type), 2 * len(Type))
        chain = FilterChain(*(f"sidedata=mode=delete:type={number}" for number in others))
        (frame,) = chain.frames(frame)
        return cast("Mapping[str, Buffer]", frame.side_data)
