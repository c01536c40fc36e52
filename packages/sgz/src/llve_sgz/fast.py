"""SGZ made ready for a CPU: the factor from the whole reduced frame, the rest by blocks of rows.

At full size the published network goes over memory more than thirty times: eight steps of four
operations, and the enlarged factor. Here the factor is enlarged along the rows only, and down the
columns block by block; all steps of a block follow at once and in place, two operations each, while
it lies in the processor's caches.

Where a C compiler is found, all of this is done by one kernel instead: see ``kernel.py``. On a CUDA
device Triton's kernels do what is done to whole frames: see ``triton_kernels.py``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from llve_common.io.images import Pixels, white
from llve_common.ops.kernels import device_kernels
from llve_common.paper.contract import DeviceKernel, Prepared
from llve_sgz.kernel import fused
from llve_sgz.network import STEPS, Enhancer


def prepare(network: nn.Module) -> Prepared | None:
    """The enhanced frame by a network in evaluation mode on the CPU.

    Blocks of rows need no halo, and come out not clipped. None at a scale factor of 1, where
    nothing is reduced.
    """
    assert isinstance(network, Enhancer)
    scale = network.scale_factor
    if scale == 1:
        return None

    def look(pixels: Pixels) -> Tensor:
        reduced = torch.from_numpy(reduce(pixels, scale)).permute(2, 0, 1)[None]
        factor = network.extract(reduced)
        height, width = factor.shape[-2:]
        size = (height, width * scale)
        stretched = F.interpolate(factor, size, mode="bilinear", align_corners=True)
        rows: Tensor = stretched[0, :, :, : pixels.shape[1]].permute(1, 2, 0)
        return rows.flatten(1).contiguous()

    def run(block: Tensor, first: int, rows: Tensor) -> Tensor:
        image = block[0].permute(1, 2, 0).flatten(1)
        factor = _enlarged(rows, range(first, first + len(image)), scale)
        return _brightened(image, factor).reshape(-1, block.shape[-1], 3).permute(2, 0, 1)[None]

    weights = {name: each.numpy() for name, each in network.state_dict().items()}
    return Prepared(run, halo=0, look=look, kernel=fused(weights, scale))


def fuse(network: nn.Module) -> DeviceKernel | None:
    """The same on the CUDA device of the network; None where PyTorch is to be used."""
    assert isinstance(network, Enhancer)
    kernels = device_kernels("llve_sgz", next(network.parameters()).device)
    if kernels is None:
        return None

    @torch.inference_mode()
    def run(levels: Tensor) -> tuple[Tensor, Tensor]:
        reduced = kernels.reduce(levels, network.scale_factor)
        factor = network.extract(reduced.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        enhanced: tuple[Tensor, Tensor] = kernels.brighten(
            levels, factor.contiguous(), network.scale_factor
        )
        return enhanced

    return run


def reduce(pixels: Pixels, scale: int) -> NDArray[np.float32]:
    """A frame padded to multiples of the scale factor and resized bilinearly by 1 / scale.

    From (H, W, 3) RGB, uint8 or uint16, to (H / scale, W / scale, 3), sides rounded up, float32 in
    [0, 1]. Of each square of scale x scale pixels only the middle ones count, four for an even
    factor and one for an odd one: so much, and no more, is read and converted.
    """
    height, width = pixels.shape[:2]
    mirror = -height % scale < height and -width % scale < width
    upper, lower = (_middle(height, scale, side, mirror=mirror) for side in (scale - 1, scale))
    left, right = (_middle(width, scale, side, mirror=mirror) for side in (scale - 1, scale))
    rows = pixels[upper].astype(np.float32) + pixels[lower]
    total: NDArray[np.float32] = rows[:, left] + rows[:, right]
    total /= 4 * white(pixels.dtype)
    return total


def _middle(length: int, scale: int, side: int, *, mirror: bool) -> NDArray[np.intp]:
    """Where the middle of each group of ``scale`` lies, which an even one has two of.

    Beyond the end lies the reflection, or the last one again where there is too little to mirror.
    """
    places = np.arange(side // 2, length + -length % scale, scale)
    last = length - 1
    return np.where(places > last, 2 * last - places, places) if mirror else places.clip(max=last)


def _enlarged(rows: Tensor, wanted: range, scale: int) -> Tensor:
    """Rows of the enlarged factor, corners aligned, each a mean of the two that lie around it."""
    last = len(rows) - 1
    places = torch.arange(wanted.start, wanted.stop) * (last / (len(rows) * scale - 1))
    first = int(places[0])
    around = rows[first : int(places[-1]) + 2]
    distances = places[:, None] - torch.arange(first, first + len(around))
    return (1 - distances.abs()).clamp_(min=0) @ around


def _brightened(image: Tensor, factor: Tensor) -> Tensor:
    """Eight times x + factor (x² - x)."""
    curve = torch.addcmul(image, image, image, value=-1)
    result = torch.addcmul(image, factor, curve, value=-1)
    for _ in range(STEPS - 1):
        torch.addcmul(result, result, result, value=-1, out=curve)
        result.addcmul_(factor, curve, value=-1)
    return result
