"""Deformable convolution in plain PyTorch: the reference of the other implementations.

It runs wherever PyTorch does. It goes tap by tap, so that memory does not grow with the kernel.

In the shapes below g is the number of convolution groups, G of deformable groups, K = kh kw of
taps, and L = H' W' of output positions.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from llve_common.ops.implementation import Operands


class Neighbour(NamedTuple):
    """One of the two pixels around each position along an axis, all (N, G, L).

    Attributes:
        at: its row or column, moved into the image where it lies outside.
        weight: its share of the sample, 0 outside.
        slope: the derivative of ``weight`` by the position.
    """

    at: Tensor
    weight: Tensor
    slope: Tensor


Corner = tuple[Neighbour, Neighbour]
"""One of the four pixels around a position: its row and its column."""


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Nothing: it runs for all that PyTorch runs for."""


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output; sums are taken in float32 or wider."""
    dtype, operands = operands.image.dtype, _widened(operands)
    image, _, mask, weight, _ = operands
    count, channels = image.shape[:2]
    kernel = _by_tap(weight, channels)
    masks = _masks(mask, weight)
    planes = _by_deformable_group(image, masks)
    output = image.new_zeros(count, len(weight), *mask.shape[2:])
    by_group = output.view(count, *kernel.shape[1:3], masks.shape[-1])
    for tap, corners in enumerate(_taps(operands)):
        column = masks[:, :, tap, None] * sum(
            _share(corner) * _take(planes, _pixel(corner, image)) for corner in corners
        )
        by_group += torch.einsum("ngcl,goc->ngol", _by_group(column, kernel), kernel[tap])
    return (output if bias is None else output + bias[:, None, None]).to(dtype)


def backward(grad_output: Tensor, operands: Operands) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of image, offset, mask and weight."""
    dtype, operands = operands.image.dtype, _widened(operands)
    image, offset, mask, weight, _ = operands
    count, channels = image.shape[:2]
    kernel = _by_tap(weight, channels)
    masks = _masks(mask, weight)
    planes = _by_deformable_group(image, masks)
    grad = _wide(grad_output).reshape(count, *kernel.shape[1:3], masks.shape[-1])
    grad_planes, grad_masks = torch.zeros_like(planes), torch.empty_like(masks)
    grad_offsets = masks.new_empty(*masks.shape[:3], 2, masks.shape[3])
    grad_kernel = torch.empty_like(kernel)
    for tap, corners in enumerate(_taps(operands)):
        grad_column = torch.einsum("ngol,goc->ngcl", grad, kernel[tap]).reshape(
            *planes.shape[:3], grad.shape[3]
        )
        grad_sample = masks[:, :, tap, None] * grad_column
        sample, by_y, by_x = (torch.zeros_like(grad_column) for _ in range(3))
        for corner in corners:
            y, x = corner
            value = _take(planes, _pixel(corner, image))
            sample += _share(corner) * value
            by_y += (y.slope * x.weight)[:, :, None] * value
            by_x += (y.weight * x.slope)[:, :, None] * value
            index = _pixel(corner, image)[:, :, None].expand_as(grad_sample)
            grad_planes.scatter_add_(3, index, _share(corner) * grad_sample)
        grad_masks[:, :, tap] = (grad_column * sample).sum(2)
        grad_offsets[:, :, tap, 0] = (grad_sample * by_y).sum(2)
        grad_offsets[:, :, tap, 1] = (grad_sample * by_x).sum(2)
        column = masks[:, :, tap, None] * sample
        grad_kernel[tap] = torch.einsum("ngol,ngcl->goc", grad, _by_group(column, kernel))
    return (
        grad_planes.reshape(image.shape).to(dtype),
        grad_offsets.reshape(offset.shape).to(dtype),
        grad_masks.reshape(mask.shape).to(dtype),
        grad_kernel.permute(1, 2, 3, 0).reshape(weight.shape).to(dtype),
    )


def _widened(operands: Operands) -> Operands:
    image, offset, mask, weight = (_wide(tensor) for tensor in operands[:4])
    return Operands(image, offset, mask, weight, operands.geometry)


def _wide(tensor: Tensor) -> Tensor:
    """In float32, or in float64 if it is so already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _by_tap(weight: Tensor, channels: int) -> Tensor:
    """The weight as (K, g, C'/g, C/g)."""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).permute(3, 0, 1, 2)


def _masks(mask: Tensor, weight: Tensor) -> Tensor:
    """The mask as (N, G, K, L)."""
    taps = weight.shape[2] * weight.shape[3]
    return mask.reshape(len(mask), mask.shape[1] // taps, taps, mask.shape[2] * mask.shape[3])


def _by_deformable_group(image: Tensor, masks: Tensor) -> Tensor:
    """The image as (N, G, C/G, H W). Every size is named, since N may be 0."""
    count, channels, height, width = image.shape
    groups = masks.shape[1]
    return image.reshape(count, groups, channels // groups, height * width)


def _by_group(column: Tensor, kernel: Tensor) -> Tensor:
    """Samples (N, G, C/G, L) as (N, g, C/g, L)."""
    return column.reshape(len(column), kernel.shape[1], kernel.shape[3], column.shape[3])


def _taps(operands: Operands) -> Iterator[list[Corner]]:
    """The four pixels around where each tap samples, tap by tap, row-major over the kernel."""
    image, offset, mask, weight, geometry = operands
    taps = list(product(range(weight.shape[2]), range(weight.shape[3])))
    offsets = offset.unflatten(1, (mask.shape[1] // len(taps), len(taps), 2))
    for index, tap in enumerate(taps):
        axes: list[tuple[Neighbour, Neighbour]] = []
        for axis in range(2):
            stride, padding, dilation = (pair[axis] for pair in geometry)
            steps = torch.arange(mask.shape[2 + axis], device=offset.device, dtype=offset.dtype)
            base = steps * stride - padding + tap[axis] * dilation
            position = offsets[:, :, index, axis] + (base[:, None] if axis == 0 else base)
            axes.append(_neighbours(position.flatten(2), image.shape[2 + axis]))
        yield list(product(axes[0], axes[1]))


def _neighbours(position: Tensor, size: int) -> tuple[Neighbour, Neighbour]:
    """The pixels before and after each position along an axis of ``size`` pixels."""
    inside = (position > -1) & (position < size)
    # Positions far outside, or not a number, have no index.
    position = torch.where(inside, position, 0)
    before = position.floor()
    fraction = position - before
    index = before.long()
    holds_before, holds_after = inside & (index >= 0), inside & (index + 1 < size)
    return (
        Neighbour(index.clamp(min=0), (1 - fraction) * holds_before, -1 * holds_before),
        Neighbour((index + 1).clamp(max=size - 1), fraction * holds_after, 1 * holds_after),
    )


def _pixel(corner: Corner, image: Tensor) -> Tensor:
    """The index (N, G, L) of a corner in the flattened image."""
    y, x = corner
    return y.at * image.shape[3] + x.at


def _share(corner: Corner) -> Tensor:
    """The weight (N, G, 1, L) of a corner in its sample."""
    y, x = corner
    return (y.weight * x.weight)[:, :, None]


def _take(planes: Tensor, pixel: Tensor) -> Tensor:
    """The pixels (N, G, L) of planes (N, G, C/G, H W), as (N, G, C/G, L)."""
    return planes.gather(3, pixel[:, :, None].expand(-1, -1, planes.shape[2], -1))
