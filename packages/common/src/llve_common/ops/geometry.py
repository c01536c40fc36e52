"""Where the taps of a convolution lie: what all implementations of an operator agree on."""

from __future__ import annotations

from typing import NamedTuple

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
