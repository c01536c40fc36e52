"""SDSD's data: clips in low and in normal light, matched by name, in windows of frames."""

from llve_common.clips.clip import Clip
from llve_common.clips.windows import Border
from llve_common.data.pairs import held_out_pairs, training_pairs
from llve_common.data.sdsd import layout
from llve_common.data.sdsd.windows import Windows, require_length, require_whole_batch
from llve_common.paper.contract import Window
from llve_sdsd.config import TestSettings, TrainSettings
from llve_sdsd.network import MULTIPLE


def training_set(settings: TrainSettings) -> Windows:
    """Windows of all clips but the test's.

    Raises:
        ConfigError: the batch is larger than the set.
        DataError: a folder is missing, or clips or frames do not match, or are too few.
    """
    chosen, frames = settings.data, settings.network.frames
    own = [clip.at_least(frames) for clip in training_pairs(settings.pairs, "video")]
    data = Windows(
        own or layout.training_clips(chosen),
        frames=frames,
        border=chosen.border,
        crop=chosen.crop,
        horizontal=chosen.flip_horizontal,
        vertical=chosen.flip_vertical,
        multiple=MULTIPLE,
    )
    require_whole_batch(len(data), settings.train.batch_size)
    return data


def test_clips(settings: TestSettings, window: Window) -> list[Clip]:
    """The test's clips.

    Raises:
        DataError: as :func:`llve_common.data.sdsd.layout.test_clips`, or one is too short.
    """
    found = layout.test_clips(settings.data)
    return _long_enough(found, len(window.inputs), settings.data.border)


def validation_clips(settings: TrainSettings) -> list[Clip]:
    """The clips to validate with.

    Raises:
        DataError: as :func:`llve_common.data.sdsd.layout.validation_clips`, or one is too short.
    """
    if settings.pairs.low is not None:
        return held_out_pairs(settings.pairs, "video")
    found = layout.validation_clips(settings.data)
    return _long_enough(found, settings.network.frames, settings.data.border)


def _long_enough(clips: list[Clip], frames: int, border: Border) -> list[Clip]:
    for clip in clips:
        require_length(clip, frames, border)
    return clips
