"""SCI's kernel for a CPU, ``fast.c``, and the weights that it takes, without PyTorch."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llve_common.io.images import Pixels
from llve_common.ops.kernels import Kernel, enhance_rows, kernel_library
from llve_sci.weights import from_published

Array = NDArray[Any]

_LAYERS = ("in_conv", "conv", "out_conv")
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5  # PyTorch's, of batch norm

# What a file holds of the estimator alone, in the size that is published.
_WANTED: dict[str, tuple[Any, Any]] = {
    **{f"enhance.{name}.0.weight": (np.float32, (3, 3, 3, 3)) for name in _LAYERS},
    **{f"enhance.{name}.0.bias": (np.float32, (3,)) for name in _LAYERS},
    **{f"enhance.conv.1.{name}": (np.float32, (3,)) for name in _NORM},
    "enhance.conv.1.num_batches_tracked": (np.int64, ()),
}


def kernel_of(weights: Mapping[str, Array]) -> Kernel | None:
    """The kernel; None where weights are not just the estimator's, or PyTorch is to be used."""
    ours = from_published(weights)
    if {name: (each.dtype, each.shape) for name, each in ours.items()} != _WANTED:
        return None
    return fused(folded(ours), depth=1)


@np.errstate(all="ignore")
def folded(weights: Mapping[str, Array]) -> list[tuple[Array, Array]]:
    """Weight and bias, float32, of each convolution of the estimator, its batch norm included."""
    # In double precision, so that folding adds one rounding and no more.
    double = {name: each.astype(float) for name, each in weights.items()}
    first, block, last = (
        [double[f"enhance.{layer}.0.{name}"] for name in ("weight", "bias")] for layer in _LAYERS
    )
    gain, offset, mean, variance = (double[f"enhance.conv.1.{name}"] for name in _NORM)
    scale = gain / np.sqrt(variance + _EPSILON)
    block = [block[0] * scale[:, None, None, None], (block[1] - mean) * scale + offset]
    return [(w.astype(np.float32), b.astype(np.float32)) for w, b in (first, block, last)]


def is_narrow(layers: Sequence[Sequence[Any]]) -> bool:
    """Whether kernels are for it: all features have three channels."""
    return all(weight.shape == (3, 3, 3, 3) for weight, _ in layers)


class _Convolution(ctypes.Structure):
    """``Convolution`` of the C file."""

    _fields_ = (("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p))


class _Network(ctypes.Structure):
    """``Network`` of the C file."""

    _fields_ = (
        ("height", ctypes.c_int64), ("width", ctypes.c_int64), ("bytes", ctypes.c_int64),
        ("layers", ctypes.c_int64), ("convolutions", 3 * _Convolution),
    )  # fmt: skip


def fused(layers: Sequence[tuple[Array, Array]], depth: int) -> Kernel | None:
    """The whole function of folded layers; levels are truncated, as SCI writes images."""
    library = kernel_library("llve_sci")
    if library is None or not is_narrow(layers):
        return None
    kept = [(_products(weight), np.ascontiguousarray(bias)) for weight, bias in layers]

    def run(pixels: Pixels, result: Pixels, rows: range) -> bool:
        convolutions = [_Convolution(*(each.ctypes.data for each in pair)) for pair in kept]
        size = (*pixels.shape[:2], pixels.itemsize, depth)
        network = _Network(*size, (3 * _Convolution)(*convolutions))
        return enhance_rows(library, network, pixels, result, rows)

    return run


@np.errstate(all="ignore")
def _products(weight: Array) -> Array:
    """Kernels (out, in, 3, 3) as those of the four products, (4, in, 3, out): see ``fast.c``."""
    sums = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    products = np.einsum("pr,oirc->pico", sums, weight.astype(float))
    return np.ascontiguousarray(products, np.float32)
