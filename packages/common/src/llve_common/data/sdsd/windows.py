"""Windows of frames to train on, cut and mirrored as the published SDSD training does."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llve_common.clips.clip import Clip, files_of, read_alike, require_pairs
from llve_common.clips.windows import Border, window_indices
from llve_common.errors import ConfigError, DataError
from llve_common.io.images import Pixels, to_tensor


class Windows:
    """Every frame of every clip with its neighbours, as the published SDSD training has them.

    A sample is ``{"frames": (T, 3, h, w), "target": (3, h, w)}``, float32 RGB in [0, 1].

    Args:
        clips: with ground truth.
        frames: T, an odd number.
        border: what stands in for frames beyond a clip's ends.
        crop: the side of a random square, as far as the frames are that large; None keeps all.
        horizontal: whether half of the samples are mirrored left to right.
        vertical: whether half of the samples are turned upside down.
        multiple: frames are cut at the bottom and right to sides that are multiples of this.

    Raises:
        DataError: a clip is too short for the border mode, or cannot be trained on.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        frames: int = 5,
        border: Border = "new_info",
        crop: int | None = None,
        horizontal: bool = False,
        vertical: bool = False,
        multiple: int = 1,
    ) -> None:
        self.frames, self.border, self.crop = frames, border, crop
        self.horizontal, self.vertical, self.multiple = horizontal, vertical, multiple
        self.items = [(clip, centre) for clip in clips for centre in range(len(clip.frames))]
        self.files = files_of(clips)
        for clip in clips:
            require_length(clip, frames, border)
            require_pairs(clip)

    def __len__(self) -> int:
        return len(self.items)

    def file(self, index: int) -> Path:
        """The frame in low light."""
        clip, place = self.items[index]
        return clip.frames[place]

    def sample(self, index: int, rng: random.Random) -> dict[str, Any]:
        """The window around one frame.

        Raises:
            MediaError: a frame cannot be decoded.
            DataError: two frames of a window differ in size.
        """
        clip, centre = self.items[index]
        assert clip.targets is not None
        places = window_indices(centre, len(clip.frames) - 1, self.frames, self.border)
        paths = [*(clip.frames[place] for place in places), clip.targets[centre]]
        images = read_alike(paths, clip.size, "window", self.multiple)
        *window, target = crop_and_flip(
            images, rng, crop=self.crop, horizontal=self.horizontal, vertical=self.vertical
        )
        return {"frames": torch.stack(window), "target": target}


def require_length(clip: Clip, frames: int, border: Border) -> None:
    """Refuse a clip that is too short for its windows, as far as its length is known.

    Raises:
        DataError: it is.
    """
    if clip.count is None:
        return
    last = clip.count - 1
    try:
        # Both ends: a window in the middle of a clip asks for less.
        for centre in {min(place, last) for place in range(frames)} | {last}:
            window_indices(centre, last, frames, border)
    except DataError as error:
        raise error.at(clip.place) from None


def crop_and_flip(
    images: Sequence[Pixels],
    rng: random.Random,
    *,
    crop: int | None,
    horizontal: bool,
    vertical: bool,
) -> list[Tensor]:
    """The same random square of several images, mirrored alike, as tensors.

    The draws are the published ones: row, column, horizontal, vertical; what is switched off draws
    nothing.

    Images are (H, W, 3) uint8 or uint16, all of one size, and become (3, h, w) float32 in [0, 1].
    What is switched on has the meaning that :class:`Windows` gives it.
    """
    height, width = images[0].shape[:2]
    rows, columns = slice(None), slice(None)
    if crop is not None:
        top = rng.randint(0, max(0, height - crop))
        left = rng.randint(0, max(0, width - crop))
        rows, columns = slice(top, top + crop), slice(left, left + crop)
    across = slice(None, None, -1 if horizontal and rng.random() < 0.5 else 1)
    down = slice(None, None, -1 if vertical and rng.random() < 0.5 else 1)
    return [to_tensor(image[rows, columns][down, across]) for image in images]


def require_whole_batch(samples: int, batch_size: int) -> None:
    """Refuse a batch that is larger than the set, with which the published training did nothing.

    Raises:
        ConfigError: it is.
    """
    if batch_size > samples:
        raise ConfigError(
            "the batch is larger than the data set",
            where="train.batch_size",
            got=f"{batch_size}, of {samples} samples",
            expected=f"at most {samples}",
        )
