"""RAFT: optical flow by a network, under its authors' layer names.

Teed, Deng, *RAFT: Recurrent All-Pairs Field Transforms for Optical Flow*, ECCV 2020. Section and
equation numbers are the paper's. Flow is in pixels, (x, y).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.errors import DataError
from llve_common.flow.dis import check_frames

ITERATIONS = 12
MULTIPLE, SHORTEST_SIDE = 8, 128

ImageRange = Literal["unit", "signed"]
"""What [0, 1] images are fed as: ``"unit"`` leaves them, ``"signed"`` maps them to [-1, 1].

The published weights were trained on [-1, 1].
"""

_LEVELS = 4


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
        window = _LEVELS * (2 * self.radius + 1) ** 2
        self.update_block = (
            SmallUpdate(window, self.hidden, context)
            if small
            else Update(window, self.hidden, context)
        )

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


class Encoder(nn.Module):
    """Features at an eighth of the size (Section 3.1).

    Args:
        outputs: channels.
        norm: the normalisation between convolutions.
        small: bottleneck blocks of a quarter of the width, and half as wide.
    """

    def __init__(
        self, outputs: int, norm: Literal["batch", "instance", "none"], *, small: bool
    ) -> None:
        super().__init__()
        block = Bottleneck if small else ResidualBlock
        stem, *widths = (32, 32, 64, 96) if small else (64, 64, 96, 128)
        self.norm1 = _norm(norm, stem)
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3)
        self.layer1 = nn.Sequential(block(stem, widths[0], norm), block(widths[0], widths[0], norm))
        self.layer2 = nn.Sequential(
            block(widths[0], widths[1], norm, stride=2), block(widths[1], widths[1], norm)
        )
        self.layer3 = nn.Sequential(
            block(widths[1], widths[2], norm, stride=2), block(widths[2], widths[2], norm)
        )
        self.conv2 = nn.Conv2d(widths[2], outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, outputs, H/8, W/8)."""
        features = torch.relu(self.norm1(self.conv1(image)))
        features = self.layer3(self.layer2(self.layer1(features)))
        encoded: Tensor = self.conv2(features)
        return encoded


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the second's ReLU comes before the addition, and one more after it.

    The shortcut's normalisation has two names, ``norm3`` and ``downsample.1``, as published.
    """

    def __init__(self, inputs: int, width: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = _norm(norm, width)
        self.norm2 = _norm(norm, width)
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            self.norm3 = _norm(norm, width)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride), self.norm3)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H/stride, W/stride)."""
        residual = torch.relu(self.norm1(self.conv1(features)))
        residual = torch.relu(self.norm2(self.conv2(residual)))
        shortcut = features if self.downsample is None else self.downsample(features)
        return torch.relu(shortcut + residual)


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution, each with its ReLU, and one more after the addition."""

    def __init__(self, inputs: int, width: int, norm: str, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width // 4, 1)
        self.conv2 = nn.Conv2d(width // 4, width // 4, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(width // 4, width, 1)
        self.norm1 = _norm(norm, width // 4)
        self.norm2 = _norm(norm, width // 4)
        self.norm3 = _norm(norm, width)
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            self.norm4 = _norm(norm, width)
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride), self.norm4)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, width, H/stride, W/stride)."""
        residual = torch.relu(self.norm1(self.conv1(features)))
        residual = torch.relu(self.norm2(self.conv2(residual)))
        residual = torch.relu(self.norm3(self.conv3(residual)))
        shortcut = features if self.downsample is None else self.downsample(features)
        return torch.relu(shortcut + residual)


class Update(nn.Module):
    """The full model's recurrent update (Section 3.3).

    Args:
        window: channels of the correlation samples.
        hidden: channels of the hidden state.
        context: channels of the context features.
    """

    def __init__(self, window: int, hidden: int, context: int) -> None:
        super().__init__()
        self.encoder = MotionEncoder(window)
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
        """The flow at full size, by learned convex combinations of neighbours."""
        # The factor balances the gradients that mask and flow get.
        return convex_upsample(flow, 0.25 * self.mask(hidden))


