"""The objective of STCD (IJCAI 2025): pixels, smooth shading, consistent view-independent parts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.machine.replay import constant
from llve_stcd.config import Criterion
from llve_stcd.dkm.positions import resize
from llve_stcd.network import Decomposition

_SMOOTHNESS_WEIGHT = 0.1
_CORRESPONDENCE_WEIGHT = 0.1
_LUMA = (0.299, 0.587, 0.114)


def decomposition_loss(
    found: Decomposition,
    target1: Tensor,
    target2: Tensor,
    warp: Tensor,
    certainty: Tensor,
    *,
    criterion: Criterion = "cb",
    pixel_weight: float = 1.0,
) -> dict[str, Tensor]:
    """The three weighted terms of a step.

    Args:
        found: what the network gave of two frames, each (N, 3, H, W).
        target1: the first frame's ground truth (N, 3, H, W), RGB, [0, 1].
        target2: the second frame's.
        warp: matches between the targets, (N, h, 2w, 4); see :mod:`llve_stcd.matchers`.
        certainty: of the matches, (N, h, 2w) in [0, 1].
        criterion: how differences are penalised.
        pixel_weight: of the pixel and the smoothness term; the correspondence term, as published,
            goes without it.

    Returns:
        ``pixel``, ``smoothness`` and ``correspondence``, scalars; their sum is the total.
    """
    pixel1 = pixel_loss(found.enhanced1, target1, criterion)
    pixel2 = pixel_loss(found.enhanced2, target2, criterion)
    smooth1 = shading_smoothness(found.ill1, target1)
    smooth2 = shading_smoothness(found.ill2, target2)
    correspondence = correspondence_loss(found.rgb1, found.rgb2, warp, certainty, criterion)
    return {
        "pixel": pixel_weight * (pixel1 + pixel2),
        "smoothness": pixel_weight * _SMOOTHNESS_WEIGHT * ((smooth1 + smooth2) / 2),
        "correspondence": _CORRESPONDENCE_WEIGHT * correspondence.mean(),
    }


def summed(criterion: Criterion) -> tuple[str, ...]:
    """Which of the terms are sums over a batch; the others are means over its samples."""
    return ("smoothness",) if criterion == "cb2" else ("pixel", "smoothness")


def pixel_loss(enhanced: Tensor, target: Tensor, criterion: Criterion) -> Tensor:
    """The criterion between two batches (N, 3, H, W): a sum over all of it, or a mean."""
    penalty = _penalty(enhanced - target, criterion)
    return penalty.mean() if criterion == "cb2" else penalty.sum()


def shading_smoothness(shading: Tensor, target: Tensor) -> Tensor:
    """Squared steps of the shading, allowed where the ground truth has edges.

    Steps to the right and down are weighted by 1.5 / (|step of log luma|^1.2 + 1e-4), summed over
    the batch and the pixels that have both neighbours, and halved.

    Args:
        shading: (N, 3, H, W).
        target: the ground truth (N, 3, H, W), RGB, [0, 1].

    Source: after Farbman et al., "Edge-Preserving Decompositions for Multi-Scale Tone and Detail
    Manipulation", SIGGRAPH 2008, Equation 4.
    """
    luma = (target * constant(_LUMA, target)[:, None, None]).sum(1, keepdim=True)
    edges = _steps(torch.log(luma + 1e-4))
    terms = [
        (1.5 / (edge.abs() ** 1.2 + 1e-4) * step**2).sum()
        for edge, step in zip(edges, _steps(shading), strict=True)
    ]
    return torch.stack(terms).sum() / 2


def correspondence_loss(
    rgb1: Tensor, rgb2: Tensor, warp: Tensor, certainty: Tensor, criterion: Criterion
) -> Tensor:
    """Differences between view-independent parts at matching places, weighted by certainty.

    Args:
        rgb1: the first frame's view-independent part (N, 3, H, W).
        rgb2: the second frame's.
        warp: (N, h, 2w, 4) in [-1, 1]; see :mod:`llve_stcd.matchers`.
        certainty: (N, h, 2w).
        criterion: how differences are penalised.

    Returns:
        (N,): the criterion of each pair of frames, the mean of both directions.
    """
    to_second, to_first = warp.to(rgb1).chunk(2, dim=2)
    certainty1, certainty2 = certainty.to(rgb1)[:, None].chunk(2, dim=3)
    error1 = _mismatch(rgb1, rgb2, to_second[..., 2:], certainty1)
    error2 = _mismatch(rgb2, rgb1, to_first[..., :2], certainty2)
    penalty = (_penalty(error1, criterion) + _penalty(error2, criterion)).flatten(1) / 2
    return penalty.mean(1) if criterion == "cb2" else penalty.sum(1)


def _mismatch(image: Tensor, other: Tensor, places: Tensor, certainty: Tensor) -> Tensor:
    """The image minus the other one at the matching places (N, h, w, 2), times the certainty."""
    size, matched_size = image.shape[-2:], certainty.shape[-2:]
    sampled = F.grid_sample(resize(other, matched_size), places, align_corners=False)
    weight = resize(certainty, size)
    return image * weight - resize(sampled, size) * weight


def _steps(image: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and the lower neighbour, (N, C, H-1, W-1)."""
    corner = image[..., :-1, :-1]
    return image[..., :-1, 1:] - corner, image[..., 1:, :-1] - corner


def _penalty(difference: Tensor, criterion: Criterion) -> Tensor:
    if criterion == "l1":
        return difference.abs()
    if criterion == "l2":
        return difference**2
    return torch.sqrt(difference**2 + 1e-6)
