"""Frames of one clip in a folder, their targets under the same names in another."""

from __future__ import annotations

import random

import torch

from llve_common.data.windows import reflected
from llve_common.io.images import read_image, to_tensor
from llve_common.paper.contract import Clip, Sample


class Windows:
    """Every window of five frames with the target of its middle one."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def __len__(self) -> int:
        return len(self.clip.frames)

    def sample(self, index: int, rng: random.Random) -> Sample:
        last = len(self) - 1
        paths = [self.clip.frames[reflected(index + offset, last)] for offset in range(-2, 3)]
        frames = torch.stack([to_tensor(read_image(path).pixels) for path in paths])
        target = to_tensor(read_image((self.clip.targets or self.clip.frames)[index]).pixels)
        if rng.random() < 0.5:
            frames, target = frames.flip(-1), target.flip(-1)
        return {"frames": frames, "target": target}
