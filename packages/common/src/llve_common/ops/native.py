"""Deformable convolution in C, for CPUs: see ``deform_conv.c``.

The C code convolves, a block of output positions at a time. Backward, it samples a block into
columns; torch multiplies them by the weight while they are in the cache. Torch's number of threads
is how many share the work: forward, OpenMP's, which on most systems are those that torch waits
with; elsewhere, Python's.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from importlib.resources import as_file, files

import torch
from torch import Tensor
from torch.nn.functional import pad

from llve_common.machine.threads import lone_workers
from llve_common.ops.compiler import shared_library
from llve_common.ops.implementation import Operands, Unavailable

# Output positions that are worked on at a time: rows and columns. Columns are no power of two:
# arrays of such a length, of which the C file has several, share few places of the cache.
_ROWS, _COLUMNS = 4, 240
_REAL = {torch.float32: "float", torch.float64: "double"}
_NUMBER, _PAIR = ctypes.c_int64, ctypes.c_int64 * 2


class _Layer(ctypes.Structure):
    """``Layer`` of the C file."""

    _fields_ = (
        ("height", _NUMBER), ("width", _NUMBER), ("channels", _NUMBER), ("groups", _NUMBER),
        ("kernel", _PAIR), ("stride", _PAIR), ("padding", _PAIR), ("dilation", _PAIR),
        ("output_height", _NUMBER), ("output_width", _NUMBER),
        ("offset_stride", _PAIR), ("mask_stride", _PAIR),
    )  # fmt: skip

    @classmethod
    def of(cls, operands: Operands) -> _Layer:
        """The layer for offset and mask whose positions are one dimension."""
        image, offset, mask, weight, geometry = operands
        channels, height, width = image.shape[1:]
        kernel = (weight.shape[2], weight.shape[3])
        groups = mask.shape[1] // (kernel[0] * kernel[1])
        return cls(
            height, width, channels, groups, kernel, *geometry,
            *geometry.output_size((height, width), kernel), offset.stride()[1:], mask.stride()[1:],
        )  # fmt: skip


class _Part(ctypes.Structure):
    """``Part`` of the C file."""

    _fields_ = (
        ("row", _NUMBER), ("column", _NUMBER), ("rows", _NUMBER), ("columns", _NUMBER),
        ("first_group", _NUMBER), ("groups", _NUMBER),
    )  # fmt: skip

    def of(self, maps: Tensor) -> Tensor:
        """The part's positions of maps (H', W', C)."""
        rows, columns = maps[self.row :], slice(self.column, self.column + self.columns)
        return rows[: self.rows, columns]


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Compile for this type, or find what was compiled before."""
    if device.type != "cpu" or dtype not in _REAL:
        raise Unavailable(f"C is for float32 and float64 on a CPU, not for {dtype} on {device}")
    _library(dtype)


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output (N, C', H', W')."""
    image, offset, mask, weight, geometry = operands
    library = _library(image.dtype)
    size = mask.shape[2:]
    offset, mask = offset.flatten(2), mask.flatten(2)
    layer = _Layer.of(Operands(image, offset, mask, weight, geometry))
    matrix = _matrix(weight, layer)
    panels, bias = _panels(library, matrix, bias)
    # Not a permuted view: those may not be changed in place where gradients are recorded.
    output = torch.empty(
        (len(image), len(weight), *size), dtype=image.dtype, memory_format=torch.channels_last
    )
    parts = _parts(layer, range(layer.groups))
    threads = min(_threads(), len(parts))
    samples, columns, sums = _memory(library, matrix, bias, threads)
    arranged = _space(layer, image)
    for n in range(len(image)):
        _arrange(library, layer, range(layer.groups), image[n], arranged)
        convolve = partial(
            library.convolve, threads, layer, parts, len(parts), (_NUMBER * 2)(),
            *_pointers(arranged, offset[n], mask[n], panels, bias), len(weight),
            *_pointers(output[n], samples, columns), columns[0].numel(),
            sums.data_ptr(), sums[0].numel(),
        )  # fmt: skip
        _do([convolve] * (1 if _constant(library, "has_threads") else threads))
    return output


