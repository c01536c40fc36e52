"""The Haar wavelet transform of feature maps, and its inverse."""

import torch
from torch import Tensor


def haar(features: Tensor) -> Tensor:
    """Decompose into four bands at half the size; an orthonormal transform.

    Of (N, C, H, W), H and W even: (N, 4C, H/2, W/2), the mean LL, the detail HL along columns (x),
    LH along rows (y), and HH along both, C channels each.
    """
    # Half of each pixel of the 2x2 cells: the signs are all that is left to apply.
    half = features / 2
    x1, x2 = half[..., 0::2, 0::2], half[..., 1::2, 0::2]
    x3, x4 = half[..., 0::2, 1::2], half[..., 1::2, 1::2]
    bands = (x1 + x2 + x3 + x4, -x1 - x2 + x3 + x4, -x1 + x2 - x3 + x4, x1 - x2 - x3 + x4)
    return torch.cat(bands, dim=1)


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo :func:`haar`: (N, 4C, H, W) in its order to (N, C, 2H, 2W)."""
    ll, hl, lh, hh = (bands / 2).chunk(4, dim=1)
    even_rows = torch.stack([ll - hl - lh + hh, ll + hl - lh - hh], dim=-1)
    odd_rows = torch.stack([ll - hl + lh - hh, ll + hl + lh + hh], dim=-1)
    return torch.stack([even_rows.flatten(-2), odd_rows.flatten(-2)], dim=-2).flatten(-3, -2)
