"""What a video says of itself, and one of its frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Colour:
    """How a clip's pixels are meant, as the code points of ITU-T H.273 (ffmpeg's ``AVCOL_*``).

    Attributes:
        range: 0 not stated, 1 limited (luma 16 to 235), 2 full (0 to 255).
        matrix: between RGB and YCbCr: 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 0 none (the clip is
            RGB), 2 not stated.
        primaries: colour primaries; 2 not stated.
        transfer: transfer characteristics; 2 not stated.
    """

    range: int = 0
    matrix: int = 2
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True)
class VideoInfo:
    """What a writer has to know of a clip, and a user may want to.

    Attributes:
        path: the file; sound is copied from it.
        width: of the upright frame, in pixels; so is ``height``.
        rate: average frames per second.
        time_base: seconds that one tick of the frame times lasts.
        frames: their number, as the file states or its duration suggests; None if unknown.
        duration: seconds; None if unknown.
        rotation: degrees, counter-clockwise, that the stored frames are turned by for display;
            0, 90, 180 or 270. ``width``, ``height`` and every frame read have it applied.
        pixel_aspect: width of a pixel over its height, upright; 1 where the file does not say.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int | None = None
    duration: Fraction | None = None
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = Colour()
    has_audio: bool = False


@dataclass(frozen=True)
class VideoFrame:
    """One frame, uint8 (height, width, 3) RGB, upright, and its presentation time in seconds."""

    pixels: npt.NDArray[np.uint8]
    time: Fraction
