"""Deformable convolution in Triton, for CUDA devices.

Triton comes with CUDA builds of torch; this module is imported only when it is asked for. One image
at a time is sampled into columns (C K, L), which torch multiplies by the weight; L = H' W'. Sums
are taken in float32. The gradient of the image is summed atomically, so its last digits may vary.

``TRITON_INTERPRET=1`` makes Triton's interpreter run the kernels on a CPU, slowly, for tests.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from llve_common.ops.implementation import Operands, Unavailable

# Output positions of a program.
_BLOCK = 128
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Check that kernels can run for this kind of tensors."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if dtype not in _TYPES or not (device.type == "cuda" or interpreted):
        raise Unavailable(
            f"Triton is for float32, float16 and bfloat16 on a CUDA device, not for {dtype} on"
            f" {device}"
        )


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output (N, C', H', W')."""
    image, offset, mask = (each.contiguous() for each in operands[:3])
    matrix = _matrix(operands.weight, image.shape[1])
    output = image.new_empty(len(image), len(operands.weight), *mask.shape[2:])
    columns = _columns(matrix, output)
    grid, layer = _launch(operands)
    for n in range(len(image)):
        _sample[grid](image[n], offset[n], mask[n], columns, *layer, block=_BLOCK)
        output[n] = torch.bmm(matrix, columns).reshape(output.shape[1:])
    return output if bias is None else output + bias[:, None, None]


