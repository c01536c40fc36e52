"""DKMv3 on the CPU: the local correlation against sampling at every offset, and what a match costs.

The pictures have a quarter of the pixels that the indoor weights were published for; the whole size
takes several times as long. The weights are random: the cost of a match does not depend on them,
and its result means nothing.
"""

from collections.abc import Callable

import harness
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.metrics.cost import latency, multiply_accumulates, parameter_count, peak_memory
from llve_common.report.tables import Table
from llve_stcd.dkm.correlation import local_correlation
from llve_stcd.dkm.network import PUBLISHED, DKMv3, Resolution
from llve_stcd.dkm.positions import grid

CPU = torch.device("cpu")
HEIGHT, WIDTH = (side // 2 for side in PUBLISHED["indoor"].first)
SIZE = f"{HEIGHT}x{WIDTH}, a quarter of the published pixels"
# Stride: channels and radius.
STRIDES = {16: (512, 7), 8: (512, 3), 4: (256, 2)}


@torch.no_grad()
def main() -> None:
    """Measure, print, and write the results."""
    comparisons = {
        f"stride {stride}": harness.compare(correlations(stride), repeats=3) for stride in STRIDES
    }
    tables = [
        Table(
            f"DKMv3 at {SIZE}, local correlation of a pair (ms, medians of interleaved calls)",
            ("", "every offset", "ours", "ratio", "largest difference"),
            tuple(map(ratio_row, STRIDES, comparisons.values())),
        ),
        Table(
            f"DKMv3 at {SIZE}, cost of a symmetric match (random weights: a cost, not a result)",
            ("parameters", "GMACs", "latency (s)", "peak memory (MiB)"),
            (cost_row(),),
        ),
    ]
    harness.write("dkm", tables, comparisons)


def correlations(stride: int) -> dict[str, Callable[[], Tensor]]:
    """Both ways to correlate random features, their matches near their own places."""
    generator = torch.Generator().manual_seed(0)
    channels, radius = STRIDES[stride]
    height, width = HEIGHT // stride, WIDTH // stride
    shape = (2, channels, height, width)
    first, second = (torch.randn(shape, generator=generator) for _ in range(2))
    flow = grid(first) + 0.05 * torch.randn(2, 2, height, width, generator=generator)
    return {
        "every offset": lambda: correlation_by_offsets(first, second, flow, radius),
        "ours": lambda: local_correlation(first, second, flow, radius),
    }


def correlation_by_offsets(first: Tensor, second: Tensor, flow: Tensor, radius: int) -> Tensor:
    """The definition: sample all features anew at every offset of the window."""
    _, channels, height, width = first.shape
    products = []
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            offset = torch.tensor([2 * column / width, 2 * row / height]).view(1, 2, 1, 1)
            positions = (flow + offset).permute(0, 2, 3, 1)
            sampled = F.grid_sample(second, positions, align_corners=False)
            products.append((first * sampled).sum(1))
    return torch.stack(products, 1) / channels**0.5


def ratio_row(stride: int, comparison: harness.Comparison) -> tuple[str, ...]:
    """Times, their ratio, and how far the results agree."""
    results = [run() for run in correlations(stride).values()]
    return (
        f"stride {stride}",
        *(harness.milliseconds(timing.seconds) for timing in comparison.timings.values()),
        f"{comparison.ratio('every offset', 'ours'):.2f}",
        f"{float((results[0] - results[1]).abs().max()):.1e}",
    )


def cost_row() -> tuple[str, ...]:
    """A match of two random pictures."""
    torch.manual_seed(0)
    matcher = DKMv3(Resolution((HEIGHT, WIDTH)))
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)

    def run() -> tuple[Tensor, Tensor]:
        return matcher.match([first], [second])

    memory = peak_memory(run, device=CPU)
    return (
        str(parameter_count(matcher)),
        f"{multiply_accumulates(run) / 1e9:.1f}",
        f"{latency(run, device=CPU, repeats=1):.1f}",
        "-" if memory is None else f"{memory / 2**20:.0f}",
    )


if __name__ == "__main__":
    main()
