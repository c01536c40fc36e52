"""SDSD's network cut in two, so that neighbouring windows share their frames' features.

These are the halves of :class:`llve_common.paper.Stream`, each part of one frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from llve_sdsd.network import Pyramid, RetinexNet


class Part(NamedTuple):
    """What windows need of one frame: itself (N, 3, H, W), as the centre, and its features."""

    frame: Tensor
    pyramid: Pyramid


def part(network: nn.Module, frames: Tensor) -> Part:
    """The features of one frame (N, 1, 3, H, W), RGB in [0, 1], H and W multiples of 16.

    Raises:
        DataError: other sides.
    """
    assert isinstance(network, RetinexNet)
    frame = frames[:, 0]
    if frame.device.type == "cpu":
        # All that follows keeps this layout, in which a CPU's convolutions are faster.
        frame = frame.contiguous(memory_format=torch.channels_last)
    return Part(frame, network.pyramid(frame))


def combine(network: nn.Module, parts: list[Part], outputs: tuple[int, ...]) -> Tensor:
    """The enhanced centre frame (N, 1, 3, H, W), not clipped, of a window's parts in order."""
    assert isinstance(network, RetinexNet)
    pyramids = [each.pyramid for each in parts]
    return network.combine(parts[network.center].frame, pyramids).enhanced[:, None]
