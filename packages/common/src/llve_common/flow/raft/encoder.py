"""Feature extraction (Section 3.1)."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Features at an eighth of the size (Section 3.1).

    The small one has bottleneck blocks of a quarter of the width, and is half as wide.
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
        self.layer2, self.layer3 = (
            nn.Sequential(block(inputs, width, norm, stride=2), block(width, width, norm))
            for inputs, width in pairwise(widths)
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


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()
