"""SDSD's network cut in two, so that neighbouring windows share their frames' features.

These are the halves of a :class:`Stream`, each part of one frame. In alignment, a convolution over
two frames' features side by side is the sum of one over each, so each frame's share is computed
once. Memory is channels last, in which convolutions are faster, but for a GPU's exact float32. On a
CPU, the widest features, of the frame's size, are made by blocks of rows: whole, the system would
have to hand out their memory, page by page, for every frame again.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_sdsd.network import (
    Branch,
    Pyramid,
    PyramidAlignment,
    RetinexNet,
    decomposed,
    few_in_float32,
)

# Bytes of the features of a block; larger pieces the C library asks the system for each time.
_BLOCK = 24 << 20
# Rows of half the size that one output row depends on, to either side.
_HALO = 2


class Part(NamedTuple):
    """What windows need of one frame.

    Attributes:
        frame: itself, (N, 3, H, W).
        features: its pyramid.
        own: its share in each level's first offset convolution where it is aligned.
        other: its share in these where others are aligned to it.
        cascade: its share in that of the last refinement, (N, nf, H/4, W/4), likewise.
    """

    frame: Tensor
    features: Pyramid
    own: Pyramid
    other: Pyramid
    cascade: Tensor


def part(network: nn.Module, frames: Tensor) -> Part:
    """The features of one frame (N, 1, 3, H, W), RGB in [0, 1], H and W multiples of 16.

    Raises:
        DataError: other sides.
    """
    assert isinstance(network, RetinexNet)
    # All that follows keeps this layout.
    frame = frames[:, 0].contiguous(memory_format=torch.channels_last)
    features, align = network.pyramid(frame), network.pcd_align
    convs = (align.L1_offset_conv1, align.L2_offset_conv1, align.L3_offset_conv1)
    own, other = (
        Pyramid(*(share(*each) for each in zip(convs, features, strict=True)))
        for share in (_first_half, _second_half)
    )
    cascade = _second_half(align.cas_offset_conv1, features.level1)
    return Part(frame, features, own, other, cascade)


def combine(network: nn.Module, parts: list[Part], outputs: tuple[int, ...]) -> Tensor:
    """The enhanced centre frame (N, 1, 3, H, W), not clipped, of a window's parts in order."""
    assert isinstance(network, RetinexNet)
    centre = parts[network.center]
    # A frame stands in for others at a clip's ends, and a single image for all.
    once = {id(each): each for each in parts}
    on_cpu = centre.frame.device.type == "cpu"
    align = _one_by_one if on_cpu else _at_once
    aligned = dict(zip(once, align(network.pcd_align, list(once.values()), centre), strict=True))
    fused = network.fuse([aligned[id(each)] for each in parts])
    reconstruct = _by_rows if on_cpu else _whole
    noise, light = (reconstruct(branch, fused) for branch in network.branches())
    return decomposed(centre.frame, noise, light).enhanced[:, None]


def _one_by_one(align: PyramidAlignment, parts: list[Part], centre: Part) -> list[Tensor]:
    """Each frame's features where the centre frame has them; what it works on stays small."""
    return [_aligned(align, each, centre) for each in parts]


def _at_once(align: PyramidAlignment, parts: list[Part], centre: Part) -> list[Tensor]:
    """The same as one batch: a GPU computes one frame sooner than Python asks for it."""
    batch = Part(*map(_batched, zip(*parts, strict=True)))
    centres = Part(*map(_batched, zip(*[centre] * len(parts), strict=True)))
    return list(_aligned(align, batch, centres).chunk(len(parts)))


def _batched(same: tuple[Any, ...]) -> Any:
    """What several parts have under one name, as one."""
    if isinstance(same[0], Tensor):
        return torch.cat(same)
    return Pyramid(*map(torch.cat, zip(*same, strict=True)))


def _aligned(align: PyramidAlignment, part: Part, centre: Part) -> Tensor:
    """The features (N, nf, H/4, W/4) of a frame where the centre frame has them."""
    pairs = zip(part.own, centre.other, strict=True)
    aligned = align.coarse_to_fine(part.features, Pyramid(*(own + other for own, other in pairs)))
    compared = _first_half(align.cas_offset_conv1, aligned) + centre.cascade
    return align.cascade(aligned, compared)


def _first_half(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """What a convolution over two maps side by side makes of the first; without its bias."""
    return F.conv2d(features, conv.weight[:, : features.shape[1]], None, padding=1)


def _second_half(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """What it makes of the second; with its bias."""
    return F.conv2d(features, conv.weight[:, -features.shape[1] :], conv.bias, padding=1)


def _by_rows(branch: Branch, fused: Tensor) -> Tensor:
    """The same, from half the size on by blocks of rows."""
    features = _upsampled(branch.upconv1, branch.trunk(fused))
    height, width = features.shape[-2:]
    row_bytes = 4 * features.element_size() * branch.upconv2.out_channels * width * len(features)
    rows = max(_BLOCK // row_bytes, 1)
    blocks = []
    for start in range(0, height, rows):
        end = min(start + rows, height)
        first, beyond = max(start - _HALO, 0), min(end + _HALO, height)
        block = _finished(branch, features[:, :, first:beyond])
        blocks.append(block[:, :, 2 * (start - first) : 2 * (end - first)])
    return torch.cat(blocks, 2)


def _whole(branch: Branch, fused: Tensor) -> Tensor:
    """What :func:`llve_sdsd.network.reconstructed` makes, channels last."""
    return _finished(branch, _upsampled(branch.upconv1, branch.trunk(fused)))


def _finished(branch: Branch, half: Tensor) -> Tensor:
    """From half the size to the image."""
    with few_in_float32(branch, half) as features:
        features = _upsampled(branch.upconv2, features)
        image: Tensor = branch.last(F.leaky_relu_(branch.last_but_one(features), 0.1))
        return image


def _upsampled(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """Convolution, pixel shuffle and activation, channels last.

    The convolution's outputs are put in another order, with the channels of each fine pixel side by
    side: shuffling moves them as one piece, and not one by one.
    """
    weight, bias = (_by_pixel(each) for each in (conv.weight, conv.bias))
    wide = F.leaky_relu_(F.conv2d(features, weight, bias, padding=1), 0.1)
    count, outputs, height, width = wide.shape
    fine = wide.permute(0, 2, 3, 1).reshape(count, height, width, 2, 2, outputs // 4)
    fine = fine.transpose(2, 3).reshape(count, 2 * height, 2 * width, outputs // 4)
    return fine.permute(0, 3, 1, 2)


def _by_pixel(values: Tensor | None) -> Tensor:
    assert values is not None
    return values.reshape(-1, 4, *values.shape[1:]).transpose(0, 1).reshape(values.shape)
