"""Papers' own kernels, which do a whole network's work, compiled where they are used.

The environment variable ``LLVE_KERNELS`` says: ``torch``, layer by layer in PyTorch; ``c``, on a
CPU; ``triton``, on a CUDA device; or ``auto``, the default: the device's, and PyTorch where that
cannot be had. What was chosen is logged once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from llve_common.io.images import Pixels
from llve_common.ops.compiler import shared_library
from llve_common.ops.implementation import Unavailable
from llve_common.ops.selection import choose

if TYPE_CHECKING:
    import torch

VARIABLE = "LLVE_KERNELS"

Kernel = Callable[[Pixels, Pixels, range], bool]
"""(a frame (H, W, 3) RGB, uint8 or uint16, contiguous; one like it, of which these rows are
written; the rows) to whether all values were numbers. It rounds as the paper does, and may be
called by several threads at once."""

_NAMES = ("torch", "c", "triton")


def kernel_library(package: str) -> ctypes.CDLL | None:
    """The compiled ``fast.c`` of a paper's package; None where PyTorch is to be used.

    Raises:
        ConfigError: ``LLVE_KERNELS`` names what does not exist or cannot be had.
    """
    return _choose(os.environ.get(VARIABLE, "auto"), package)


def device_kernels(package: str, device: torch.device) -> Any:
    """The module ``triton_kernels`` of a paper's package, its kernels tried; None for PyTorch.

    Raises:
        ConfigError: as :func:`kernel_library`.
    """
    return _choose_for_device(os.environ.get(VARIABLE, "auto"), package, device)


def enhance_rows(
    library: ctypes.CDLL, about: ctypes.Structure, pixels: Pixels, result: Pixels, rows: range
) -> bool:
    """Let the C function ``enhance`` write these rows; whether all of their values are numbers.

    Args:
        library: as :func:`kernel_library` gives it.
        about: the structure that the C file begins with, which says what a frame is made with.
        pixels: a frame (H, W, 3) RGB, uint8 or uint16, contiguous.
        result: one like it.
        rows: of the frame.

    Raises:
        MemoryError: the C function had none.
    """
    numbers: int = library.enhance(
        ctypes.byref(about), *map(ctypes.c_void_p, (pixels.ctypes.data, result.ctypes.data)),
        *map(ctypes.c_int64, (rows.start, rows.stop)),
    )  # fmt: skip
    if numbers < 0:
        raise MemoryError
    return numbers == 1


@cache
def _choose(name: str, package: str) -> ctypes.CDLL | None:
    def load(wanted: str) -> ctypes.CDLL | None:
        if wanted == "torch":
            return None
        if wanted == "triton":
            raise Unavailable("Triton's kernels are for a CUDA device")
        with as_file(files(package).joinpath("fast.c")) as source:
            library = shared_library(source)
        library.enhance.restype = ctypes.c_int64
        return library

    return choose(VARIABLE, name, _NAMES, f"{package}'s network on a CPU", ("c",), load)


@cache
def _choose_for_device(name: str, package: str, device: torch.device) -> Any:
    def load(wanted: str) -> Any:
        if wanted == "torch":
            return None
        if wanted == "c":
            raise Unavailable("C's kernels are for a CPU")
        try:
            # Only what is asked for is imported: Triton is not installed everywhere.
            kernels = import_module(f"{package}.triton_kernels")
            kernels.require(device)
        except Exception as error:  # without a C compiler Triton raises any
            raise Unavailable(f"Triton does not run here ({error})") from error
        return kernels

    return choose(VARIABLE, name, _NAMES, f"{package}'s network on {device}", ("triton",), load)
