"""Positions in [-1, 1]: their grid, and what lies at them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def grid(features: Tensor) -> Tensor:
    """The positions (2, H, W) of the pixels of a map (N, C, H, W), in its type, on its device."""
    height, width = features.shape[-2:]
    x, y = (
        (2 * torch.arange(size, dtype=features.dtype, device=features.device) + 1) / size - 1
        for size in (width, height)
    )
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def sample(features: Tensor, flow: Tensor) -> Tensor:
    """Sample bilinearly, zeros outside: (N, C, H, W) at (N, 2, H', W') gives (N, C, H', W')."""
    return F.grid_sample(features, flow.permute(0, 2, 3, 1), align_corners=False)


def resize(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize (N, C, H, W) bilinearly, without antialiasing; a flow's values stay as they are."""
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
