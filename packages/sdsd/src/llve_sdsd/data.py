"""SDSD's data: clips in low and in normal light, matched by name, in windows of frames."""

from __future__ import annotations

from pathlib import Path

from llve_common.data.clips import (
    Clip,
    Windows,
    clip_folders,
    clips_to_test,
    clips_to_train,
    either_name,
    low_and_high,
    paired_clips,
    require_length,
    smid_clips,
)
from llve_common.data.splits import SDSD_INDOOR_TEST, SMID_TEST
from llve_sdsd.config import TEST_FRAMES, Data, TrainData


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


def test_clips(chosen: Data, first: int | None, frames: int) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Args:
        chosen: the settings.
        first: how many frames of each to keep; None keeps all.
        frames: in a window.

    Raises:
        DataError: a folder is missing, none of the clips is there, or they do not match, or are too
            short.
    """
    clips = clips_to_test(all_clips(chosen), test_names(chosen), first)
    for clip in clips:
        require_length(clip, frames, chosen.border)
    return clips


def validation_clips(chosen: Data, frames: int) -> list[Clip]:
    """The test's clips as the test takes them, or none where training has none of them.

    Args:
        chosen: the settings.
        frames: in a window.
    """
    low, _ = folders(chosen)
    there = {folder.name for folder in clip_folders(low)}
    names = tuple(name for name in test_names(chosen) if name in there)
    known = chosen.model_copy(update={"test_clips": names})
    return test_clips(known, TEST_FRAMES, frames) if names else []


def all_clips(chosen: Data) -> list[Clip]:
    """All clips of a data set, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or clips or frames do not match.
    """
    low, high = folders(chosen)
    read = smid_clips if chosen.layout == "smid" else paired_clips
    return read(low, high, chosen.size)


def folders(chosen: Data) -> tuple[Path, Path | None]:
    """The input's folder and the ground truth's; None where there is none by the data's layout.

    Raises:
        DataError: the root is missing or laid out otherwise.
    """
    low, high = (None if each is None else either_name(each) for each in (chosen.low, chosen.high))
    if low is None:
        low, beside = low_and_high(either_name(chosen.root))
        if high is None and beside.is_dir():
            high = beside
    return low, high


def test_names(chosen: Data) -> tuple[str, ...]:
    """The names of the test's clips."""
    if chosen.test_clips is not None:
        return chosen.test_clips
    return SMID_TEST if chosen.layout == "smid" else SDSD_INDOOR_TEST