class SmallUpdate(nn.Module):
    """The small model's recurrent update; arguments as for :class:`Update`."""

    def __init__(self, window: int, hidden: int, context: int) -> None:
        super().__init__()
        self.encoder = SmallMotionEncoder(window)
        self.gru = Gru(hidden, context + 82)
        self.flow_head = FlowHead(hidden, 128)

    def forward(
        self, hidden: Tensor, context: Tensor, samples: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and what to add to the flow, at an eighth of the size."""
        motion = self.encoder(samples, flow)
        hidden = self.gru(hidden, torch.cat([context, motion], 1))
        return hidden, self.flow_head(hidden)

    def upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """The flow at full size, bilinearly."""
        return MULTIPLE * F.interpolate(
            flow, scale_factor=MULTIPLE, mode="bilinear", align_corners=True
        )


class MotionEncoder(nn.Module):
    """Features of the correlation samples and the flow; 128 channels, the last two the flow."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(window, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(256, 126, 3, padding=1)

    def forward(self, samples: Tensor, flow: Tensor) -> Tensor:
        """(N, window, h, w) and (N, 2, h, w) to (N, 128, h, w)."""
        similar = torch.relu(self.convc2(torch.relu(self.convc1(samples))))
        moved = torch.relu(self.convf2(torch.relu(self.convf1(flow))))
        motion = torch.relu(self.conv(torch.cat([similar, moved], 1)))
        return torch.cat([motion, flow], 1)


class SmallMotionEncoder(nn.Module):
    """The small model's; 82 channels, the last two the flow."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(window, 96, 1)
        self.convf1 = nn.Conv2d(2, 64, 7, padding=3)
        self.convf2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv = nn.Conv2d(128, 80, 3, padding=1)

    def forward(self, samples: Tensor, flow: Tensor) -> Tensor:
        """(N, window, h, w) and (N, 2, h, w) to (N, 82, h, w)."""
        similar = torch.relu(self.convc1(samples))
        moved = torch.relu(self.convf2(torch.relu(self.convf1(flow))))
        motion = torch.relu(self.conv(torch.cat([similar, moved], 1)))
        return torch.cat([motion, flow], 1)


class Gru(nn.Module):
    """A gated recurrent unit of 3x3 convolutions (Eq. 3 to 6)."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.convz = nn.Conv2d(hidden + inputs, hidden, 3, padding=1)
        self.convr = nn.Conv2d(hidden + inputs, hidden, 3, padding=1)
        self.convq = nn.Conv2d(hidden + inputs, hidden, 3, padding=1)

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The next hidden state (N, hidden, h, w)."""
        return _gated(hidden, inputs, self.convz, self.convr, self.convq)


class SeparableGru(nn.Module):
    """Two gated recurrent units in a row, along rows and then along columns."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.convz1 = nn.Conv2d(hidden + inputs, hidden, (1, 5), padding=(0, 2))
        self.convr1 = nn.Conv2d(hidden + inputs, hidden, (1, 5), padding=(0, 2))
        self.convq1 = nn.Conv2d(hidden + inputs, hidden, (1, 5), padding=(0, 2))
        self.convz2 = nn.Conv2d(hidden + inputs, hidden, (5, 1), padding=(2, 0))
        self.convr2 = nn.Conv2d(hidden + inputs, hidden, (5, 1), padding=(2, 0))
        self.convq2 = nn.Conv2d(hidden + inputs, hidden, (5, 1), padding=(2, 0))

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


def correlation_pyramid(first: Tensor, second: Tensor) -> list[Tensor]:
    """The correlation of all pairs of pixels, and its averages over the second image (Eq. 1).

    Args:
        first: features (N, C, h, w).
        second: the same shape.

    Returns:
        Four levels (N, h · w, h / 2^l, w / 2^l), rounded down: row p holds the dot products of the
        first image's pixel p with every pixel of the second, divided by the root of C.
    """
    channels, height, width = first.shape[1:]
    # Scaling the features instead of the products spares a second volume of that size.
    products = (first / channels**0.5).flatten(2).transpose(1, 2) @ second.flatten(2)
    pyramid = [products.unflatten(2, (height, width))]
    for _ in range(_LEVELS - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: list[Tensor], position: Tensor, radius: int) -> Tensor:
    """Read a window of every level around where each pixel is thought to have gone (Section 3.2).

    Level l is read at ``position / 2^l + (a, b)`` for all offsets a and b up to the radius,
    bilinearly, with zeros outside. In the channels, levels come first, then the offset a in x, then
    b in y, which is the order the published weights know: the published code adds the window's
    rows to x and its columns to y.

    Args:
        pyramid: of :func:`correlation_pyramid`.
        position: (N, 2, h, w), (x, y) in the second image.
        radius: of the window.

    Returns:
        (N, levels · (2 radius + 1)², h, w).
    """
    batch, _, height, width = position.shape
    reach = torch.arange(-radius, radius + 1, dtype=position.dtype, device=position.device)
    offsets = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1)
    centres = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    levels = []
    for level, correlation in enumerate(pyramid):
        rows, columns = correlation.shape[2:]
        points = centres / 2**level + offsets
        grid = 2 * points / points.new_tensor([columns - 1, rows - 1]) - 1
        read = F.grid_sample(correlation.flatten(0, 1)[:, None], grid, align_corners=True)
        levels.append(read.view(batch, height, width, -1))
    return torch.cat(levels, -1).permute(0, 3, 1, 2).contiguous()


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


