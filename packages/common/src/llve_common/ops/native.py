"""Deformable convolution in C, for CPUs: see ``deform_conv.c``.

The C code samples a block of output positions into columns; torch multiplies them by the weight
while they are in the cache. Torch's number of threads is how many of ours share the work.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.resources import as_file, files
from typing import TypeVar

import torch
from torch import Tensor

from llve_common.ops.compiler import shared_library
from llve_common.ops.implementation import Geometry, Unavailable
from llve_common.threads import lone_workers

# Output positions whose columns are made, and multiplied, at a time.
_BLOCK = 128
_REAL = {torch.float32: "float", torch.float64: "double"}

_Item = TypeVar("_Item")


class _Layer(ctypes.Structure):
    """``Layer`` of the C file."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("kernel", ctypes.c_int64 * 2),
        ("stride", ctypes.c_int64 * 2),
        ("padding", ctypes.c_int64 * 2),
        ("dilation", ctypes.c_int64 * 2),
        ("output_width", ctypes.c_int64),
        ("positions", ctypes.c_int64),
    )

    @classmethod
    def of(cls, input: Tensor, mask: Tensor, weight: Tensor, geometry: Geometry) -> _Layer:  # noqa: A002
        channels, height, width = input.shape[1:]
        kernel = tuple(weight.shape[2:])
        groups = mask.shape[1] // (kernel[0] * kernel[1])
        positions = mask.shape[2] * mask.shape[3]
        return cls(height, width, channels, groups, kernel, *geometry, mask.shape[3], positions)


