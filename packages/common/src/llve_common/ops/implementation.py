"""What the implementations of the deformable convolution have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Stride, padding and dilation of a convolution, each (rows, columns)."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Height and width of the output for an image and a kernel of these sizes."""
        height, width = (
            (side + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for side, taps, stride, padding, dilation in zip(size, kernel, *self, strict=True)
        )
        return height, width


class Unavailable(Exception):  # noqa: N818
    """An implementation that this machine cannot run, with the whole cause."""


class Operands(NamedTuple):
    """Checked arguments of :func:`llve_common.ops.deform_conv.deform_conv2d`, of any strides."""

    image: Tensor
    offset: Tensor
    mask: Tensor
    weight: Tensor
    geometry: Geometry


class Implementation(Protocol):
    """A module that computes deformable convolutions."""

    def require(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make ready for tensors of this kind.

        Raises:
            Unavailable: it cannot be had for them.
        """

    def forward(self, operands: Operands, bias: Tensor | None) -> Tensor:
        """The output."""

    def backward(
        self, grad_output: Tensor, operands: Operands
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of image, offset, mask and weight."""
