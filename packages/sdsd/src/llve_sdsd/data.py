"""SDSD's data: clips in low and in normal light, matched by name, in windows of frames."""

from __future__ import annotations

from llve_common.data.clip import Clip, paired_clips
from llve_common.data.sdsd.layout import (
    clips_to_test,
    clips_to_train,
    clips_to_validate,
    set_folders,
    smid_clips,
)
from llve_common.data.sdsd.settings import TEST_FRAMES
from llve_common.data.sdsd.splits import split_names
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
        clips_to_train(all_clips(chosen), test_names(chosen)),
        frames=frames,
        border=chosen.border,
        crop=chosen.crop,
        horizontal=chosen.flip_horizontal,
        vertical=chosen.flip_vertical,
    )


def test_clips(chosen: TestData, frames: int) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Args:
        chosen: the settings.
        frames: in a window.

    Raises:
        DataError: a folder is missing, none of the clips is there, or they do not match, or are too
            short.
    """
    found = clips_to_test(all_clips(chosen), test_names(chosen), chosen.first)
    return _long_enough(found, frames, chosen.border)


def validation_clips(chosen: Data, frames: int) -> list[Clip]:
    """The test's clips as the test takes them, or none where training has none of them.

    Args:
        chosen: the settings.
        frames: in a window.

    Raises:
        DataError: a folder is missing, or clips or frames do not match, or are too few.
    """
    found = clips_to_validate(all_clips(chosen), test_names(chosen), TEST_FRAMES)
    return _long_enough(found, frames, chosen.border)


def all_clips(chosen: Data) -> list[Clip]:
    """All clips of a data set, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or clips or frames do not match.
    """
    low, high = set_folders(chosen.root, chosen.low, chosen.high)
    read = smid_clips if chosen.layout == "smid" else paired_clips
    return read(low, high, chosen.size)


def test_names(chosen: Data) -> tuple[str, ...]:
    """The names of the test's clips."""
    return split_names(chosen.test_clips, "smid" if chosen.layout == "smid" else "indoor")


def _long_enough(clips: list[Clip], frames: int, border: Border) -> list[Clip]:
    for clip in clips:
        require_length(clip, frames, border)
    return clips
