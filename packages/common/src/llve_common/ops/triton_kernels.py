"""Deformable convolution in Triton, for CUDA devices.

Triton comes with CUDA builds of torch; this module is imported only when it is asked for. Some
images at a time are sampled into columns (N, C K, L), which torch multiplies by the weight;
L = H' W'. Sums are taken in float32. The gradient of the image is summed atomically, so its last
digits may vary.

``TRITON_INTERPRET=1`` makes Triton's interpreter run the kernels on a CPU, slowly, for tests.
"""

import os
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from llve_common.ops.implementation import Operands, Unavailable

# Output positions of a program.
_BLOCK = 128
# Values in the columns of a launch: half a gigabyte of float32.
_ROOM = 2**27
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
    matrix = _matrix(operands)
    output = operands.image.new_empty(
        len(operands.image), len(operands.weight), *operands.mask.shape[2:]
    )
    for some, (image, offset, mask), columns in _parts(operands, matrix):
        grid, layer = _launch(operands, len(image))
        _sample[grid](image, offset, mask, columns, *layer, block=_BLOCK)
        torch.matmul(matrix, columns, out=_grouped(output[some], matrix))
    return output if bias is None else output + bias[:, None, None]


def backward(grad_output: Tensor, operands: Operands) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of image, offset, mask and weight."""
    matrix = _matrix(operands)
    grad_image = torch.zeros(operands.image.shape, device=matrix.device)
    grad_offset, grad_mask = (
        torch.empty_like(each, memory_format=torch.contiguous_format)
        for each in (operands.offset, operands.mask)
    )
    grad_matrix = torch.zeros_like(matrix, dtype=torch.float32)
    grad_output = grad_output.contiguous()
    for some, (image, offset, mask), columns in _parts(operands, matrix):
        grad = _grouped(grad_output[some], matrix)
        grad_columns = torch.matmul(matrix.transpose(1, 2), grad)
        grid, layer = _launch(operands, len(image))
        _sample_backward[grid](
            image, offset, mask, columns, *layer,
            grad_columns, grad_image[some], grad_offset[some], grad_mask[some], block=_BLOCK,
        )  # fmt: skip
        grad_matrix += torch.matmul(grad, columns.transpose(2, 3)).sum(0, dtype=torch.float32)
    grad_weight = grad_matrix.reshape(operands.weight.shape).to(matrix.dtype)
    return grad_image.to(operands.image.dtype), grad_offset, grad_mask, grad_weight


def _matrix(operands: Operands) -> Tensor:
    """The weight as (g, C'/g, C/g K), for g convolution groups."""
    weight = operands.weight
    groups = operands.image.shape[1] // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, -1)


def _parts(operands: Operands, matrix: Tensor) -> Iterator[tuple[slice, list[Tensor], Tensor]]:
    """As many images at a time as there is room for, with their offsets, masks and columns.

    The columns (n, g, C/g K, L) are not filled in yet.
    """
    image, offset, mask = operands.image, operands.offset, operands.mask
    rows, positions = matrix.shape[0] * matrix.shape[2], mask.shape[2] * mask.shape[3]
    count = max(_ROOM // (rows * positions), 1)
    for first in range(0, len(image), count):
        some = slice(first, first + count)
        tensors = [each[some].contiguous() for each in (image, offset, mask)]
        columns = matrix.new_empty(len(tensors[0]), len(matrix), matrix.shape[2], positions)
        yield some, tensors, columns


def _grouped(images: Tensor, matrix: Tensor) -> Tensor:
    """(n, C', H', W') as (n, g, C'/g, L)."""
    return images.view(len(images), *matrix.shape[:2], -1)


def _launch(operands: Operands, images: int) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """The grid, and the sizes that both kernels take, in the order of their parameters."""
    image, _, mask, weight, geometry = operands
    channels, height, width = image.shape[1:]
    taps = weight.shape[2] * weight.shape[3]
    groups = mask.shape[1] // taps
    positions = mask.shape[2] * mask.shape[3]
    grid = (triton.cdiv(positions, _BLOCK), mask.shape[1], images)
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
    # Maps are those of a tap of a group of an image, planes are channels of an image.
    number, maps = tl.program_id(2).to(tl.int64), tl.num_programs(1)
    map_index = number * maps + tl.program_id(1)
    group, tap = tl.program_id(1) // taps, tl.program_id(1) % taps
    first = number * (maps // taps) * channels + group * channels
    top, left, v, h, inside = _locate(
        offset, map_index, tap, position, live, height, width, kernel_width, output_width,
        positions, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    )  # fmt: skip
    has_top, has_bottom = inside & (top >= 0), inside & (top + 1 < height)
    has_left, has_right = left >= 0, left + 1 < width
    share = tl.load(mask + map_index * positions + position, mask=live, other=0.0).to(tl.float32)
    for channel in range(first, first + channels):
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
    # Maps are those of a tap of a group of an image, planes are channels of an image.
    number, maps = tl.program_id(2).to(tl.int64), tl.num_programs(1)
    map_index = number * maps + tl.program_id(1)
    group, tap = tl.program_id(1) // taps, tl.program_id(1) % taps
    first = number * (maps // taps) * channels + group * channels
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
    for channel in range(first, first + channels):
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
