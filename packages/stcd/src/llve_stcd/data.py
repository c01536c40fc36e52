"""STCD's data: two frames of a clip, in low and in normal light."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from llve_common.clips.clip import Clip, files_of, read_alike, require_pairs
from llve_common.io.images import to_tensor
from llve_stcd.matchers import Matches
from llve_stcd.network import MULTIPLE


class FramePairs:
    """Every frame of every clip with a neighbour, whole, as the published training has them.

    Sides that the network does not take are cut at the bottom and right.

    A sample is ``{"low1", "high1", "low2", "high2"}``, each (3, H, W) float32 RGB in [0, 1]: a
    frame and its ground truth, then its neighbour's. The neighbour is the frame before, the frame
    itself or the frame after, as far as the clip has them, with equal chances. ``matches`` of both
    ground truths are with them where they are found here, by the processes that load data.

    Args:
        clips: with ground truth.
        match: finds the matches of two batches of frames; None leaves them to the objective.

    Raises:
        DataError: a clip cannot be trained on.
    """

    def __init__(
        self, clips: Sequence[Clip], match: Callable[[Tensor, Tensor], Matches] | None = None
    ) -> None:
        for clip in clips:
            require_pairs(clip)
        self.files, self.match = files_of(clips), match
        self.items = [(clip, index) for clip in clips for index in range(len(clip.frames))]

    def __len__(self) -> int:
        return len(self.items)

    def file(self, index: int) -> Path:
        """The frame in low light."""
        clip, place = self.items[index]
        return clip.frames[place]

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
        images = map(to_tensor, read_alike(paths, clip.size, "pair", MULTIPLE))
        sample: dict[str, Any] = dict(zip(("low1", "high1", "low2", "high2"), images, strict=True))
        if self.match is not None:
            found = self.match(sample["high1"][None], sample["high2"][None])
            sample["matches"] = Matches(*(each[0] for each in found))
        return sample