class _Part(ctypes.Structure):
    """``Part`` of the C file."""

    _fields_ = (
        ("first", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("first_group", ctypes.c_int64),
        ("groups", ctypes.c_int64),
    )


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Compile for this type, or find what was compiled before."""
    if device.type != "cpu" or dtype not in _REAL:
        raise Unavailable(f"C is for float32 and float64 on a CPU, not for {dtype} on {device}")
    _library(dtype)


def forward(
    input: Tensor,  # noqa: A002
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """The output (N, C', H', W')."""
    library = _library(input.dtype)
    layer = _Layer.of(input, mask, weight, geometry)
    offset, mask = offset.contiguous(), mask.contiguous()
    matrix = _matrix(weight, layer.channels).flatten(1).t().contiguous()
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    # Not a view of something else, which autograd would let nobody change in place.
    output = torch.empty(
        (len(input), len(weight), *mask.shape[2:]),
        dtype=input.dtype,
        memory_format=torch.channels_last,
    )
    by_position = output.permute(0, 2, 3, 1).view(len(input), layer.positions, len(weight))

    def work(n: int, image: Tensor, parts: Iterator[_Part]) -> None:
        columns = input.new_empty(_BLOCK, len(matrix))
        pointers = _pointers(image, offset[n], mask[n], columns)
        for part in parts:
            library.sample(layer, part, *pointers)
            out = by_position[n, part.first : part.first + part.count]
            torch.addmm(bias, columns[: part.count], matrix, out=out)

    # One image after the other: they can then have the same memory, which is in the caches.
    for n in range(len(input)):
        image = _arranged(library, layer, input[n])
        _share(partial(work, n, image), _parts(layer, range(layer.groups)))
    return output


def backward(
    grad_output: Tensor,
    input: Tensor,  # noqa: A002
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    geometry: Geometry,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of input, offset, mask and weight."""
    library = _library(input.dtype)
    layer = _Layer.of(input, mask, weight, geometry)
    offset, mask = offset.contiguous(), mask.contiguous()
    matrix = _matrix(weight, layer.channels)
    grads = grad_output.flatten(2).transpose(1, 2).contiguous()
    grad_input, grad_matrix = torch.empty_like(input), torch.zeros_like(matrix)
    grad_offset, grad_mask = torch.empty_like(offset), torch.empty_like(mask)
    width = layer.channels // layer.groups

    def work(n: int, image: Tensor, grad_image: Tensor, shares: Iterator[range]) -> None:
        for groups in shares:
            channels = slice(groups.start * width, groups.stop * width)
            some = matrix[:, :, channels].flatten(1)
            grad_some = torch.zeros_like(some)
            columns = input.new_empty(_BLOCK, some.shape[1])
            pointers = _pointers(
                image, offset[n], mask[n], columns, grad_image, grad_offset[n], grad_mask[n]
            )
            for part in _parts(layer, groups):
                grad = grads[n, part.first : part.first + part.count]
                filled = columns[: part.count]
                torch.mm(grad, some, out=filled)
                library.sample_backward(layer, part, *pointers)
                grad_some.addmm_(grad.t(), filled)
            grad_matrix[:, :, channels] += grad_some.unflatten(1, (matrix.shape[1], -1))

    # Shares are deformable groups, since no two write to the same memory: results do not depend on
    # which thread is first.
    step = -(-layer.groups // torch.get_num_threads())
    shares = [
        range(first, min(first + step, layer.groups)) for first in range(0, layer.groups, step)
    ]
    for n in range(len(input)):
        image = _arranged(library, layer, input[n])
        grad_image = torch.zeros_like(image)
        _share(partial(work, n, image, grad_image), shares)
        inner = grad_image[:, 2:-1, 1:-1].permute(0, 3, 1, 2)
        grad_input[n].unflatten(0, (layer.groups, width)).copy_(inner)
    return grad_input, grad_offset, grad_mask, _weight(grad_matrix, weight)


def _arranged(library: ctypes.CDLL, layer: _Layer, image: Tensor) -> Tensor:
    """An image (C, H, W) as the C file wants it: (G, H + 3, W + 2, C / G), bordered by zeros."""
    channels, height, width = image.shape
    if image.stride(1) != width * image.stride(2):
        image = image.contiguous()
    arranged = image.new_zeros(layer.groups, height + 3, width + 2, channels // layer.groups)

    def work(rows: Iterator[int]) -> None:
        for row in rows:
            library.arrange(
                layer, row * width, (row + 1) * width,
                image.data_ptr(), image.stride(2), image.stride(0), arranged.data_ptr(),
            )  # fmt: skip

    _share(work, range(height))
    return arranged


def _parts(layer: _Layer, groups: range) -> list[_Part]:
    """The output positions of an image, a block at a time."""
    return [
        _Part(first, min(_BLOCK, layer.positions - first), groups.start, len(groups))
        for first in range(0, layer.positions, _BLOCK)
    ]


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _matrix(weight: Tensor, channels: int) -> Tensor:
    """The weight as (C', K, C), with zeros between different convolution groups."""
    outputs, inputs = weight.shape[:2]
    groups = channels // inputs
    matrix = weight.new_zeros(groups, outputs // groups, weight[0, 0].numel(), groups, inputs)
    by_group = weight.reshape(groups, outputs // groups, inputs, -1).transpose(2, 3)
    matrix.diagonal(dim1=0, dim2=3).copy_(by_group.permute(1, 2, 3, 0))
    return matrix.reshape(outputs, -1, channels)


def _weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """The part of a matrix (C', K, C) that belongs to the weight, in its shape."""
    outputs, inputs = weight.shape[:2]
    groups = matrix.shape[2] // inputs
    blocks = matrix.reshape(groups, outputs // groups, -1, groups, inputs).diagonal(dim1=0, dim2=3)
    return blocks.permute(3, 0, 2, 1).reshape(weight.shape)


def _share(work: Callable[[Iterator[_Item]], None], items: Sequence[_Item]) -> None:
    """Call ``work`` on as many threads as torch uses; each takes the next item when it is ready."""
    # Grad mode and inference mode are a thread's own, and tensors may be inference tensors.
    unrecorded = torch.inference_mode()(work)
    workers, left = min(torch.get_num_threads(), len(items)), iter(items)
    if workers < 2:
        unrecorded(left)
        return
    pool = _workers(workers, os.getpid())
    for done in [pool.submit(unrecorded, left) for _ in range(workers)]:
        done.result()


@cache
def _workers(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that are kept; a forked process has none of its parent's."""
    return lone_workers(count)


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """The compiled C file for a type."""
    with as_file(files("llve_common.ops").joinpath("deform_conv.c")) as source:
        library = shared_library(source, f"-DREAL={_REAL[dtype]}", f"-DBLOCK={_BLOCK}")
    structures = (ctypes.POINTER(_Layer), ctypes.POINTER(_Part))
    library.arrange.argtypes = (
        structures[0], ctypes.c_int64, ctypes.c_int64,
        ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    )  # fmt: skip
    library.arrange.restype = None
    for function, pointers in ((library.sample, 4), (library.sample_backward, 7)):
        function.argtypes = (*structures, *(ctypes.c_void_p,) * pointers)
        function.restype = None
    return library
