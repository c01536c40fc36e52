"""Refines a flow at one stride by convolutions over what the match looks like (Section 3.3)."""

import torch
from torch import Tensor, nn

from llve_stcd.dkm.correlation import local_correlation
from llve_stcd.dkm.positions import grid, sample

_HIDDEN_BLOCKS = 8


class Refiner(nn.Module):
    """Predicts how to change flow and certainty.

    Args:
        channels: of each image's features.
        embedding: channels that the displacement is embedded in.
        radius: of the local correlation; None for none.
        hidden: channels inside, a multiple of those that go in; None for as many as go in.
    """

    def __init__(
        self, channels: int, embedding: int, radius: int | None = None, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.radius = radius
        inputs = 2 * channels + embedding + (0 if radius is None else (2 * radius + 1) ** 2)
        hidden = hidden or inputs
        self.block1 = _block(inputs, hidden)
        self.hidden_blocks = nn.Sequential(*(_block(hidden, hidden) for _ in range(_HIDDEN_BLOCKS)))
        self.out_conv = nn.Conv2d(hidden, 3, 1)
        self.disp_emb = nn.Conv2d(2, embedding, 1)

    def forward(self, first: Tensor, second: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The change of the certainty (N, 1, H, W) and the displacement (N, 2, H, W).

        From the features (N, channels, H, W) of A and B, and the flow (N, 2, H, W) from A to B. The
        displacement is in eighths of this stride's pixels.
        """
        features = self.hidden_blocks(self.block1(self.evidence(first, second, flow)))
        prediction = self.out_conv(features)
        return prediction[:, :1], prediction[:, 1:]

    def evidence(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """What is looked at (N, inputs, H, W): A, B where it matches, displacement, correlation."""
        parts = [first, sample(second, flow), self.disp_emb(flow - grid(first))]
        if self.radius is not None:
            parts.append(local_correlation(first, second, flow, self.radius))
        return torch.cat(parts, 1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, padding=2, groups=inputs),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 1),
    )
