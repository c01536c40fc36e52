"""SDSD's data: clips in low and in normal light, matched by name, in windows of frames."""

from __future__ import annotations

from llve_common.data.clip import Clip
from llve_common.data.sdsd.layout import clips_of, clips_to_test, clips_to_train, clips_to_validate
from llve_common.data.sdsd.settings import TEST_FRAMES
from llve_common.data.sdsd.windows import Windows, require_length, require_whole_batch
from llve_common.paper.contract import Window
from llve_sdsd.config import Data, TestSettings, TrainSettings


def training_set(settings: TrainSettings) -> Windows:
    """Windows of all clips but the test's.

    Raises:
        ConfigError: the batch is larger than the set.
        DataError: a folder is missing, or clips or frames do not match, or are too few.
    """
    chosen = settings.data
    data = Windows(
        clips_to_train(all_clips(chosen), test_names(chosen)),
        frames=settings.network.frames,
        border=chosen.border,
        crop=chosen.crop,
        horizontal=chosen.flip_horizontal,
        vertical=chosen.flip_vertical,
    )
    require_whole_batch(len(data), settings.train.batch_size)
    return data


def test_clips(settings: TestSettings, window: Window) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Raises:
        DataError: a folder is missing, none of the clips is there, or they do not match, or are too
            short.
    """
    chosen = settings.data
    found = clips_to_test(all_clips(chosen), test_names(chosen), chosen.first)
    return _long_enough(found, len(window.inputs), chosen)


def validation_clips(settings: TrainSettings) -> list[Clip]:
    """The test's clips as the test takes them, or none where training has none of them.

    Raises:
        DataError: a folder is missing, or clips or frames do not match, or are too few.
    """
    chosen = settings.data
    found = clips_to_validate(all_clips(chosen), test_names(chosen), TEST_FRAMES)
    return _long_enough(found, settings.network.frames, chosen)


def all_clips(chosen: Data) -> list[Clip]:
    """All clips of a data set, sorted by name."""
    return clips_of(chosen, smid=chosen.layout == "smid")


def test_names(chosen: Data) -> tuple[str, ...]:
    """The names of the test's clips."""
    return chosen.test_names("smid" if chosen.layout == "smid" else "indoor")


def _long_enough(clips: list[Clip], frames: int, chosen: Data) -> list[Clip]:
    for clip in clips:
        require_length(clip, frames, chosen.border)
    return clips
