"""Correlation of every pixel's features with a window around its match."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Values gathered at a time: 8 MB, near what a processor's cache holds.
_GATHERED = 2**21


def local_correlation(first: Tensor, second: Tensor, flow: Tensor, radius: int) -> Tensor:
    """Scalar products of A's features with B's around their match, over sqrt(C).

    Channel ``(a + r) (2 r + 1) + (b + r)`` is the product with B's features, sampled bilinearly
    with zeros outside, ``a`` rows below and ``b`` columns right of the match. All samples of one
    window lie whole pixels apart and so share their bilinear weights: the products are taken at
    whole pixels, once each, and interpolated afterwards, which needs a quarter of the products.

    Args:
        first: (N, C, H, W), the features of A.
        second: of the same shape, those of B.
        flow: (N, 2, H, W), from A to B.
        radius: r, in pixels of these maps.

    Returns:
        (N, (2 r + 1)^2, H, W).
    """
    batch, channels, height, width = first.shape
    size = flow.new_tensor([width, height]).view(1, 2, 1, 1)
    position = ((flow + 1) * size - 1) / 2
    corner = position.floor()
    x_fraction, y_fraction = (position - corner).unbind(1)
    products = _products(first, second, corner, radius)
    products = products.view(batch, height, width, 2 * radius + 2, 2 * radius + 2)
    products = products.permute(3, 4, 0, 1, 2)
    products = torch.lerp(products[:-1], products[1:], y_fraction)
    products = torch.lerp(products[:, :-1], products[:, 1:], x_fraction)
    correlation: Tensor = products.flatten(0, 1).transpose(0, 1) / channels**0.5
    return correlation


def _products(first: Tensor, second: Tensor, corner: Tensor, radius: int) -> Tensor:
    """Products (N H W, (2 r + 2)^2) of each pixel with the whole pixels from r before its corner.

    Gathered in parts: at once they would take some gigabytes at strides 8 and 4.
    """
    channels = first.shape[1]
    places = _window(corner, radius)
    queries = first.permute(0, 2, 3, 1).reshape(-1, channels, 1)
    # A border of zeros stands for everything outside.
    support = F.pad(second, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
    products = first.new_empty(places.shape)
    part = max(1, _GATHERED // (places.shape[1] * channels))
    for start in range(0, len(places), part):
        here = slice(start, start + part)
        gathered = support.index_select(0, places[here].flatten())
        gathered = gathered.view(-1, places.shape[1], channels)
        products[here] = (gathered @ queries[here])[..., 0]
    return products


def _window(corner: Tensor, radius: int) -> Tensor:
    """Where each pixel's window lies in the padded, flattened maps: (N H W, (2 r + 2)^2)."""
    batch, _, height, width = corner.shape
    offsets = torch.arange(-radius, radius + 2, device=corner.device)
    # Far outside is as good as just outside, and what does not fit an integer has no defined cast.
    bounded = corner.nan_to_num(-radius - 2.0)
    column = bounded[:, 0].clamp(-radius - 2, width + radius + 1).long()[..., None] + offsets
    row = bounded[:, 1].clamp(-radius - 2, height + radius + 1).long()[..., None] + offsets
    item = torch.arange(batch, device=corner.device).view(-1, 1, 1, 1) * (height + 2)
    row = (item + row.clamp(-1, height) + 1) * (width + 2)
    column = column.clamp(-1, width) + 1
    return (row[..., :, None] + column[..., None, :]).view(batch * height * width, -1)
