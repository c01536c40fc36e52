"""STCD bound to the core's contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llve_common.paper import State, Stream, Window
from llve_stcd.network import STCD, FrameFeatures
from llve_stcd.weights import channels, front_blocks


def inference_network(state: State) -> nn.Module:
    """The network of the width and depth that the weights have."""
    return STCD(channels(state), front_blocks(state))


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """The first of two frames (N, 2, 3, H, W) in [0, 1], enhanced: (N, 1, 3, H, W)."""
    enhanced: Tensor = network(frames[:, 0], frames[:, 1]).enhanced1
    return enhanced[:, None]


def frame_part(network: nn.Module, frames: Tensor) -> FrameFeatures:
    """What a frame (N, 1, 3, H, W) brings into both pairs that it belongs to."""
    features: FrameFeatures = network.frame_features(frames[:, 0])  # type: ignore[operator]
    return features


def combine(network: nn.Module, parts: list[Any], outputs: tuple[int, ...]) -> Tensor:
    """The first of two frames enhanced from both frames' parts, (N, 1, 3, H, W).

    The second frame's joint features are needed, because the residual blocks mix both; its
    decoders, which are most of the network's cost, are not.
    """
    joint, _ = network.interact(*parts)  # type: ignore[operator]
    rgb, ill = network.decompose(parts[0], joint)  # type: ignore[operator]
    return torch.mul(rgb, ill)[:, None]


# As published, the last frame is paired with itself.
WINDOW = Window(inputs=(0, 1), outputs=(0,), multiple=4, border="replicate")
STREAM = Stream(frames=(0,), parts=(0, 1), part=frame_part, combine=combine)
