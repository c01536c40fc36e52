"""Between a video's pixels, as its colour tags mean them, and RGB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from llve_common.errors import MediaError
from llve_common.video.filters import FilterChain
from llve_common.video.info import Colour

LIMITED_RANGE, FULL_RANGE = 1, 2
_RGB_MATRIX, _BT709, _UNSPECIFIED, _BT2020 = 0, 1, 2, 9
_HDR = {16: "PQ", 18: "HLG"}

# H.273's code points and swscale's differ. An untagged clip is BT.601 to ffmpeg and OpenCV, with
# which the published results were made.
SWSCALE_MATRIX = {
    _BT709: Colorspace.ITU709,
    _UNSPECIFIED: Colorspace.ITU601,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    _BT2020: Colorspace.BT2020,
}
# The default is up to 3 levels low, and in the range of a grey picture's chroma.
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# A frame without chroma is full range to swscale whatever its tag says.
_LIMITED_LEVELS = np.rint(((np.arange(256) - 16) * 255 / 219).clip(0, 255)).astype(np.uint8)
# swscale's perceptual intent: a spline through the tones in perceptual quantisation, and a gamut
# mapping that keeps hues, in the range that the clip's mastering display had.
_TONE_MAPPING = (
    f"scale=out_primaries=bt709:out_transfer=bt709:intent=perceptual:flags={int(EXACT)}",
    "format=gbrp",
)


class RgbConverter:
    """Decoded frames of a clip to uint8 (H, W, 3) RGB, as stored; HDR ones mapped to BT.709.

    A grey frame (no chroma, or neutral chroma everywhere) becomes R = G = B exactly.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._reformatter = VideoReformatter()
        self._tone_mapping = FilterChain(*_TONE_MAPPING)

    def __call__(self, frame: av.VideoFrame, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Convert one frame, at another size if it is of another.

        Raises:
            MediaError: the matrix is not supported.
        """
        colour = colour_of(frame)
        limited_grey = frame.format.name.startswith("gray") and colour.range == LIMITED_RANGE
        if hdr_name(colour):
            frame.colorspace = _BT2020 if colour.matrix == _UNSPECIFIED else colour.matrix
            if colour.primaries == _UNSPECIFIED:
                frame.color_primaries = _BT2020
            (frame,) = self._tone_mapping.frames(frame)
        planes = self._reformatter.reformat(
            frame,
            width,
            height,
            format="gbrp",
            src_colorspace=swscale_matrix(frame, self._path),
            src_color_range=colour_of(frame).range or LIMITED_RANGE,
            dst_color_range=FULL_RANGE,
            interpolation=EXACT,
            threads=self._threads,
        )
        pixels = _packed(planes)
        return _LIMITED_LEVELS[pixels] if limited_grey else pixels


def _packed(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """A frame of format gbrp as (H, W, 3) RGB, which swscale takes three times as long to make."""
    import cv2

    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : frame.width]
        for plane in frame.planes
    )
    return np.asarray(cv2.merge([red, green, blue]), np.uint8)


def hdr_name(colour: Colour) -> str | None:
    """The name of a high dynamic range's transfer function, None for another."""
    return _HDR.get(colour.transfer)


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


def displayed_colour(colour: Colour) -> Colour:
    """How the frames that are read are meant: as the clip's own, but BT.709 for HDR."""
    return Colour(LIMITED_RANGE, _BT709, _BT709, _BT709) if hdr_name(colour) else colour


def chroma_of(frame: av.VideoFrame) -> str:
    """A decoded frame's chroma sampling, of those that a writer has: 420, 422 or 444."""
    form, width, height = frame.format, frame.width, frame.height
    if form.is_rgb or len(form.components) < 3 or form.chroma_height(height) < height:
        return "420"
    return "444" if form.chroma_width(width) == width else "422"


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether a decoded frame shows through somewhere."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    return has_alpha and bool(frame.to_ndarray(format="rgba")[..., 3].min() < 255)


def swscale_matrix(frame: av.VideoFrame, path: Path) -> Colorspace | None:
    """The matrix that turns a decoded frame into RGB; None for a frame that is RGB or grey.

    Raises:
        MediaError: the matrix is not supported.
    """
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return None
    return SWSCALE_MATRIX[_known_matrix(colour_of(frame), path)]


def encoded_colour(colour: Colour, path: Path, *, as_rgb: bool) -> Colour:
    """How a clip is stored, as RGB or not, that is made of one of this colour.

    Without RGB it is likewise, but BT.709 for a clip of RGB.

    Raises:
        MediaError: the matrix is not supported.
    """
    if as_rgb:
        return replace(colour, range=FULL_RANGE, matrix=_RGB_MATRIX)
    if colour.matrix == _RGB_MATRIX:
        # sRGB has BT.709's primaries, and MP4 leaves out all tags where one is missing.
        tags = (colour.primaries, colour.transfer)
        return Colour(
            LIMITED_RANGE, _BT709, *(_BT709 if tag == _UNSPECIFIED else tag for tag in tags)
        )
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
