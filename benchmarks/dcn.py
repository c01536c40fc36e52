"""Deformable convolution on the CPU against a plain convolution of the same shape, two threads.

5 frames of 64 channels at 128 x 240, a 3 x 3 kernel, 8 deformable groups, as in SDSD's alignment;
offsets drawn for each position from N(0, 3 pixels), rougher than a network's. All images are
channels last in memory; the plain convolution is torch's own.
"""

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

Function = Callable[[], object]


def main() -> None:
    """Measure forward alone, and forward with backward; print, and write the results."""
    torch.set_num_threads(2)
    tensors = inputs()
    kinds = {"forward": forward(tensors), "forward and backward": with_backward(tensors)}
    # Plain PyTorch apart and last: it leaves gigabytes behind, which the next to run gives back.
    plain = {kind: harness.compare(pick(each, C, PLAIN)) for kind, each in kinds.items()}
    slow = {kind: harness.compare(pick(each, TORCH, C), 3) for kind, each in kinds.items()}
    harness.write(
        "dcn",
        [table(plain, C, PLAIN), table(slow, TORCH, C)],
        plain | {f"{kind}, against {TORCH}": each for kind, each in slow.items()},
    )


def table(comparisons: dict[str, harness.Comparison], slow: str, fast: str) -> Table:
    """Times of two functions, and their ratio."""
    columns = ("", *(f"{name}, {unit}" for unit in ("ms", "CPU ms") for name in (slow, fast)))
    rows = tuple(
        (
            kind,
            *(harness.milliseconds(each.timings[name].seconds) for name in (slow, fast)),
            *(harness.milliseconds(each.timings[name].processor_seconds) for name in (slow, fast)),
            f"{each.ratio(slow, fast):.2f}",
        )
        for kind, each in comparisons.items()
    )
    shape = " x ".join(map(str, SHAPE))
    title = f"3 x 3, {shape}, float32, {GROUPS} groups: {slow} against {fast}"
    return Table(title, (*columns, "ratio"), rows)


def pick(functions: dict[str, Function], *names: str) -> dict[str, Function]:
    """Some of the functions."""
    return {name: functions[name] for name in names}


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


def forward(tensors: dict[str, Tensor]) -> dict[str, Function]:
    """The functions to compare, without gradients."""
    return {name: torch.no_grad()(run) for name, run in functions(tensors).items()}


def with_backward(tensors: dict[str, Tensor]) -> dict[str, Function]:
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
