"""The unsupervised objective of SCI (CVPR 2022, Section 3.3)."""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llve_sci.config import YCbCr

# Half of the 24 neighbours within two pixels; the other half are their mirror images, and give the
# same value.
_DISPLACEMENTS = (
    (0, 1), (1, 0), (1, 1), (1, -1), (2, 0), (0, 2),
    (2, 1), (2, -1), (1, 2), (1, -2), (2, 2), (2, -2),
)  # fmt: skip
_YCBCR = ((0.257, -0.148, 0.439), (0.564, -0.291, -0.368), (0.098, 0.439, -0.071))
_SIGMA = 10.0
_FIDELITY_WEIGHT = 1.5


def illumination_loss(
    image: Tensor, illumination: Tensor, ycbcr: YCbCr = "published"
) -> dict[str, Tensor]:
    """The weighted fidelity (Eq. 5) and the smoothness (Eq. 6) of one stage.

    Args:
        image: the stage's input (N, 3, H, W), H and W at least 3.
        illumination: of the same shape.
        ycbcr: see :func:`to_ycbcr`.

    Returns:
        ``fidelity`` and ``smoothness``, scalars; their sum is the stage's loss.
    """
    return {
        "fidelity": _FIDELITY_WEIGHT * F.mse_loss(illumination, image),
        "smoothness": smoothness(image, illumination, ycbcr),
    }


def smoothness(image: Tensor, illumination: Tensor, ycbcr: YCbCr = "published") -> Tensor:
    """Differences of the illumination between neighbours, weighted by likeness of colour (Eq. 6).

    For each of the 24 displacements within a 5x5 neighbourhood: the mean, over pixels with both
    ends inside the image, of exp(-|colour difference|² / 200) times the L1 illumination difference.
    """
    # Its gradient is too small for fp16, and colours in bf16 have steps of their own.
    with torch.autocast(image.device.type, enabled=False):
        result: Tensor = _Smoothness.apply(to_ycbcr(image, ycbcr), illumination)
    return result


def to_ycbcr(image: Tensor, form: YCbCr = "published") -> Tensor:
    """RGB (N, 3, H, W) to YCbCr of the same shape.

    ``per-pixel`` converts the three channels of each pixel. ``published`` is what the published
    code computes and the paper's weights were trained with: it takes three values that follow each
    other in memory, which are neighbours of one colour plane, for the channels of a pixel.
    """
    matrix, bias = _conversion(image.device, image.dtype)
    if form == "published":
        return (image.reshape(-1, 3) @ matrix + bias).reshape(image.shape)
    return torch.einsum("nchw,cd->ndhw", image, matrix) + bias[:, None, None]


@cache
def _conversion(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The matrix and the bias, kept: a CUDA graph cannot hold copies from the CPU's memory."""
    with torch.inference_mode(False):
        matrix = torch.tensor(_YCBCR, device=device, dtype=dtype)
        return matrix, torch.tensor([16.0, 128.0, 128.0], device=device, dtype=dtype) / 255.0


class _Smoothness(torch.autograd.Function):
    """Eq. 6 of colours and illumination, with the gradient in the same passes over memory."""

    @staticmethod
    def forward(ctx: Any, colour: Tensor, illumination: Tensor) -> Tensor:
        of_colour, of_illumination = torch.zeros_like(colour), torch.zeros_like(illumination)
        terms = []
        for down, right in _DISPLACEMENTS:
            here, there = _ends(illumination, down, right)
            colour_change = colour[here] - colour[there]
            weight = colour_change.square().sum(1, keepdim=True).div_(-2 * _SIGMA**2).exp_()
            change = illumination[here] - illumination[there]
            term = weight * change.abs().sum(1, keepdim=True)
            terms.append(term.mean())
            share = 2 / max(1, term.numel())
            if ctx.needs_input_grad[0]:
                slope = colour_change.mul_(term.mul_(-share / _SIGMA**2))
                of_colour[here] += slope
                of_colour[there] -= slope
            slope = change.sgn_().mul_(weight.mul_(share))
            of_illumination[here] += slope
            of_illumination[there] -= slope
        ctx.save_for_backward(of_colour, of_illumination)
        return 2 * torch.stack(terms).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        of_colour, of_illumination = ctx.saved_tensors
        return gradients[0] * of_colour, gradients[0] * of_illumination


def _ends(image: Tensor, down: int, right: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Where pixels lie, and their neighbours at (down, right), if both are inside the image."""
    height, width = image.shape[-2:]
    left, overlap = max(0, -right), width - abs(right)
    columns = slice(left, left + overlap), slice(left + right, left + right + overlap)
    return (..., slice(height - down), columns[0]), (..., slice(down, None), columns[1])
