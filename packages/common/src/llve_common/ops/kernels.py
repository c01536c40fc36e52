"""Papers' own kernels in C, which do a whole network's work, compiled where they are used.

The environment variable ``LLVE_KERNELS`` says: ``torch``, layer by layer in PyTorch; ``c``; or
``auto``, the default: C, and PyTorch where that cannot be had. What was chosen is logged once.
"""

import ctypes
import os
from functools import cache
from importlib.resources import as_file, files

from llve_common.io.images import Pixels
from llve_common.ops.compiler import shared_library
from llve_common.ops.selection import choose

VARIABLE = "LLVE_KERNELS"


def kernel_library(package: str, *definitions: str) -> ctypes.CDLL | None:
    """The compiled ``fast.c`` of a paper's package; None where PyTorch is to be used.

    Raises:
        ConfigError: ``LLVE_KERNELS`` names what does not exist or cannot be had.
    """
    return _choose(os.environ.get(VARIABLE, "auto"), package, definitions)


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
def _choose(name: str, package: str, definitions: tuple[str, ...]) -> ctypes.CDLL | None:
    def load(wanted: str) -> ctypes.CDLL | None:
        if wanted == "torch":
            return None
        with as_file(files(package).joinpath("fast.c")) as source:
            library = shared_library(source, *definitions)
        library.enhance.restype = ctypes.c_int64
        return library

    return choose(VARIABLE, name, ("torch", "c"), f"{package}'s network on a CPU", ("c",), load)
