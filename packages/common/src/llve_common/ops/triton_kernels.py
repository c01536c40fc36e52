"""Deformable convolution in Triton, for CUDA devices.

Triton comes with CUDA builds of torch; this module is imported only when it is asked for. Some
images at a time are sampled into columns (n L, C K), which torch multiplies by the weight;
L = H' W'. The channels of a deformable group lie side by side for that, (n, G, H, W, C / G): each
corner of a sample is then one short read. Sums are taken in float32. The gradient of the image is
summed atomically, so its last digits may vary.

``TRITON_INTERPRET=1`` makes Triton's interpreter run the kernel on a CPU, slowly, for tests.
"""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
import triton
import triton.language as tl
from torch import Tensor

from llve_common.ops.implementation import Operands, Unavailable

# Bytes of a tile, 16 for each of a program's threads, and the width in positions: neighbours in
# both directions sample the same pixels.
_TILE, _TILE_WIDTH = 2048, 16
# Values in the columns of a launch: half a gigabyte of float32.
_ROOM = 2**27
# Parts of the weight's gradient, a sum over all positions, which are summed at the same time.
_PARTS = 32
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Check that kernels can run for this kind of tensors."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if dtype not in _TYPES or not (device.type == "cuda" or interpreted):
        raise Unavailable(
            f"Triton is for float32, float16 and bfloat16 on a CUDA device, not for {dtype} on"
            f" {device}"
        )


