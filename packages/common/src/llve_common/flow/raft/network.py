"""The whole network."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from llve_common.errors import DataError
from llve_common.flow.raft.correlation import LEVELS, correlation_pyramid, look_up
from llve_common.flow.raft.encoder import Encoder
from llve_common.flow.raft.update import MULTIPLE, Update

ITERATIONS = 12
SHORTEST_SIDE = 128


class RaftFlow(NamedTuple):
    """What RAFT finds.

    Attributes:
        low: (N, 2, H/8, W/8), the last iteration's flow in pixels of that size.
        flows: (N, 2, H, W) each, at full size; of every iteration on request, else of the last.
    """

    low: Tensor
    flows: list[Tensor]

    @property
    def flow(self) -> Tensor:
        """(N, 2, H, W), the last iteration's flow."""
        return self.flows[-1]


class Raft(nn.Module):
    """RAFT, full or small: 5 257 536 or 990 162 parameters.

    In training mode the full model's context encoder normalises by the batch and moves its running
    statistics; nothing else depends on the mode.

    Args:
        small: the paper's RAFT-S: bottleneck blocks, one 3x3 GRU, bilinear upsampling.
    """

    def __init__(self, *, small: bool = False) -> None:
        super().__init__()
        self.small = small
        self.hidden, self.radius = (96, 3) if small else (128, 4)
        context = 64 if small else 128
        self.fnet = Encoder(128 if small else 256, "instance", small=small)
        self.cnet = Encoder(self.hidden + context, "none" if small else "batch", small=small)
        window = LEVELS * (2 * self.radius + 1) ** 2
        self.update_block = Update(window, self.hidden, context, small=small)

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        *,
        iterations: int = ITERATIONS,
        start: Tensor | None = None,
        every: bool = False,
    ) -> RaftFlow:
        """Estimate the flow from ``first`` to ``second``.

        Memory grows with the square of the pixels: the correlation of all pairs takes
        4/3 N (HW/64)^2 floats, which is 6 MB at 256x256, 0.3 GB at 512x960 (measured in all:
        0.65 GB) and 5.7 GB at 1088x1920. A gradient takes as much again.

        Args:
            first: (N, 3, H, W), RGB; H and W multiples of 8 and at least 128. The published weights
                expect values in [-1, 1]. Any other size: :func:`raft_flow`.
            second: the same shape.
            iterations: how often the flow is refined.
            start: (N, 2, H/8, W/8), the flow to refine, in pixels of that size; none is 0.
            every: also give the flow after each iteration.

        Raises:
            DataError: the images differ, or are not of such a size.
        """
        _check(first, second)
        one, two = self.fnet(torch.cat([first, second])).chunk(2)
        pyramid = correlation_pyramid(one, two)
        context = self.cnet(first)
        hidden = torch.tanh(context[:, : self.hidden])
        context = torch.relu(context[:, self.hidden :])
        origin = _pixels(one)
        position = origin if start is None else origin + start
        flows = []
        for iteration in range(iterations):
            position = position.detach()
            samples = look_up(pyramid, position, self.radius)
            hidden, delta = self.update_block(hidden, context, samples, position - origin)
            position = position + delta
            if every or iteration == iterations - 1:
                flows.append(self.update_block.upsample(position - origin, hidden))
        return RaftFlow(position - origin, flows)


def _pixels(features: Tensor) -> Tensor:
    """Every pixel's own position (N, 2, h, w), (x, y)."""
    batch, _, *size = features.shape
    y, x = (torch.arange(side, dtype=features.dtype, device=features.device) for side in size)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows]).expand(batch, -1, -1, -1)


def _check(first: Tensor, second: Tensor) -> None:
    check_pair(first, second)
    if any(side % MULTIPLE or side < SHORTEST_SIDE for side in first.shape[-2:]):
        raise DataError(
            "images of this size do not fit RAFT",
            got=f"{first.shape[-1]}x{first.shape[-2]}",
            expected=f"sides of at least {SHORTEST_SIDE} pixels that are multiples of {MULTIPLE}",
            mend="raft_flow pads them",
        )


def check_pair(first: Tensor, second: Tensor) -> None:
    """Refuse what is not two images (N, 3, H, W) of one size, by a DataError."""
    if first.ndim != 4 or first.shape[1] != 3 or first.shape != second.shape or not first.numel():
        got, expected = f"{tuple(first.shape)} and {tuple(second.shape)}", "twice (N, 3, H, W)"
        raise DataError("the two images do not fit", got=got, expected=f"{expected}, not empty")
