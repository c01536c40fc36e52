"""Iterative updates of the flow, and its enlargement (Section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE = 8
"""The network works at one over this of the size."""


class Update(nn.Module):
    """The recurrent update (Section 3.3); the small one has one GRU, and bilinear upsampling."""

    def __init__(self, window: int, hidden: int, context: int, *, small: bool) -> None:
        super().__init__()
        self.mask: nn.Sequential | None = None
        self.encoder = MotionEncoder(window, small=small)
        if small:
            self.gru: nn.Module = Gru(hidden, context + 82)
            self.flow_head = FlowHead(hidden, 128)
        else:
            self.gru = SeparableGru(hidden, context + 128)
            self.flow_head = FlowHead(hidden, 256)
            self.mask = nn.Sequential(
                nn.Conv2d(hidden, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * MULTIPLE**2, 1)
            )

    def forward(
        self, hidden: Tensor, context: Tensor, samples: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and what to add to the flow, at an eighth of the size."""
        motion = self.encoder(samples, flow)
        hidden = self.gru(hidden, torch.cat([context, motion], 1))
        return hidden, self.flow_head(hidden)

    def upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """The flow at full size, by learned convex combinations of neighbours, or bilinearly."""
        if self.mask is None:
            return MULTIPLE * F.interpolate(
                flow, scale_factor=MULTIPLE, mode="bilinear", align_corners=True
            )
        # The factor balances the gradients that mask and flow get.
        return convex_upsample(flow, 0.25 * self.mask(hidden))


class MotionEncoder(nn.Module):
    """Features of the correlation samples and the flow, and the flow itself as the last two.

    There are 128 channels, and 82 in the small model.
    """

    def __init__(self, window: int, *, small: bool) -> None:
        super().__init__()
        wide, similar, moved, outputs = (96, 96, 64, 80) if small else (256, 192, 128, 126)
        self.convc1 = nn.Conv2d(window, wide, 1)
        self.convc2 = nn.Identity() if small else nn.Conv2d(wide, similar, 3, padding=1)
        self.convf1 = nn.Conv2d(2, moved, 7, padding=3)
        self.convf2 = nn.Conv2d(moved, moved // 2, 3, padding=1)
        self.conv = nn.Conv2d(similar + moved // 2, outputs, 3, padding=1)

    def forward(self, samples: Tensor, flow: Tensor) -> Tensor:
        """(N, window, h, w) and (N, 2, h, w) to (N, outputs + 2, h, w)."""
        similar = torch.relu(self.convc2(torch.relu(self.convc1(samples))))
        moved = torch.relu(self.convf2(torch.relu(self.convf1(flow))))
        motion = torch.relu(self.conv(torch.cat([similar, moved], 1)))
        return torch.cat([motion, flow], 1)


class Gru(nn.Module):
    """A gated recurrent unit of 3x3 convolutions (Eq. 3 to 6)."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.convz, self.convr, self.convq = (
            nn.Conv2d(hidden + inputs, hidden, 3, padding=1) for _ in range(3)
        )

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The next hidden state (N, hidden, h, w)."""
        return _gated(hidden, inputs, self.convz, self.convr, self.convq)


class SeparableGru(nn.Module):
    """Two gated recurrent units in a row, along rows and then along columns."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        (self.convz1, self.convr1, self.convq1), (self.convz2, self.convr2, self.convq2) = (
            [nn.Conv2d(hidden + inputs, hidden, kernel, padding="same") for _ in range(3)]
            for kernel in ((1, 5), (5, 1))
        )

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The next hidden state (N, hidden, h, w)."""
        hidden = _gated(hidden, inputs, self.convz1, self.convr1, self.convq1)
        return _gated(hidden, inputs, self.convz2, self.convr2, self.convq2)


class FlowHead(nn.Module):
    """Two convolutions from the hidden state to the flow's update."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, hidden, h, w) to (N, 2, h, w)."""
        delta: Tensor = self.conv2(torch.relu(self.conv1(hidden)))
        return delta


def convex_upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Enlarge a flow eightfold: each fine pixel a convex combination of 3x3 coarse ones.

    Args:
        flow: (N, 2, h, w), in coarse pixels; zeros around it.
        mask: (N, 9 · 8 · 8, h, w): for each of the nine neighbours, the fine rows and columns;
            a softmax over the neighbours makes them weights.

    Returns:
        (N, 2, 8 h, 8 w), in fine pixels.

    Source: Section 3.3, "Upsampling".
    """
    weights = mask.unflatten(1, (9, MULTIPLE, MULTIPLE)).softmax(1)
    neighbours = F.unfold(MULTIPLE * flow, 3, padding=1).unflatten(1, (2, 9))
    neighbours = neighbours.unflatten(3, flow.shape[2:])
    fine = torch.einsum("nkijyx,nckyx->ncyixj", weights, neighbours)
    return fine.flatten(4, 5).flatten(2, 3)


def _gated(
    hidden: Tensor, inputs: Tensor, update: nn.Module, reset: nn.Module, new: nn.Module
) -> Tensor:
    both = torch.cat([hidden, inputs], 1)
    z, r = torch.sigmoid(update(both)), torch.sigmoid(reset(both))
    q = torch.tanh(new(torch.cat([r * hidden, inputs], 1)))
    return (1 - z) * hidden + z * q