def backward(grad_output: Tensor, operands: Operands) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of image, offset, mask and weight."""
    image, offset, mask = (each.contiguous() for each in operands[:3])
    weight = operands.weight
    matrix = _matrix(weight, image.shape[1])
    columns = _columns(matrix, grad_output)
    grad_image = torch.zeros_like(image, dtype=torch.float32)
    grad_offset, grad_mask = torch.empty_like(offset), torch.empty_like(mask)
    grad_matrix = torch.zeros_like(matrix, dtype=torch.float32)
    grid, layer = _launch(operands)
    for n in range(len(image)):
        grad = grad_output[n].reshape(len(matrix), matrix.shape[1], -1)
        grad_columns = torch.bmm(matrix.transpose(1, 2), grad)
        _sample_backward[grid](
            image[n], offset[n], mask[n], columns, *layer,
            grad_columns, grad_image[n], grad_offset[n], grad_mask[n], block=_BLOCK,
        )  # fmt: skip
        grad_matrix += torch.bmm(grad, columns.transpose(1, 2))
    grad_weight = grad_matrix.reshape(weight.shape).to(weight.dtype)
    return grad_image.to(image.dtype), grad_offset, grad_mask, grad_weight


def _matrix(weight: Tensor, channels: int) -> Tensor:
    """The weight as (g, C'/g, C/g K), for g convolution groups."""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, -1)


def _columns(matrix: Tensor, output: Tensor) -> Tensor:
    """Room for the columns (g, C/g K, L) of an image."""
    positions = output.shape[2] * output.shape[3]
    return matrix.new_empty(len(matrix), matrix.shape[2], positions)


def _launch(operands: Operands) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The grid, and the sizes that both kernels take, in the order of their parameters."""
    image, _, mask, weight, geometry = operands
    channels, height, width = image.shape[1:]
    taps = weight.shape[2] * weight.shape[3]
    groups = mask.shape[1] // taps
    positions = mask.shape[2] * mask.shape[3]
    grid = (triton.cdiv(positions, _BLOCK), mask.shape[1])
    sizes = (height, width, channels // groups, taps, weight.shape[3], mask.shape[3], positions)
    return grid, (*sizes, *geometry.stride, *geometry.padding, *geometry.dilation)


@triton.jit
def _locate(
    offset, map_index, tap, position, live, height, width, kernel_width, output_width, positions,
    stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
):  # fmt: skip
    """Row and column above and left of each sample, the fractions, and whether it is inside."""
    at = offset + map_index * 2 * positions + position
    y = (position // output_width) * stride_y - padding_y + (tap // kernel_width) * dilation_y
    x = (position % output_width) * stride_x - padding_x + (tap % kernel_width) * dilation_x
    y = y.to(tl.float32) + tl.load(at, mask=live, other=0.0).to(tl.float32)
    x = x.to(tl.float32) + tl.load(at + positions, mask=live, other=0.0).to(tl.float32)
    inside = live & (y > -1) & (y < height) & (x > -1) & (x < width)
    # Positions far outside, or not a number, have no index.
    y, x = tl.where(inside, y, 0.0), tl.where(inside, x, 0.0)
    top, left = tl.floor(y), tl.floor(x)
    return top.to(tl.int32), left.to(tl.int32), y - top, x - left, inside


@triton.jit
def _corners(plane, top, left, width, has_top, has_bottom, has_left, has_right):
    """The four pixels around each sample, 0 where there is none."""
    at = plane + top * width + left
    return (
        tl.load(at, mask=has_top & has_left, other=0.0).to(tl.float32),
        tl.load(at + 1, mask=has_top & has_right, other=0.0).to(tl.float32),
        tl.load(at + width, mask=has_bottom & has_left, other=0.0).to(tl.float32),
        tl.load(at + width + 1, mask=has_bottom & has_right, other=0.0).to(tl.float32),
    )


@triton.jit
def _sample(
    image, offset, mask, columns,
    height, width, channels, taps, kernel_width, output_width, positions,
    stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    block: tl.constexpr,
):  # fmt: skip
    """Fill in the columns of one tap of one deformable group, for a block of positions."""
    position = tl.program_id(0) * block + tl.arange(0, block)
    live = position < positions
    map_index = tl.program_id(1).to(tl.int64)
    group, tap = map_index // taps, map_index % taps
    top, left, v, h, inside = _locate(
        offset, map_index, tap, position, live, height, width, kernel_width, output_width,
        positions, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    )  # fmt: skip
    has_top, has_bottom = inside & (top >= 0), inside & (top + 1 < height)
    has_left, has_right = left >= 0, left + 1 < width
    share = tl.load(mask + map_index * positions + position, mask=live, other=0.0).to(tl.float32)
    for channel in range(group * channels, (group + 1) * channels):
        plane = image + channel * height * width
        a, b, c, d = _corners(plane, top, left, width, has_top, has_bottom, has_left, has_right)
        value = (1 - v) * ((1 - h) * a + h * b) + v * ((1 - h) * c + h * d)
        tl.store(columns + (channel * taps + tap) * positions + position, share * value, mask=live)


@triton.jit
def _sample_backward(
    image, offset, mask, columns,
    height, width, channels, taps, kernel_width, output_width, positions,
    stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    grad_columns, grad_image, grad_offset, grad_mask,
    block: tl.constexpr,
):  # fmt: skip
    """The same, with the gradients of image, offset and mask from that of the columns."""
    position = tl.program_id(0) * block + tl.arange(0, block)
    live = position < positions
    map_index = tl.program_id(1).to(tl.int64)
    group, tap = map_index // taps, map_index % taps
    top, left, v, h, inside = _locate(
        offset, map_index, tap, position, live, height, width, kernel_width, output_width,
        positions, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    )  # fmt: skip
    has_top, has_bottom = inside & (top >= 0), inside & (top + 1 < height)
    has_left, has_right = left >= 0, left + 1 < width
    share = tl.load(mask + map_index * positions + position, mask=live, other=0.0).to(tl.float32)
    by_y = tl.zeros((block,), tl.float32)
    by_x = tl.zeros((block,), tl.float32)
    by_mask = tl.zeros((block,), tl.float32)
    for channel in range(group * channels, (group + 1) * channels):
        plane = image + channel * height * width
        a, b, c, d = _corners(plane, top, left, width, has_top, has_bottom, has_left, has_right)
        value = (1 - v) * ((1 - h) * a + h * b) + v * ((1 - h) * c + h * d)
        column = (channel * taps + tap) * positions + position
        tl.store(columns + column, share * value, mask=live)
        grad = tl.load(grad_columns + column, mask=live, other=0.0).to(tl.float32)
        by_mask += grad * value
        by_y += grad * ((1 - h) * (c - a) + h * (d - b))
        by_x += grad * ((1 - v) * (b - a) + v * (d - c))
        at = grad_image + channel * height * width + top * width + left
        grad *= share
        tl.atomic_add(at, (1 - v) * (1 - h) * grad, mask=has_top & has_left)
        tl.atomic_add(at + 1, (1 - v) * h * grad, mask=has_top & has_right)
        tl.atomic_add(at + width, v * (1 - h) * grad, mask=has_bottom & has_left)
        tl.atomic_add(at + width + 1, v * h * grad, mask=has_bottom & has_right)
    at = map_index * positions + position
    tl.store(grad_mask + at, by_mask, mask=live)
    tl.store(grad_offset + at + map_index * positions, by_y * share, mask=live)
    tl.store(grad_offset + at + map_index * positions + positions, by_x * share, mask=live)
