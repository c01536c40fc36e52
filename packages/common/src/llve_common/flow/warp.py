"""Backward warping: sample an image where a flow field points."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llve_common.errors import DataError


def warp(image: Tensor, flow: Tensor, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Sample ``image`` at every pixel's own position plus ``flow``.

    ``out[y, x] = image[y + flow_y, x + flow_x]``, so to bring frame ``a`` onto frame ``b``, give
    the flow from ``b`` to ``a``. Neighbours outside the image are clamped to its border; the
    fractions are taken before clamping.

    The values are those of ``grid_sample(padding_mode="border", align_corners=True)``. The
    gradient for the flow is the slope of the cell that ``floor`` chooses: the difference to the
    right-hand (lower) neighbour at an exact integer, and zero outside the image. ``grid_sample``
    differs there on the border. A position that is not finite gives not a number.

    Args:
        image: (N, C, H, W), floating; any channels and value range.
        flow: (N, 2, H, W), float32 or float64, in pixels; channel 0 is x (columns), channel 1 is
            y (rows).
        mode: ``"nearest"`` takes the nearest pixel, halves rounding right and down, and has no
            gradient for the flow: for masks and label maps.

    Returns:
        (N, C, H, W) in the wider of the two types.

    Raises:
        DataError: the shapes or types do not fit.

    Source: "Resample2d" of FlowNet2 (Ilg et al., CVPR 2017), as used by TCE-Net (Zhu et al.,
    IJCV 2024) for its temporal loss.
    """
    _check(image, flow)
    height, width = image.shape[-2:]
    x = flow[:, 0] + torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1] + torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    image = image.to(torch.promote_types(image.dtype, flow.dtype))
    if mode == "nearest":
        return _take(image, _neighbours(y + 0.5, height)[0], _neighbours(x + 0.5, width)[0])
    left, right, x_fraction = _neighbours(x, width)
    top, bottom, y_fraction = _neighbours(y, height)
    x_weight, y_weight = (f[:, None].to(image.dtype) for f in (x_fraction, y_fraction))
    upper = torch.lerp(_take(image, top, left), _take(image, top, right), x_weight)
    lower = torch.lerp(_take(image, bottom, left), _take(image, bottom, right), x_weight)
    return torch.lerp(upper, lower, y_weight)


def warp_frame(
    frame: npt.NDArray[np.floating], flow: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """:func:`warp` for NumPy: (H, W, C) by a flow (H, W, 2) to (H, W, C) float32.

    Raises:
        DataError: the shapes do not fit.
    """
    warped = warp(_as_map(frame), _as_map(flow))[0].permute(1, 2, 0)
    return np.ascontiguousarray(warped.numpy(), dtype=np.float32)


def _as_map(array: npt.NDArray[np.floating]) -> Tensor:
    # A copy, because torch warns of read-only arrays and refuses negative strides.
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C")).movedim(-1, 0)[None]


def _check(image: Tensor, flow: Tensor) -> None:
    if image.ndim != 4 or not image.is_floating_point():
        got = f"{tuple(image.shape)} {image.dtype}"
        raise DataError("the image to warp does not fit", got=got, expected="(N, C, H, W) floating")
    # A half-precision position is whole pixels off in a large image.
    shape = (image.shape[0], 2, *image.shape[2:])
    if flow.shape != shape or flow.dtype not in (torch.float32, torch.float64):
        got, expected = f"{tuple(flow.shape)} {flow.dtype}", f"{shape} float32 or float64"
        raise DataError("the flow to warp by does not fit", got=got, expected=expected)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both clamped indices around each position of one axis, and the fraction between them."""
    cell = position.detach().floor()
    # Clamping before the cast: what does not fit an integer has no defined cast.
    first = cell.nan_to_num(0.0).clamp(-1, size - 1).long()
    return first.clamp(min=0), (first + 1).clamp(max=size - 1), position - cell


def _take(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read the image at (N, H, W) rows and columns."""
    batch, channels, height, width = image.shape
    index = (rows * width + columns).view(batch, 1, -1).expand(-1, channels, -1)
    return image.flatten(2).gather(2, index).view(batch, channels, height, width)
