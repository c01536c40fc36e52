"""Between a video's colour tags and the conversion of its pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
from av.video.reformatter import Colorspace

from llve_common.errors import MediaError
from llve_common.io.video.info import Colour

LIMITED_RANGE, FULL_RANGE = 1, 2
_RGB_MATRIX, _BT709_MATRIX, _UNSPECIFIED = 0, 1, 2

# H.273's code points and swscale's differ. An untagged clip is BT.601 to ffmpeg and OpenCV, with
# which the published results were made.
SWSCALE_MATRIX = {
    _BT709_MATRIX: Colorspace.ITU709,
    _UNSPECIFIED: Colorspace.ITU601,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}


def colour_of(frame: av.VideoFrame) -> Colour:
    """How a decoded frame's pixels are meant."""
    # The deprecated formats whose names start with yuvj are full range by definition.
    full = frame.format.name.startswith("yuvj")
    return Colour(
        range=FULL_RANGE if full else int(frame.color_range),
        matrix=_RGB_MATRIX if frame.format.is_rgb else int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


def swscale_matrix(frame: av.VideoFrame, path: Path) -> Colorspace | None:
    """The matrix that turns a decoded frame into RGB; None for a frame that is RGB.

    Raises:
        MediaError: the matrix is not supported.
    """
    return None if frame.format.is_rgb else SWSCALE_MATRIX[_known_matrix(colour_of(frame), path)]


def encoded_colour(colour: Colour, path: Path) -> Colour:
    """How a clip is stored that is made of one of this colour: likewise, but RGB as BT.709.

    Raises:
        MediaError: the matrix is not supported.
    """
    if colour.matrix == _RGB_MATRIX:
        return replace(colour, range=LIMITED_RANGE, matrix=_BT709_MATRIX)
    _known_matrix(colour, path)
    return colour


def _known_matrix(colour: Colour, path: Path) -> int:
    if colour.matrix not in SWSCALE_MATRIX:
        raise MediaError(
            "the video's colour matrix is not supported",
            where=path,
            got=f"H.273 matrix {colour.matrix}",
            expected=f"one of {sorted(SWSCALE_MATRIX)}, or RGB",
            mend="convert it to BT.709",
        )
    return colour.matrix
