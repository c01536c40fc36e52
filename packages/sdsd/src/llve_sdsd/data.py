"""SDSD's data: clips in low and in normal light, matched by name, in windows of frames."""

from __future__ import annotations

from llve_common.data.clip import Clip
from llve_common.data.sdsd import layout
from llve_common.data.sdsd.windows import Windows, require_length
from llve_common.data.windows import Border
from llve_sdsd.config import Data, TestData, TrainData


def training_windows(chosen: TrainData, frames: int) -> Windows:
    """Windows of all clips but the test's.

    Args:
        chosen: the settings.
        frames: in a window.

    Raises:
        DataError: a folder is missing, or clips or frames do not match, or are too few.
    """
    return Windows(
        layout.training_clips(chosen),
        frames=frames,
        border=chosen.border,
        crop=chosen.crop,
        horizontal=chosen.flip_horizontal,
        vertical=chosen.flip_vertical,
    )


def test_clips(chosen: TestData, frames: int) -> list[Clip]:
    """The test's clips, long enough for windows of so many frames.

    Raises:
        DataError: as :func:`llve_common.data.sdsd.layout.test_clips`, or one is too short.
    """
    return _long_enough(layout.test_clips(chosen), frames, chosen.border)


def validation_clips(chosen: Data, frames: int) -> list[Clip]:
    """The clips to validate with, long enough for windows of so many frames.

    Raises:
        DataError: as :func:`llve_common.data.sdsd.layout.validation_clips`, or one is too short.
    """
    return _long_enough(layout.validation_clips(chosen), frames, chosen.border)


def _long_enough(clips: list[Clip], frames: int, border: Border) -> list[Clip]:
    for clip in clips:
        require_length(clip, frames, border)
    return clips