class _Groups(NamedTuple):
    """How channels are grouped, worked out once for all functions below."""

    convolution: int
    deformable: int
    run: int
    """Channels at a time that belong to one group of either kind."""
    taps: int

    @classmethod
    def of(cls, operands: Operands) -> Self:
        _, each, height, width = operands.weight.shape
        channels, taps = operands.image.shape[1], height * width
        deformable = operands.mask.shape[1] // taps
        run = math.gcd(channels // deformable, each)
        return cls(channels // each, deformable, run, taps)


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output (N, C', H', W'), channels last in memory."""
    image, _, mask, weight, _ = operands
    groups = _Groups.of(operands)
    matrix = _matrix(weight, groups)
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    output = torch.empty(
        (len(image), len(weight), *mask.shape[2:]), dtype=image.dtype, device=image.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    for some, columns, (result,) in _parts(operands, groups, output):
        _sample(some, groups, columns)
        rows = _rows(result)
        if groups.convolution == 1:
            # One kernel, which adds the bias too.
            torch.addmm(bias, columns, matrix.squeeze(0).t(), out=rows)
            continue
        sampled, rows = _grouped(columns, groups), _grouped(rows, groups)
        torch.baddbmm(_grouped(bias[None], groups), sampled, matrix.mT, out=rows)
    return output


def backward(grad_output: Tensor, operands: Operands) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of image, offset, mask and weight."""
    image, offset, mask, weight, _ = operands
    groups = _Groups.of(operands)
    matrix = _matrix(weight, groups)
    shape = _side_by_side(image, groups).shape
    grad_image = torch.zeros(shape, dtype=torch.float32, device=image.device)
    grad_offset, grad_mask = offset.new_empty(offset.shape), mask.new_empty(mask.shape)
    grad_matrix = torch.zeros_like(matrix, dtype=torch.float32)
    parts = _parts(operands, groups, grad_output, grad_image, grad_offset, grad_mask)
    for some, columns, (result, *grads) in parts:
        grad, grad_columns = _grouped(_rows(result), groups), torch.empty_like(columns)
        torch.bmm(grad, matrix, out=_grouped(grad_columns, groups))
        _sample(some, groups, columns, grad_columns, *grads)
        sums = (math.gcd(len(columns), _PARTS), -1)
        grad, sampled = (each.unflatten(1, sums) for each in (grad, _grouped(columns, groups)))
        grad_matrix += torch.matmul(grad.mT, sampled).sum(1, dtype=torch.float32)
    by_image = torch.empty_like(image)
    _side_by_side(by_image, groups).copy_(grad_image)
    by_weight = grad_matrix.unflatten(2, (-1, groups.taps, groups.run)).transpose(3, 4)
    return by_image, grad_offset, grad_mask, by_weight.reshape(weight.shape).to(weight.dtype)


def _matrix(weight: Tensor, groups: _Groups) -> Tensor:
    """The weight as (g, C'/g, C/g K), for g convolution groups, in the order of the columns.

    Those are in runs of channels, and in a run tap by tap.
    """
    shape = (groups.convolution, len(weight) // groups.convolution, -1, groups.run, groups.taps)
    return weight.reshape(shape).transpose(3, 4).flatten(2)


def _grouped(rows: Tensor, groups: _Groups) -> Tensor:
    """(n L, C') or (n L, C K) by convolution groups: (g, n L, C'/g) or (g, n L, C/g K)."""
    return rows.view(len(rows), groups.convolution, -1).transpose(0, 1)


def _rows(images: Tensor) -> Tensor:
    """(n, C', H', W') as (n L, C')."""
    return images.permute(0, 2, 3, 1).flatten(0, 2)


def _side_by_side(images: Tensor, groups: _Groups) -> Tensor:
    """(n, C, H, W) as (n, G, H, W, C / G)."""
    count, channels, *size = images.shape
    shape = (count, groups.deformable, channels // groups.deformable, *size)
    return images.view(shape).permute(0, 1, 3, 4, 2)


def _parts(
    operands: Operands, groups: _Groups, *others: Tensor
) -> Iterator[tuple[Operands, Tensor, list[Tensor]]]:
    """As many images at a time as there is room for, with their columns, not filled in yet.

    The same images' parts of the other tensors come with them.
    """
    image, _, mask, weight, geometry = operands
    total, length = len(image), image.shape[1] * groups.taps
    positions = mask.shape[2] * mask.shape[3]
    count = max(_ROOM // (length * positions), 1)
    for first in range(0, total, count):
        image, offset, mask, *rest = (
            each if count >= total else each[first : first + count]
            for each in (operands.image, operands.offset, operands.mask, *others)
        )
        columns = image.new_empty(len(image) * positions, length)
        yield Operands(image, offset, mask, weight, geometry), columns, rest


def _sample(operands: Operands, groups: _Groups, columns: Tensor, *grads: Tensor) -> None:
    """Fill in the columns of some images, and with those of the columns the other gradients."""
    image, offset, mask, weight, geometry = operands
    image = _side_by_side(image, groups).contiguous()
    count, _, height, width, channels = image.shape
    # By Python's integers: Triton's functions for these take several times as long, from outside.
    lanes = 1 << (channels - 1).bit_length()
    # The gradient of the image is float32; to arrange its values anew among threads takes long.
    tile = max(_TILE // (4 if grads else image.element_size()) // lanes, 1)
    tile_width = min(tile, _TILE_WIDTH)
    rows, across = mask.shape[2:]
    tiles = -(-rows // (tile // tile_width)) * -(-across // tile_width)
    with torch.cuda.device_of(image):  # Triton launches on the current one
        _sample_tile[(count * groups.deformable * tiles,)](
            image, offset.contiguous(), mask.contiguous(), columns, *(grads or (None,) * 4),
            groups.deformable, height, width, rows, across, columns.shape[1],
            *geometry.stride, *geometry.padding, *geometry.dilation,
            taps=groups.taps, kernel_width=weight.shape[3],
            channels=channels, run=groups.run, lanes=lanes, tile=tile, tile_width=tile_width,
        )  # fmt: skip


@triton.jit
def _corners(at, below, right, has_top, has_bottom, has_left, has_right):
    """The four pixels around each sample, 0 where there is none."""
    return (
        tl.load(at, mask=has_top & has_left, other=0.0).to(tl.float32),
        tl.load(at + right, mask=has_top & has_right, other=0.0).to(tl.float32),
        tl.load(at + below, mask=has_bottom & has_left, other=0.0).to(tl.float32),
        tl.load(at + below + right, mask=has_bottom & has_right, other=0.0).to(tl.float32),
    )


@triton.jit
def _sample_tile(
    image, offset, mask, columns, grad_columns, grad_image, grad_offset, grad_mask,
    groups, height, width, output_height, output_width, row_length,
    stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    taps: tl.constexpr, kernel_width: tl.constexpr, channels: tl.constexpr, run: tl.constexpr,
    lanes: tl.constexpr, tile: tl.constexpr, tile_width: tl.constexpr,
):  # fmt: skip
    """Fill in the columns of a tile of positions for a deformable group.

    The groups of a tile come one after the other, so that rows of the columns are soon whole. With
    the gradient of the columns, fill in those of offset and mask, and add to that of the image.
    """
    group, block = tl.program_id(0) % groups, tl.program_id(0) // groups
    across, down = tl.cdiv(output_width, tile_width), tl.cdiv(output_height, tile // tile_width)
    number = (block // across // down).to(tl.int64)
    place, lane = tl.arange(0, tile), tl.arange(0, lanes)
    row = block // across % down * (tile // tile_width) + place // tile_width
    column = block % across * tile_width + place % tile_width
    live = (row < output_height) & (column < output_width)
    wanted = live[:, None] & (lane < channels)[None, :]
    positions, position = output_height * output_width, row * output_width + column
    first = number * groups + group
    channel = group * channels + lane
    values = ((number * positions + position) * row_length)[:, None]
    values += (channel // run * (run * taps) + channel % run)[None, :]
    for tap in range(taps):
        # Where a map of the mask starts; the offset has two for each.
        start = (first * taps + tap) * positions
        at = offset + 2 * start + position
        y = row * stride_y - padding_y + tap // kernel_width * dilation_y
        x = column * stride_x - padding_x + tap % kernel_width * dilation_x
        y = y.to(tl.float32) + tl.load(at, mask=live, other=0.0).to(tl.float32)
        x = x.to(tl.float32) + tl.load(at + positions, mask=live, other=0.0).to(tl.float32)
        share = tl.load(mask + start + position, mask=live, other=0.0).to(tl.float32)[:, None]
        inside = live & (y > -1) & (y < height) & (x > -1) & (x < width)
        # Positions far outside, or not a number, have no index.
        y, x = tl.where(inside, y, 0.0), tl.where(inside, x, 0.0)
        top, left = tl.floor(y), tl.floor(x)
        v, h = (y - top)[:, None], (x - left)[:, None]
        has_top = wanted & (inside & (top >= 0))[:, None]
        has_bottom = wanted & (inside & (top + 1 < height))[:, None]
        has_left, has_right = (left >= 0)[:, None], (left + 1 < width)[:, None]
        pixel = top.to(tl.int32) * width + left.to(tl.int32)
        pixels = (first * height * width + pixel)[:, None] * channels + lane[None, :]
        below = width * channels
        a, b, c, d = _corners(
            image + pixels, below, channels, has_top, has_bottom, has_left, has_right
        )
        at_left, at_right = a + v * (c - a), b + v * (d - b)
        value = at_left + h * (at_right - at_left)
        tl.store(columns + values + tap * run, share * value, mask=wanted)
        if grad_columns is not None:
            grad = tl.load(grad_columns + values + tap * run, mask=wanted, other=0.0)
            grad = grad.to(tl.float32)
            by_mask = tl.sum(grad * value, 1)
            grad *= share
            by_y = tl.sum(grad * ((c - a) + h * ((d - b) - (c - a))), 1)
            by_x = tl.sum(grad * (at_right - at_left), 1)
            tl.store(grad_mask + start + position, by_mask, mask=live)
            at = grad_offset + 2 * start + position
            tl.store(at, by_y, mask=live)
            tl.store(at + positions, by_x, mask=live)
            at = grad_image + pixels
            bottom = v * grad
            upper = grad - bottom
            tl.atomic_add(at, upper - h * upper, mask=has_top & has_left, sem="relaxed")
            tl.atomic_add(at + channels, h * upper, mask=has_top & has_right, sem="relaxed")
            at += below
            tl.atomic_add(at, bottom - h * bottom, mask=has_bottom & has_left, sem="relaxed")
            tl.atomic_add(at + channels, h * bottom, mask=has_bottom & has_right, sem="relaxed")
