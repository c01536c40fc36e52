"""STCD's data: two frames of a clip, in low and in normal light."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from llve_common.data.clip import Clip, read_frame
from llve_common.data.sdsd.layout import clips_of, clips_to_test, clips_to_train, clips_to_validate
from llve_common.data.sdsd.settings import TEST_FRAMES
from llve_common.data.sdsd.windows import require_one_size, require_pairs, require_whole_batch
from llve_common.io.images import to_tensor
from llve_common.paper.contract import Window
from llve_stcd.config import TestSettings, TrainSettings


class FramePairs:
    """Every frame of every clip with a neighbour, whole, as the published training has them.

    A sample is ``{"low1", "high1", "low2", "high2"}``, each (3, H, W) float32 RGB in [0, 1]: a
    frame and its ground truth, then its neighbour's. The neighbour is the frame before, the frame
    itself or the frame after, as far as the clip has them, with equal chances.

    Raises:
        DataError: a clip has no ground truth, or is a video.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        for clip in clips:
            require_pairs(clip)
        self.items = [(clip, index) for clip in clips for index in range(len(clip.frames))]

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, rng: random.Random) -> dict[str, Any]:
        """One frame and a neighbour drawn from ``rng``.

        Raises:
            MediaError: a frame cannot be decoded.
            DataError: the four images differ in size.
        """
        clip, first = self.items[index]
        assert clip.targets is not None
        # The published range is cut to the clip before the draw.
        second = rng.randint(max(first - 1, 0), min(first + 1, len(clip.frames) - 1))
        paths = [side[place] for place in (first, second) for side in (clip.frames, clip.targets)]
        images = [read_frame(path, clip.size) for path in paths]
        require_one_size(paths, images, "pair")
        return dict(zip(("low1", "high1", "low2", "high2"), map(to_tensor, images), strict=True))


def training_set(settings: TrainSettings) -> FramePairs:
    """Pairs of frames of all clips but the test's.

    Raises:
        ConfigError: the batch is larger than the set.
        DataError: a folder is missing, or clips or frames do not match.
    """
    chosen = settings.data
    data = FramePairs(clips_to_train(clips_of(chosen), chosen.test_names()))
    require_whole_batch(len(data), settings.train.batch_size)
    return data


def test_clips(settings: TestSettings, window: Window) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Raises:
        DataError: a folder is missing, none of the clips is there, or they do not match.
    """
    chosen = settings.data
    return clips_to_test(clips_of(chosen), chosen.test_names(), chosen.first)


def validation_clips(settings: TrainSettings) -> list[Clip]:
    """The test's clips as the test takes them, or none where training has none of them.

    Raises:
        DataError: a folder is missing, or clips or frames do not match.
    """
    chosen = settings.data
    return clips_to_validate(clips_of(chosen), chosen.test_names(), TEST_FRAMES)
