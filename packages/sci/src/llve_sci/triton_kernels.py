"""SCI's estimator and division in Triton, for CUDA devices: levels in, and levels out.

A kernel for each layer, float32 between them; what ``fast.c`` is on a CPU. Triton comes with CUDA
builds of torch; this module is imported only when it is asked for. ``TRITON_INTERPRET=1`` makes
Triton's interpreter run the kernels on a CPU, slowly, for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Columns of a row that a program computes.
_COLUMNS = 512


def require(device: torch.device) -> None:
    """Enhance one pixel; whatever Triton raises passes, as where it finds no C compiler."""
    pixel = torch.zeros(1, 1, 3, dtype=torch.uint8, device=device)
    enhance(pixel, torch.zeros(3, 28, 3, device=device), 1)


def enhance(levels: Tensor, weights: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Enhance a frame on its device's current stream, without waiting for it.

    Args:
        levels: (H, W, 3) RGB, uint8 or uint16, contiguous.
        weights: (3, 28, 3), of the first convolution, of the block and of the last: 27 weights by
            row, column and input, and the bias, for each output.
        depth: how often the block is applied.

    Returns:
        The enhanced levels (H, W, 3), truncated as SCI writes images, and (1) int32, which is 0 if
        all values were numbers.
    """
    height, width = levels.shape[:2]
    grid = (height, triton.cdiv(width, _COLUMNS))
    top = float(torch.iinfo(levels.dtype).max)
    result = torch.empty_like(levels)
    faults = torch.zeros(1, dtype=torch.int32, device=levels.device)
    # Two allocations: Triton compiles once more for what does not begin at a multiple of 16 bytes.
    features = levels.new_empty(3, height, width, dtype=torch.float32)
    spare = torch.empty_like(features)
    first, block, last = weights
    # Triton launches on the current device.
    with torch.cuda.device_of(levels):
        _first[grid](levels, features, first, height, width, 1 / top, _COLUMNS)
        for _ in range(depth):
            _block[grid](features, spare, block, height, width, _COLUMNS)
            features, spare = spare, features
        _last[grid](levels, features, result, faults, last, height, width, top, _COLUMNS)
    return result, faults


@triton.jit
def _place(columns: tl.constexpr):
    """The row of this program, of 64 bits since large frames have more values, and its columns."""
    return tl.program_id(0).to(tl.int64), tl.program_id(1) * columns + tl.arange(0, columns)


@triton.jit
def _convolve(
    source, weights, row, column, height, width, pixel: tl.constexpr, plane, scale,
):  # fmt: skip
    """Three outputs of a scaled source, which is zero beyond the frame.

    ``pixel`` and ``plane`` are the steps to the next pixel and to the next channel.
    """
    red = tl.zeros(column.shape, tl.float32)
    green, blue = red, red
    for tap in tl.static_range(9):
        y, x = row + tap // 3 - 1, column + tap % 3 - 1
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        for channel in tl.static_range(3):
            at = source + (y * width + x) * pixel + channel * plane
            value = tl.load(at, mask=inside, other=0).to(tl.float32)
            weight = weights + 9 * tap + 3 * channel
            red += value * tl.load(weight)
            green += value * tl.load(weight + 1)
            blue += value * tl.load(weight + 2)
    bias = weights + 81
    return (
        red * scale + tl.load(bias),
        green * scale + tl.load(bias + 1),
        blue * scale + tl.load(bias + 2),
    )


@triton.jit
def _relu(value):
    """What is not a number stays so."""
    return tl.where(value < 0, 0.0, value)


@triton.jit(do_not_specialize=["height", "width"])
def _first(levels, features, weights, height, width, scale, columns: tl.constexpr):
    row, column = _place(columns)
    plane, live = tl.cast(height, tl.int64) * width, column < width
    red, green, blue = _convolve(levels, weights, row, column, height, width, 3, 1, scale)
    at = features + row * width + column
    tl.store(at, _relu(red), mask=live)
    tl.store(at + plane, _relu(green), mask=live)
    tl.store(at + 2 * plane, _relu(blue), mask=live)


@triton.jit(do_not_specialize=["height", "width"])
def _block(features, result, weights, height, width, columns: tl.constexpr):
    row, column = _place(columns)
    plane, live = tl.cast(height, tl.int64) * width, column < width
    red, green, blue = _convolve(features, weights, row, column, height, width, 1, plane, 1.0)
    at = row * width + column
    _add(features + at, result + at, red, live)
    _add(features + at + plane, result + at + plane, green, live)
    _add(features + at + 2 * plane, result + at + 2 * plane, blue, live)


@triton.jit
def _add(features, result, value, live):
    tl.store(result, tl.load(features, mask=live, other=0.0) + _relu(value), mask=live)


@triton.jit(do_not_specialize=["height", "width"])
def _last(levels, features, result, faults, weights, height, width, top, columns: tl.constexpr):
    row, column = _place(columns)
    plane, live = tl.cast(height, tl.int64) * width, column < width
    red, green, blue = _convolve(features, weights, row, column, height, width, 1, plane, 1.0)
    at = (row * width + column) * 3
    _divide(levels + at, result + at, red, faults, top, live)
    _divide(levels + at + 1, result + at + 1, green, faults, top, live)
    _divide(levels + at + 2, result + at + 2, blue, faults, top, live)


@triton.jit
def _divide(levels, result, residual, faults, top, live):
    """Write the levels of a channel; division rounds as PyTorch's does, to truncate as it does."""
    image = tl.load(levels, mask=live, other=0).to(tl.float32)
    image = tl.math.div_rn(image, tl.zeros_like(image) + top)
    is_number = residual == residual
    illumination = tl.minimum(tl.maximum(tl.sigmoid(residual) + image, 1e-4), 1.0)
    enhanced = tl.minimum(tl.math.div_rn(image, illumination), 1.0) * top
    enhanced = tl.where(is_number, enhanced, 0.0).to(tl.int32).to(result.dtype.element_ty)
    tl.store(result, enhanced, mask=live)
    tl.store(faults + tl.zeros_like(residual).to(tl.int32), 1, mask=live & ~is_number)
