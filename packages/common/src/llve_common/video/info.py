"""What a video says of itself, and one of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Sound that starts no earlier than this before the picture is the silence that codecs begin with.
PRIMING = Fraction(1, 10)


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
        path: the file; sound and subtitles are copied from it.
        width: of the upright frame, in pixels; so is ``height``.
        rate: average frames per second.
        time_base: seconds that one tick of the frame times lasts, 0.1 ms at most.
        frames: their number, as the file states or its duration suggests; None if unknown.
        pixel_aspect: width of a pixel over its height, upright; 1 where the file does not say.
        colour: of the frames read; RGB by default, as images are. A clip of high dynamic range is
            mapped to BT.709.
        chroma: sampling of the stored colour: 420, 422 or 444; 420 for RGB.
        has_audio: whether there is sound.
        has_subtitles: whether there are subtitles.
        origin: the clip's 0 in the clock of ``path``, in seconds.
        start: seconds of the clip that were left out, so that its frames' times start at 0.
        end: seconds from the clip's 0 to the end of the part that was read; None for the whole.
        keep_going: whether damage is passed over, in the sound as well.
        metadata: the file's tags.
        stream_metadata: the tags of its picture.
        chapters: as PyAV gives them, in the clip's clock.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int | None = None
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = Colour(matrix=0)
    chroma: str = "420"
    has_audio: bool = False
    has_subtitles: bool = False
    origin: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    keep_going: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class VideoFrame:
    """One frame, uint8 (height, width, 3) RGB, upright, and its presentation time in seconds."""

    pixels: npt.NDArray[np.uint8]
    time: Fraction


def readable(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as text; what is not UTF-8 and so stands in surrogates is taken for Windows-1252."""

    def read(text: str) -> str:
        stored = text.encode("utf-8", "surrogateescape")
        is_utf8 = stored.decode("utf-8", "replace") == text
        return text if is_utf8 else stored.decode("cp1252", "replace")

    return {read(key): read(value) for key, value in tags.items()}
