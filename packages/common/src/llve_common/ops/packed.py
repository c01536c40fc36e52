"""The deformable convolution that predicts its own offsets and mask."""

import logging
import math

import torch
from torch import Tensor, nn

from llve_common.ops.deform_conv import deform_conv2d

_log = logging.getLogger(__name__)

# Pixels. Offsets that large mean that training has diverged.
_LARGE_OFFSET = 100.0
# Elsewhere than on a CPU, where to look is to wait for all that is queued, one call in so many.
_CALLS_A_LOOK = 100


class PackedDeformConv2d(nn.Module):
    """A deformable convolution whose offsets and mask come from a plain one (DCNv2, Section 3.2).

    The plain convolution has the same kernel, stride and padding, and starts at zero: so at first
    the layer is a plain convolution times 0.5. Parameters have the names of published checkpoints.

    Args:
        in_channels: of the features.
        out_channels: of the output.
        kernel_size: side of the kernel; ``stride`` and ``padding`` as of a convolution.
        dilation: distance of the taps; the plain convolution has none.
        deformable_groups: into which the channels of the features are split.
        extra_channels: of the features that offsets come from; by default ``in_channels``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        deformable_groups: int = 1,
        extra_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset_mask = nn.Conv2d(
            in_channels if extra_channels is None else extra_channels,
            3 * deformable_groups * kernel_size**2,
            kernel_size,
            stride,
            padding,
        )
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset_mask.weight)
        assert self.conv_offset_mask.bias is not None
        nn.init.zeros_(self.conv_offset_mask.bias)
        self._calls = 0

    def forward(self, features: Tensor, offset_features: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W'), sampled where the others say.

        Those are (N, extra_channels, H, W).
        """
        predicted = self.conv_offset_mask(offset_features)
        maps = predicted.shape[1] // 3
        # Published: the first two of three chunks, one after the other, make the offset, whose
        # channels alternate between rows and columns.
        offset, mask = predicted.split((2 * maps, maps), dim=1)
        self._warn_of_large(predicted.detach(), offset.detach())
        return deform_conv2d(
            features, offset, mask.sigmoid(), self.weight, self.bias,
            stride=self.stride, padding=self.padding, dilation=self.dilation,
        )  # fmt: skip

    def _warn_of_large(self, predicted: Tensor, offset: Tensor) -> None:
        # The comparison cannot be part of a compiled or a CUDA graph.
        capturing = predicted.is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing or torch.compiler.is_compiling():
            return
        self._calls += 1
        if predicted.device.type != "cpu" and self._calls % _CALLS_A_LOOK:
            return
        # The mean is at most the root mean square, to which the masks can only add: a quicker sum,
        # over memory without gaps.
        norm = float(torch.linalg.vector_norm(predicted))
        if norm <= _LARGE_OFFSET * math.sqrt(offset.numel()):
            return
        mean = float(offset.abs().mean())
        if mean > _LARGE_OFFSET:
            _log.warning("Offset mean is %s, larger than %g.", mean, _LARGE_OFFSET)
