"""Decodes the Gaussian process's mean to a flow, with attention over channels.

A discriminative feature network (Yu et al., *Learning a Discriminative Feature Network for Semantic
Segmentation*, CVPR 2018): residual refinement blocks around a channel attention block.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

COARSE = (32, 16)
"""The strides with a Gaussian process."""

FEATURES = 512
"""Channels that the encoder's features are projected to at these strides."""

WIDTH = 384
"""Channels inside, and of the context."""


class ResidualRefinement(nn.Module):
    """A 1x1 convolution, then a residual of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        features = self.conv1(features)
        residual = self.conv3(torch.relu(self.bn(self.conv2(features))))
        return torch.relu(features + residual)


class ChannelAttention(nn.Module):
    """Adds the finer of two maps to the coarser, weighted by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 * channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, context: Tensor, features: Tensor) -> Tensor:
        """Two maps (N, channels, H, W), coarse and fine, to one."""
        average = torch.cat([context, features], 1).mean((2, 3), keepdim=True)
        gate = torch.sigmoid(self.conv2(torch.relu(self.conv1(average))))
        return gate * features + context


class EmbeddingDecoder(nn.Module):
    """Predicts flow and certainty at the two coarse strides, each with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        embedding, width = 256, WIDTH
        self.feat_input_modules = _by_stride(lambda: nn.Conv2d(FEATURES, embedding, 1))
        self.rrb_d = _by_stride(lambda: ResidualRefinement(2 * embedding, width))
        self.cab = _by_stride(lambda: ChannelAttention(width))
        self.rrb_u = _by_stride(lambda: ResidualRefinement(width, width))
        self.terminal_module = _by_stride(lambda: nn.Conv2d(width, 3, 1))

    def forward(
        self, stride: int, mean: Tensor, features: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one stride to flow (N, 2, H, W), certainty (N, 1, H, W) and the next context.

        Args:
            stride: 32 or 16.
            mean: (N, 256, H, W), the Gaussian process's.
            features: (N, 512, H, W), the projected ones of image A.
            context: (N, 384, H, W), from the coarser stride; zeros at the coarsest.
        """
        at = str(stride)
        embedded = torch.cat([self.feat_input_modules[at](features), mean], 1)
        context = self.rrb_u[at](self.cab[at](context, self.rrb_d[at](embedded)))
        prediction = self.terminal_module[at](context)
        return prediction[:, 1:], prediction[:, :1], context


def _by_stride(build: Callable[[], nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({str(stride): build() for stride in COARSE})
