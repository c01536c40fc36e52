"""STCD's data: two frames of a clip, in low and in normal light."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from llve_common.data.clip import Clip, paired_clips, read_frame
from llve_common.data.sdsd.layout import (
    clips_to_test,
    clips_to_train,
    clips_to_validate,
    set_folders,
)
from llve_common.data.sdsd.settings import TEST_FRAMES, ClipData, ClipTestData
from llve_common.data.sdsd.splits import split_names
from llve_common.errors import DataError
from llve_common.io.images import to_tensor


class FramePairs:
    """Every frame of every clip with a neighbour, whole, as the published training has them.

    A sample is ``{"low1", "high1", "low2", "high2"}``, each (3, H, W) float32 RGB in [0, 1]: a
    frame and its ground truth, then its neighbour's. The neighbour is the frame before, the frame
    itself or the frame after, as far as the clip has them, with equal chances.

    Args:
        clips: with ground truth.

    Raises:
        DataError: a clip has no ground truth.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        for clip in clips:
            if clip.targets is None:
                raise DataError("the clip has no ground truth", where=clip.frames[0].parent)
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
        paths = {
            "low1": clip.frames[first],
            "high1": clip.targets[first],
            "low2": clip.frames[second],
            "high2": clip.targets[second],
        }
        images = {name: read_frame(path, clip.size) for name, path in paths.items()}
        for name, image in images.items():
            if image.shape != images["low1"].shape:
                raise DataError(
                    "the frames of a pair differ in size",
                    where=paths[name],
                    got=f"{image.shape[1]}x{image.shape[0]}",
                    expected=f"{images['low1'].shape[1]}x{images['low1'].shape[0]}",
                )
        return {name: to_tensor(image) for name, image in images.items()}


def training_pairs(chosen: ClipData) -> FramePairs:
    """Pairs of frames of all clips but the test's.

    Raises:
        DataError: a folder is missing, or clips or frames do not match.
    """
    names = split_names(chosen.test_clips, "indoor")
    return FramePairs(clips_to_train(all_clips(chosen), names))


def test_clips(chosen: ClipTestData) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Raises:
        DataError: a folder is missing, none of the clips is there, or they do not match.
    """
    names = split_names(chosen.test_clips, "indoor")
    return clips_to_test(all_clips(chosen), names, chosen.first)


def validation_clips(chosen: ClipData) -> list[Clip]:
    """The test's clips as the test takes them, or none where training has none of them.

    Raises:
        DataError: a folder is missing, or clips or frames do not match.
    """
    names = split_names(chosen.test_clips, "indoor")
    return clips_to_validate(all_clips(chosen), names, TEST_FRAMES)


def all_clips(chosen: ClipData) -> list[Clip]:
    """All clips of a data set, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or clips or frames do not match.
    """
    low, high = set_folders(chosen.root, chosen.low, chosen.high)
    return paired_clips(low, high, chosen.size)
