"""SGZ's kernel for a CPU, ``fast.c``, and the weights that it takes, without PyTorch."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llve_common.io.images import Pixels
from llve_common.ops.kernels import Kernel, enhance_rows, kernel_library
from llve_sgz.config import TEST_SCALE

Array = NDArray[Any]

# Inputs and outputs of each layer.
_LAYERS = ((3, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 3))

# What a file holds of depthwise separable convolutions, in the size that is published.
_WANTED = {
    f"e_conv{number}.{part}": shape
    for number, (inputs, outputs) in enumerate(_LAYERS, 1)
    for part, shape in {
        "depth_conv.weight": (inputs, 1, 3, 3), "depth_conv.bias": (inputs,),
        "point_conv.weight": (outputs, inputs, 1, 1), "point_conv.bias": (outputs,),
    }.items()
}  # fmt: skip


def kernel_of(weights: Mapping[str, Array]) -> Kernel | None:
    """The kernel at the test's scale factor; None for other networks, or for PyTorch."""
    return fused(weights, TEST_SCALE)


class _Layer(ctypes.Structure):
    """``Layer`` of the C file."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("depth", "depth_bias", "point", "point_bias")
    )


class _Network(ctypes.Structure):
    """``Network`` of the C file."""

    _fields_ = (
        ("height", ctypes.c_int64), ("width", ctypes.c_int64), ("bytes", ctypes.c_int64),
        ("scale", ctypes.c_int64), ("layers", len(_LAYERS) * _Layer),
    )  # fmt: skip


def fused(weights: Mapping[str, Array], scale: int) -> Kernel | None:
    """The whole function of a network; halves are rounded up, as SGZ writes images."""
    library = kernel_library("llve_sgz")
    found = {name: each.shape for name, each in weights.items() if each.dtype == np.float32}
    if library is None or found != _WANTED or len(weights) != len(found):
        return None
    kept = [_arranged(weights, number) for number in range(1, len(_LAYERS) + 1)]

    def run(pixels: Pixels, result: Pixels, rows: range) -> bool:
        layers = [_Layer(*(each.ctypes.data for each in layer)) for layer in kept]
        size = (*pixels.shape[:2], pixels.itemsize, scale)
        network = _Network(*size, (len(_LAYERS) * _Layer)(*layers))
        return enhance_rows(library, network, pixels, result, rows)

    return run


def _arranged(weights: Mapping[str, Array], number: int) -> list[Array]:
    """A layer's weights as ``fast.c`` reads them."""
    depth, depth_bias, point, point_bias = (
        weights[f"e_conv{number}.{part}_conv.{name}"]
        for part in ("depth", "point") for name in ("weight", "bias")
    )  # fmt: skip
    point = point[:, :, 0, 0]
    if number < len(_LAYERS):
        point = point.T
    arranged = (depth.reshape(-1, 9).T, depth_bias, point, point_bias)
    return [np.ascontiguousarray(each) for each in arranged]
