"""STCD's network cut in two, so that neighbouring pairs share their common frame's features.

These are the halves of a :class:`Stream`, each part of one frame. The decoders,
which are most of the network's cost, run for the one frame alone that a pair gives.
"""

from torch import Tensor, nn

from llve_stcd.network import STCD, FrameFeatures


def part(network: nn.Module, frames: Tensor) -> FrameFeatures:
    """What a frame (N, 1, 3, H, W), RGB in [0, 1], brings into both pairs that it belongs to.

    Raises:
        DataError: H or W is no multiple of 4.
    """
    assert isinstance(network, STCD)
    return network.frame_features(frames[:, 0])


def combine(network: nn.Module, parts: list[FrameFeatures], outputs: tuple[int, ...]) -> Tensor:
    """The first of two frames enhanced from both frames' parts, (N, 1, 3, H, W) in [0, 1]."""
    assert isinstance(network, STCD)
    first, second = parts
    # The residual blocks mix both frames, so the second one's joint features are made all the same.
    joint, _ = network.interact(first, second)
    rgb, ill = network.decompose(first, joint)
    return (rgb * ill)[:, None]
