"""Features of each frame, mixed into a gain for the middle one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Five(nn.Module):
    """Five frames (N, 5, 3, H, W), H and W multiples of 4, to the enhanced middle one."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(5 * width, 3 * 16, 3, padding=1)

    def part(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """A frame and its features at a quarter of its size."""
        return frame, self.norm(self.features(frame)).relu()

    def combine(self, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The middle frame (N, 3, H, W), enhanced."""
        gain = self.mix(torch.cat([features for _, features in parts], 1))
        return parts[2][0] * (1 + nn.functional.pixel_shuffle(gain, 4).sigmoid())

    def forward(self, frames: Tensor) -> Tensor:
        return self.combine([self.part(frame) for frame in frames.unbind(1)])
