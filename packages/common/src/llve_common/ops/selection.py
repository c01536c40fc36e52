"""Which implementation of an operator runs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from llve_common.ops import plain
from llve_common.ops.geometry import Geometry


class Implementation(Protocol):
    """A module that computes deformable convolutions; see :mod:`llve_common.ops.plain`."""

    def forward(
        self,
        input: Tensor,  # noqa: A002
        offset: Tensor,
        mask: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
    ) -> Tensor:
        """The output."""

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002
        offset: Tensor,
        mask: Tensor,
        weight: Tensor,
        geometry: Geometry,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of input, offset, mask and weight."""


def implementation_for(input: Tensor) -> Implementation:  # noqa: A002
    """The implementation for tensors of the input's kind."""
    return plain