def raft_flow(
    network: Raft,
    first: Tensor,
    second: Tensor,
    *,
    image_range: ImageRange = "unit",
    iterations: int = ITERATIONS,
) -> Tensor:
    """Estimate the flow from ``first`` to ``second``, images of any size.

    What RAFT cannot take (a side below 128 or not a multiple of 8) is padded by replication at the
    bottom and right, and the flow is cropped. Gradients reach both images.

    Args:
        network: with trained weights, in training mode to normalise by the batch as TCE-Net's
            published trainer and tester do, else in evaluation mode.
        first: (N, 3, H, W), RGB, [0, 1]; values beyond are not clipped.
        second: the same shape.
        image_range: ``"unit"`` feeds [0, 1], as TCE-Net's published trainer does; ``"signed"``
            feeds [-1, 1], for which the published weights were trained.
        iterations: how often the flow is refined.

    Returns:
        (N, 2, H, W) in pixels (x, y): what is at ``p`` in ``first`` is at ``p + flow[p]`` in
        ``second``.

    Raises:
        DataError: the images differ or are not of such a shape.
    """
    _check_pair(first, second)
    height, width = first.shape[-2:]
    images = [_padded(2 * i - 1 if image_range == "signed" else i) for i in (first, second)]
    found: RaftFlow = network(*images, iterations=iterations)
    return found.flow[..., :height, :width]


def raft_frame_flow(
    network: Raft, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Estimate the flow between two 8-bit frames, in the range that the weights expect.

    With the network bound by :func:`functools.partial`, a flow estimator for
    :class:`llve_common.metrics.temporal.WarpingError`.

    Args:
        network: with trained weights, in evaluation mode.
        first: (H, W, 3) uint8, RGB.
        second: the same shape.

    Returns:
        (H, W, 2) float32 in pixels (x, y), from first to second.

    Raises:
        DataError: the frames are not of that shape and type, or not of one size.
    """
    check_frames(first, second)
    device = next(network.parameters()).device
    with torch.inference_mode():
        images = [
            torch.tensor(np.ascontiguousarray(frame), device=device).movedim(-1, 0)[None] / 255
            for frame in (first, second)
        ]
        flow = raft_flow(network, images[0], images[1], image_range="signed")
    return np.ascontiguousarray(flow[0].movedim(0, -1).cpu().numpy(), dtype=np.float32)


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


def _gated(
    hidden: Tensor, inputs: Tensor, update: nn.Module, reset: nn.Module, new: nn.Module
) -> Tensor:
    both = torch.cat([hidden, inputs], 1)
    z, r = torch.sigmoid(update(both)), torch.sigmoid(reset(both))
    q = torch.tanh(new(torch.cat([r * hidden, inputs], 1)))
    return (1 - z) * hidden + z * q


def _pixels(features: Tensor) -> Tensor:
    """Every pixel's own position (N, 2, h, w), (x, y)."""
    batch, _, height, width = features.shape
    x = torch.arange(width, dtype=features.dtype, device=features.device)
    y = torch.arange(height, dtype=features.dtype, device=features.device)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows]).expand(batch, -1, -1, -1)


def _padded(image: Tensor) -> Tensor:
    """The image with its border repeated at the bottom and right, to a size that RAFT takes."""
    bottom, right = (
        max(SHORTEST_SIDE, side + -side % MULTIPLE) - side for side in image.shape[-2:]
    )
    return F.pad(image, (0, right, 0, bottom), mode="replicate")


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.ndim != 4 or first.shape[1] != 3 or first.shape != second.shape or not first.numel():
        raise DataError(
            "the two images do not fit",
            got=f"{tuple(first.shape)} and {tuple(second.shape)}",
            expected="twice (N, 3, H, W), not empty",
        )


def _check(first: Tensor, second: Tensor) -> None:
    _check_pair(first, second)
    if any(side % MULTIPLE or side < SHORTEST_SIDE for side in first.shape[-2:]):
        raise DataError(
            "images of this size do not fit RAFT",
            got=f"{first.shape[-1]}x{first.shape[-2]}",
            expected=f"sides of at least {SHORTEST_SIDE} pixels that are multiples of {MULTIPLE}",
            mend="raft_flow pads them",
        )
