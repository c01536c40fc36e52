"""Global matching by Gaussian process regression (Section 3.2 of the paper)."""

import math

import torch
from torch import Tensor, nn

from llve_stcd.dkm.positions import grid

_TEMPERATURE = 0.2
_NOISE = 0.1
_FREQUENCY = 8 * math.pi


class GaussianProcess(nn.Module):
    """Regresses, from features of image B to its positions, where the features of A lie in B.

    Positions are embedded by cosines of a linear map, so that the mean can tell of several matches.
    """

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.pos_conv = nn.Conv2d(2, channels, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The mean ``K_ab (K_bb + 0.1 I)^-1 v`` of the embedding ``v`` of B's positions.

        From the features of A (N, C, H, W) and B (N, C, H', W'): (N, channels, H, W), on A's grid.
        """
        a, b = (features.flatten(2).mT for features in (first, second))
        values = self.embedding(second).flatten(1).T
        noisy = kernel(b, b) + _NOISE * torch.eye(b.shape[1], dtype=b.dtype, device=b.device)
        # One item after the other: batched solvers are unreliable on several threads in some
        # builds of torch, and the memory of a factor is needed once only.
        weights = [torch.cholesky_solve(values, torch.linalg.cholesky(each)) for each in noisy]
        mean = (kernel(a, b) @ torch.stack(weights)).mT
        return mean.reshape(len(mean), -1, *first.shape[-2:])

    def embedding(self, features: Tensor) -> Tensor:
        """The embedded positions (channels, H, W) of the pixels of a map (N, C, H, W)."""
        return torch.cos(_FREQUENCY * self.pos_conv(grid(features)[None])[0])


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """``exp((cos(a, b) - 1) / 0.2)`` of all pairs: (N, P, C) and (N, Q, C) to (N, P, Q)."""
    norms = a.norm(dim=-1)[:, :, None] * b.norm(dim=-1)[:, None, :]
    return torch.exp((a @ b.mT / (norms + 1e-6) - 1) / _TEMPERATURE)
