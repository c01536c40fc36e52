"""Draws single matches from a warp, for estimating geometry."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from llve_common.errors import DataError

_CERTAIN = 0.05
_SPARSE = 10
_PART = 1024


def draw_matches(
    warp: Tensor,
    certainty: Tensor,
    number: int = 10_000,
    *,
    weighting: Literal["threshold", "pow", "naive"] = "threshold",
    balanced: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw matches without replacement, the more certain the likelier.

    Args:
        warp: (H, W, 4), as the matcher gives it.
        certainty: (H, W) in [0, 1].
        number: how many at most.
        weighting: ``threshold`` takes a certainty above 0.05 as 1, ``pow`` its third root, and
            ``naive`` every one as 1.
        balanced: draw four times as many first and of these the likelier the fewer are near, so
            that the matches spread over the images. Matches that stand alone are avoided.
        generator: of the draws; torch's own where it is None.

    Returns:
        Matches (M, 4) in [-1, 1] and their weighted certainty (M,).

    Raises:
        DataError: no pixel has a match.
    """
    matches = warp.reshape(-1, 4)
    weights = _weighted(certainty, weighting).flatten()
    if not bool((weights > 0).any()):
        raise DataError("there is no match to draw", got="a certainty of 0 everywhere")
    wanted = min(4 * number if balanced else number, len(weights))
    drawn = torch.multinomial(weights, wanted, generator=generator)
    matches, weights = matches[drawn], weights[drawn]
    if not balanced:
        return matches, weights
    spread = balancing_weights(density(matches))
    drawn = torch.multinomial(spread, min(number, len(spread)), generator=generator)
    return matches[drawn], weights[drawn]


def density(matches: Tensor, deviation: float = 0.1) -> Tensor:
    """How many matches (M, 4) are near each, itself included, weighted by a Gaussian: (M,)."""
    # Exact distances, in parts: the matrix of 40 000 by 40 000 takes 6 GB.
    distances = (
        torch.cdist(part, matches, compute_mode="donot_use_mm_for_euclid_dist")
        for part in matches.split(_PART)
    )
    return torch.cat([torch.exp(-(d**2) / (2 * deviation**2)).sum(1) for d in distances])


def balancing_weights(density: Tensor) -> Tensor:
    """Weights that even out a density (M,); 1e-7 where it is below 10, which is no consensus."""
    return torch.where(density < _SPARSE, 1e-7, 1 / (density + 1))


def to_pixels(
    matches: Tensor, first: tuple[int, int], second: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Matches (M, 4) in the pixels of images of size (height, width): twice (M, 2), (x, y).

    Pixel centres lie at halves, borders at 0 and at the size.
    """
    a, b = (
        (half + 1) * half.new_tensor([size[1], size[0]]) / 2
        for half, size in zip(matches.split(2, dim=-1), (first, second), strict=True)
    )
    return a, b


def _weighted(certainty: Tensor, weighting: str) -> Tensor:
    if weighting == "threshold":
        return torch.where(certainty > _CERTAIN, 1.0, certainty)
    if weighting == "pow":
        return certainty ** (1 / 3)
    return torch.ones_like(certainty)
