"""What SGZ does to whole frames, in Triton, for CUDA devices: the reduction and the eight steps.

Levels in, and levels out; what ``fast.c`` is on a CPU. Triton comes with CUDA builds of torch; this
module is imported only when it is asked for. ``TRITON_INTERPRET=1`` makes Triton's interpreter run
the kernels on a CPU, slowly, for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from llve_sgz.network import STEPS

# Values of a row that a program computes.
_VALUES = 1024


def require(device: torch.device) -> None:
    """Enhance one pixel; whatever Triton raises passes, as where it finds no C compiler."""
    pixel = torch.zeros(1, 1, 3, dtype=torch.uint8, device=device)
    brighten(pixel, reduce(pixel, 1), 1)


def reduce(levels: Tensor, scale: int) -> Tensor:
    """A frame padded to multiples of the scale factor and resized bilinearly by 1 / scale.

    Args:
        levels: (H, W, 3) RGB, uint8 or uint16, contiguous.
        scale: the scale factor.

    Returns:
        (H / scale, W / scale, 3), sides rounded up, float32 in [0, 1].
    """
    height, width = levels.shape[:2]
    rows, columns = triton.cdiv(height, scale), triton.cdiv(width, scale)
    result = levels.new_empty(rows, columns, 3, dtype=torch.float32)
    mirror = -height % scale < height and -width % scale < width
    whole = 4.0 * torch.iinfo(levels.dtype).max
    grid = (rows, triton.cdiv(3 * columns, _VALUES))
    # Triton launches on the current device.
    with torch.cuda.device_of(levels):
        _reduce[grid](levels, result, height, width, columns, whole, scale, mirror, _VALUES)
    return result


def brighten(levels: Tensor, factor: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Apply eight times x + factor (x² - x), with the factor enlarged by the scale.

    Args:
        levels: (H, W, 3) RGB, uint8 or uint16, contiguous.
        factor: (H / scale, W / scale, 3), sides rounded up, float32, contiguous; it is enlarged
            bilinearly, corners aligned.
        scale: the scale factor.

    Returns:
        The enhanced levels (H, W, 3), halves rounded up, as SGZ writes images, and (1) int32, which
        is 0 if all values were numbers.
    """
    height, width = levels.shape[:2]
    grid = (height, triton.cdiv(3 * width, _VALUES))
    top = float(torch.iinfo(levels.dtype).max)
    result = torch.empty_like(levels)
    faults = torch.zeros(1, dtype=torch.int32, device=levels.device)
    small = factor.shape[:2]
    spacings = ((side - 1) / max(side * scale - 1, 1) for side in small)
    with torch.cuda.device_of(levels):
        _brighten[grid](
            levels, factor, result, faults, width, *small, *spacings, top, STEPS, _VALUES
        )
    return result, faults


@triton.jit
def _place(values: tl.constexpr):
    """The row of this program and its values there, of 64 bits since large frames have more."""
    at = tl.program_id(1).to(tl.int64) * values + tl.arange(0, values)
    return tl.program_id(0).to(tl.int64), at


@triton.jit(do_not_specialize=["height", "width", "columns"])
def _reduce(
    levels, result, height, width, columns, whole,
    scale: tl.constexpr, mirror: tl.constexpr, values: tl.constexpr,
):  # fmt: skip
    row, value = _place(values)
    column, channel, live = value // 3, value % 3, value < 3 * columns
    total = tl.zeros(column.shape, tl.float32)
    # Of each square only the middle ones count, four for an even factor and one for an odd one.
    for corner in tl.static_range(4):
        y = _inside(row * scale + (scale - 1 + corner // 2) // 2, height, mirror)
        x = _inside(column * scale + (scale - 1 + corner % 2) // 2, width, mirror)
        at = levels + (y * width + x) * 3 + channel
        total += tl.load(at, mask=live, other=0).to(tl.float32)
    result += row * columns * 3 + value
    tl.store(result, tl.math.div_rn(total, tl.zeros_like(total) + whole), mask=live)


@triton.jit
def _inside(place, length, mirror: tl.constexpr):
    """Beyond the end lies the reflection, or the last one again where there is too little."""
    last = length - 1
    return tl.where(place > last, 2 * last - place, place) if mirror else tl.minimum(place, last)


@triton.jit(do_not_specialize=["width", "rows", "columns"])
def _brighten(
    levels, factor, result, faults, width, rows, columns, row_spacing, column_spacing, top,
    steps: tl.constexpr, values: tl.constexpr,
):  # fmt: skip
    row, at = _place(values)
    column, channel, live = at // 3, at % 3, at < 3 * width
    above, lower, down = _around(row, row_spacing, rows - 1)
    left, right, across = _around(column, column_spacing, columns - 1)
    upper = _mixed(factor + above * columns * 3 + channel, left, right, across, live)
    under = _mixed(factor + lower * columns * 3 + channel, left, right, across, live)
    step = upper + down * (under - upper)
    at += row * width * 3
    value = tl.load(levels + at, mask=live, other=0).to(tl.float32)
    value = tl.math.div_rn(value, tl.zeros_like(value) + top)
    for _ in tl.static_range(steps):
        value -= step * (value - value * value)
    is_number = value == value
    value = tl.minimum(tl.maximum(value, 0.0), 1.0) * top + 0.5
    enhanced = tl.where(is_number, value, 0.0).to(tl.int32).to(result.dtype.element_ty)
    tl.store(result + at, enhanced, mask=live)
    tl.store(faults + tl.zeros_like(at), 1, mask=live & ~is_number)


@triton.jit
def _around(place, spacing, last):
    """The places around this one of the enlarged in the small, and how far it is from the first.

    In float32, as PyTorch has them.
    """
    exact = place.to(tl.float32) * spacing
    first = tl.minimum(exact.to(tl.int64), last)
    return first, tl.minimum(first + 1, last), exact - first


@triton.jit
def _mixed(factor, left, right, across, live):
    """The factor of a row between two of its columns."""
    one = tl.load(factor + left * 3, mask=live, other=0.0)
    other = tl.load(factor + right * 3, mask=live, other=0.0)
    return one + across * (other - one)
