"""Visual similarity: all pairs of pixels, and windows of them (Section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.machine.replay import constant

LEVELS = 4


def correlation_pyramid(first: Tensor, second: Tensor) -> list[Tensor]:
    """The correlation of all pairs of pixels, and its averages over the second image (Eq. 1).

    Args:
        first: features (N, C, h, w).
        second: the same shape.

    Returns:
        Four levels (N, h · w, h / 2^l, w / 2^l), rounded down: row p holds the dot products of the
        first image's pixel p with every pixel of the second, divided by the root of C.
    """
    channels, height, width = first.shape[1:]
    # Scaling the features instead of the products spares a second volume of that size.
    products = (first / channels**0.5).flatten(2).transpose(1, 2) @ second.flatten(2)
    pyramid = [products.unflatten(2, (height, width))]
    for _ in range(LEVELS - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: list[Tensor], position: Tensor, radius: int) -> Tensor:
    """Read a window of every level around where each pixel is thought to have gone (Section 3.2).

    Level l is read at ``position / 2^l + (a, b)`` for all offsets a and b up to the radius,
    bilinearly, with zeros outside. In the channels, levels come first, then the offset a in x, then
    b in y, which is the order the published weights know: the published code adds the window's
    rows to x and its columns to y.

    Args:
        pyramid: of :func:`correlation_pyramid`.
        position: (N, 2, h, w), (x, y) in the second image.
        radius: of the window.

    Returns:
        (N, levels · (2 radius + 1)², h, w).
    """
    batch, _, height, width = position.shape
    reach = torch.arange(-radius, radius + 1, dtype=position.dtype, device=position.device)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1)
    centres = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    levels = []
    for level, correlation in enumerate(pyramid):
        rows, columns = correlation.shape[2:]
        points = centres / 2**level + offsets
        grid = 2 * points / constant((columns - 1, rows - 1), points) - 1
        read = F.grid_sample(correlation.flatten(0, 1)[:, None], grid, align_corners=True)
        levels.append(read.view(batch, height, width, -1))
    return torch.cat(levels, -1).permute(0, 3, 1, 2).contiguous()