def backward(grad_output: Tensor, operands: Operands) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of image, offset, mask and weight."""
    image, offset, mask, weight, geometry = operands
    library = _library(image.dtype)
    grad_offset = torch.empty_like(offset, memory_format=torch.contiguous_format)
    grad_mask = torch.empty_like(mask, memory_format=torch.contiguous_format)
    offset, mask = offset.flatten(2), mask.flatten(2)
    layer = _Layer.of(Operands(image, offset, mask, weight, geometry))
    matrix = _matrix(weight, layer)
    grads = grad_output.permute(0, 2, 3, 1)
    grad_image = torch.empty_like(image)
    grad_matrix = matrix.new_zeros(len(image), *matrix.shape)
    # Shares are images, or where threads would get unequally many some deformable groups of one,
    # since no two write to the same memory: results do not depend on which thread is first.
    threads, everything = torch.get_num_threads(), range(layer.groups)
    step = -(-layer.groups * math.gcd(len(image), threads) // threads)
    shares = [everything[first : first + step] for first in everything[::step]]
    jobs = [(n, groups) for n in range(len(image)) for groups in shares]
    free = [(_space(layer, image), _space(layer, image)) for _ in range(min(threads, len(jobs)))]

    def work(n: int, groups: range) -> None:
        arranged, grad_arranged = memory = free.pop()
        mine = slice(groups.start, groups.stop)
        _arrange(library, layer, groups, image[n], arranged)
        grad_arranged[mine].zero_()
        some = matrix[:, mine].flatten(1)
        grad_some = torch.zeros_like(some)
        columns = image.new_empty(_ROWS * _COLUMNS, some.shape[1])
        pointers = _pointers(
            arranged, offset[n], mask[n], columns, grad_arranged, grad_offset[n], grad_mask[n]
        )
        for part in _parts(layer, groups):
            grad = part.of(grads[n]).flatten(0, 1)
            filled = columns[: len(grad)]
            torch.mm(grad, some, out=filled)
            library.sample_backward(layer, part, *pointers)
            grad_some.addmm_(grad.t(), filled)
        grad_matrix[n, :, mine] = grad_some.unflatten(1, (len(groups), -1, matrix.shape[3]))
        inner = grad_arranged[mine, 2:-1, 1:-1].permute(0, 3, 1, 2)
        grad_image[n].unflatten(0, (layer.groups, -1))[mine] = inner
        free.append(memory)

    _do([partial(work, *job) for job in jobs])
    return grad_image, grad_offset, grad_mask, _weight(grad_matrix.sum(0), weight)


def _space(layer: _Layer, image: Tensor) -> Tensor:
    """Memory for an image and its border as the C file wants it, (G, H + 3, W + 2, C / G)."""
    return image.new_empty(
        layer.groups, layer.height + 3, layer.width + 2, layer.channels // layer.groups
    )


def _arrange(
    library: ctypes.CDLL, layer: _Layer, groups: range, image: Tensor, arranged: Tensor
) -> None:
    """Copy some deformable groups of an image (C, H, W) into such memory."""
    image = image.flatten(1)
    library.arrange(
        layer, groups.start, groups.stop, _threads(),
        image.data_ptr(), image.stride(1), image.stride(0), arranged.data_ptr(),
    )  # fmt: skip


def _threads() -> int:
    """Torch's number; one in a forked process, which OpenMP's threads have not come with."""
    return torch.get_num_threads() if os.getpid() == _first_process() else 1


@cache
def _first_process() -> int:
    return os.getpid()


def _memory(
    library: ctypes.CDLL, matrix: Tensor, bias: Tensor, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What each thread needs: samples, columns and sums."""
    step, taps = _constant(library, "tile_positions"), matrix.shape[2]
    positions = -(-_COLUMNS // step) * step
    return (
        torch.empty(threads, taps, _constant(library, "samples_size"), dtype=torch.uint8),
        matrix.new_empty(threads, positions, matrix[0, 0].numel()),
        matrix.new_empty(threads, _ROWS, positions, bias.numel()),
    )


def _parts(layer: _Layer, groups: range) -> ctypes.Array[_Part]:
    """The output positions of an image, a block at a time."""
    height, width = layer.output_height, layer.output_width
    columns = -(-width // -(-width // _COLUMNS))
    parts = [
        _Part(
            row, column, min(_ROWS, height - row), min(columns, width - column),
            groups.start, len(groups),
        )
        for column in range(0, width, columns)
        for row in range(0, height, _ROWS)
    ]  # fmt: skip
    return (_Part * len(parts))(*parts)


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _matrix(weight: Tensor, layer: _Layer) -> Tensor:
    """The weight as (C', G, K, C / G), with zeros between different convolution groups."""
    outputs, inputs = weight.shape[:2]
    groups = layer.channels // inputs
    matrix = weight.new_zeros(groups, outputs // groups, weight[0, 0].numel(), groups, inputs)
    by_group = weight.reshape(groups, outputs // groups, inputs, -1).transpose(2, 3)
    matrix.diagonal(dim1=0, dim2=3).copy_(by_group.permute(1, 2, 3, 0))
    return matrix.reshape(outputs, -1, layer.groups, layer.channels // layer.groups).transpose(1, 2)


def _panels(library: ctypes.CDLL, matrix: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Such a matrix as (tiles, G, K, C / G, T) and the bias as (tiles, T), zero where C' ends."""
    bias = matrix.new_zeros(len(matrix)) if bias is None else bias
    together = _constant(library, "tile_outputs")
    missing = -len(matrix) % together
    tiles = pad(matrix.movedim(0, -1), (0, missing)).unflatten(-1, (-1, together))
    return tiles.movedim(-2, 0).contiguous(), pad(bias, (0, missing)).view(-1, together)


def _constant(library: ctypes.CDLL, name: str) -> int:
    return ctypes.c_int64.in_dll(library, name).value


def _weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """The part of such a matrix that belongs to the weight, in its shape."""
    outputs, inputs = weight.shape[:2]
    matrix = matrix.transpose(1, 2).flatten(2)
    groups = matrix.shape[2] // inputs
    blocks = matrix.reshape(groups, outputs // groups, -1, groups, inputs).diagonal(dim1=0, dim2=3)
    return blocks.permute(3, 0, 2, 1).reshape(weight.shape)


def _do(jobs: Sequence[Callable[[], None]]) -> None:
    """On as many threads as torch uses; each takes the next job when it is ready."""
    left = iter(jobs)

    def work() -> None:
        # Grad mode and inference mode are a thread's own, and tensors may be inference tensors.
        with torch.inference_mode():
            for job in left:
                job()

    workers = min(torch.get_num_threads(), len(jobs))
    if workers < 2:
        work()
        return
    pool = _workers(torch.get_num_threads(), os.getpid())
    begun = [pool.submit(work) for _ in range(workers)]
    try:
        for done in begun:
            done.result()
    finally:
        # Also after Ctrl-C: C writes to memory that is the caller's.
        wait(begun)


@cache
def _workers(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that are kept; a forked process has none of its parent's."""
    return lone_workers(count)


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    """The compiled C file for a type."""
    given = (f"-DREAL={_REAL[dtype]}", f"-DWIDTH={_COLUMNS}")
    with as_file(files("llve_common.ops").joinpath("deform_conv.c")) as source:
        try:
            library = shared_library(source, *given, "-fopenmp")
        except Unavailable:
            # As where Clang is without it.
            library = shared_library(source, *given)
    structures = (ctypes.POINTER(_Layer), ctypes.POINTER(_Part))
    pointer, number = ctypes.c_void_p, _NUMBER
    arguments = {
        "arrange": (structures[0], number, number, number, pointer, number, number, pointer),
        "convolve": (
            number, *structures, number, ctypes.POINTER(number), *(pointer,) * 5, number,
            *(pointer,) * 3, number, pointer, number,
        ),
        "sample_backward": (*structures, *(pointer,) * 7),
    }  # fmt: skip
    for name, kinds in arguments.items():
        function = getattr(library, name)
        function.argtypes, function.restype = kinds, None
    return library
