"""Deformable convolution on the CPU against a plain convolution of the same shape, two threads.

5 frames of 64 channels at 128 x 240, a 3 x 3 kernel, 8 deformable groups, as in SDSD's alignment;
offsets drawn for each position from N(0, 3 pixels), rougher than a network's. All images are
channels last in memory; the plain convolution is torch's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import harness
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from llve_common.ops.deform_conv import deform_conv2d
from llve_common.ops.selection import VARIABLE
from llve_common.report.tables import Table

SHAPE = (5, 64, 128, 240)
GROUPS = 8
PLAIN, C, TORCH = "plain convolution", "deformable, c", "deformable, torch"


def main() -> None:
    """Measure forward alone, and forward with backward; print, and write the results."""
    torch.set_num_threads(2)
    tensors = inputs()
    comparisons = {
        "forward": harness.compare(forward(tensors)),
        "forward and backward": harness.compare(with_backward(tensors), repeats=3),
    }
    rows = tuple(
        (
            f"{title}: {name}",
            harness.milliseconds(timing.seconds),
            harness.milliseconds(timing.processor_seconds),
            f"{comparison.ratio(name, PLAIN):.2f}",
            f"{comparison.ratio(TORCH, name):.2f}",
        )
        for title, comparison in comparisons.items()
        for name, timing in comparison.timings.items()
    )
    columns = ("", "ms", "CPU ms", "times the plain convolution", "times as fast as torch")
    title = f"3 x 3 convolutions of {' x '.join(map(str, SHAPE))}, float32, {GROUPS} groups"
    harness.write("dcn", [Table(title, columns, rows)], comparisons)


def inputs() -> dict[str, Tensor]:
    """Random tensors for :func:`deform_conv2d`, each with a gradient."""
    generator = torch.Generator().manual_seed(0)
    count, channels, height, width = SHAPE
    tensors = {
        "input": torch.randn(SHAPE, generator=generator),
        "offset": 3 * torch.randn(count, GROUPS * 18, height, width, generator=generator),
        "mask": torch.rand(count, GROUPS * 9, height, width, generator=generator),
        "weight": 0.05 * torch.randn(channels, channels, 3, 3, generator=generator),
        "bias": torch.zeros(channels),
    }
    tensors["input"] = tensors["input"].contiguous(memory_format=torch.channels_last)
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def forward(tensors: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """The functions to compare, without gradients."""
    return {name: torch.no_grad()(run) for name, run in functions(tensors).items()}


def with_backward(tensors: dict[str, Tensor]) -> dict[str, Callable[[], None]]:
    """The same functions, each with the gradients of all its tensors."""
    return {
        name: lambda run=run: backward(run(), tensors) for name, run in functions(tensors).items()
    }


def functions(tensors: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """The convolutions by name."""
    image, weight, bias = tensors["input"], tensors["weight"], tensors["bias"]

    def deformable(implementation: str) -> Tensor:
        os.environ[VARIABLE] = implementation
        return deform_conv2d(**tensors, padding=1)

    return {
        PLAIN: lambda: conv2d(image, weight, bias, padding=1),
        C: lambda: deformable("c"),
        TORCH: lambda: deformable("torch"),
    }


def backward(output: Tensor, tensors: dict[str, Tensor]) -> None:
    """Gradients for the sum of the output's squares; those of the run before are forgotten."""
    for tensor in tensors.values():
        tensor.grad = None
    output.backward(output.detach())


if __name__ == "__main__":
    main()
