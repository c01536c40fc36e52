"""SDSD on the CPU: streaming against the published network, window by window.

The published network computes the features of five frames for each frame that it gives, and its
deformable convolution is taken as plain PyTorch. Weights are random: no speed depends on them.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle

import harness
import torch
from torch import Tensor

from llve_common.enhance.windows import enhance_clip
from llve_common.metrics.cost import multiply_accumulates, parameter_count, peak_memory
from llve_common.paper.contract import Model
from llve_common.report.tables import Table
from llve_sdsd.network import RetinexNet
from llve_sdsd.paper import PAPER

CPU = torch.device("cpu")
HEIGHT, WIDTH = 512, 960
# Of an endless clip, and more than a window has.
FRAMES = 7
CLIPS = (6, 18)
SMALL = (128, 192)


def main() -> None:
    """Measure, print, and write the results."""
    network = random_network()
    frames = dark_clip(FRAMES, HEIGHT, WIDTH)
    window = torch.stack([frames[index] for index in (2, 1, 0, 1, 2)], 1)
    comparison = harness.compare(
        {
            "published": lambda: published(network, window),
            "ours": streaming(network, frames),
        },
        repeats=3,
    )
    tables = [
        speed_table(comparison, largest_difference(network, frames, window)),
        cost_table(network, window),
        memory_table(network),
    ]
    harness.write("sdsd", tables, {f"{WIDTH}x{HEIGHT}": comparison})


def random_network() -> RetinexNet:
    """The published size, with offsets of some pixels, which start at zero."""
    torch.manual_seed(0)
    network = RetinexNet().eval()
    for name, weight in network.named_parameters():
        if "conv_offset_mask" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return network


def dark_clip(count: int, height: int, width: int) -> list[Tensor]:
    """Random low-light frames (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, height, width, generator=generator) * 0.3 for _ in range(count)]


@contextmanager
def plain_deformable_convolution() -> Iterator[None]:
    """Let it run as plain PyTorch."""
    before = os.environ.get("LLVE_DCN")
    os.environ["LLVE_DCN"] = "torch"
    try:
        yield
    finally:
        del os.environ["LLVE_DCN"]
        if before is not None:
            os.environ["LLVE_DCN"] = before


def published(network: RetinexNet, window: Tensor) -> Tensor:
    """One frame by the plain network."""
    with plain_deformable_convolution(), torch.inference_mode():
        return network(window).enhanced


def streaming(network: RetinexNet, frames: list[Tensor]) -> Callable[[], Tensor]:
    """The next frame of an endless clip: at its start, windows hold frames twice."""
    stream = enhance_clip(Model(PAPER, network), cycle(frames))
    for _ in frames:
        next(stream)
    return lambda: next(stream)


def largest_difference(network: RetinexNet, frames: list[Tensor], window: Tensor) -> float:
    """Between the two ways to the first frame, relative to values above 1."""
    first, plain = next(enhance_clip(Model(PAPER, network), frames)), published(network, window)
    return ((first - plain).abs() / plain.abs().clamp(min=1)).max().item()


def speed_table(comparison: harness.Comparison, difference: float) -> Table:
    """Times of one frame, and their ratios."""
    plain, ours = (
        (timing.seconds, timing.processor_seconds) for timing in comparison.timings.values()
    )
    rows = (
        ("published", *map(harness.milliseconds, plain)),
        ("ours", *map(harness.milliseconds, ours)),
        ("ratio", *(f"{slow / fast:.2f}" for slow, fast in zip(plain, ours, strict=True))),
        ("largest difference", f"{difference:.1e}", ""),
    )
    title = f"SDSD, one frame of {WIDTH}x{HEIGHT}, CPU (medians of interleaved calls)"
    return Table(title, ("", "ms", "CPU ms"), rows)


def cost_table(network: RetinexNet, window: Tensor) -> Table:
    """Parameters, and multiply-accumulates of a frame."""
    frame = window[:, 0]
    with torch.inference_mode():
        whole = multiply_accumulates(lambda: network(window))
        shared = multiply_accumulates(lambda: network.pyramid(frame))
    rows = (
        ("parameters", str(parameter_count(network))),
        ("GMACs, published", f"{whole / 1e9:.1f}"),
        ("GMACs, ours", f"{(whole - 4 * shared) / 1e9:.1f}"),
    )
    return Table("SDSD, cost of a frame", ("", ""), rows)


def memory_table(network: RetinexNet) -> Table:
    """Peak memory while clips of several lengths stream."""
    rows = []
    for count in CLIPS:
        frames = dark_clip(count, *SMALL)
        peak = peak_memory(
            lambda frames=frames: [None for _ in enhance_clip(Model(PAPER, network), iter(frames))],
            device=CPU,
        )
        rows.append((f"{count} frames", "-" if peak is None else f"{peak / 2**20:.1f}"))
    title = f"SDSD, peak memory while a clip of {SMALL[1]}x{SMALL[0]} streams (MiB)"
    return Table(title, ("", "MiB"), tuple(rows))


if __name__ == "__main__":
    main()
