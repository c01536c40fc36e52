"""TCE-Net on the CPU: the streamed clip against the published loop, window by window.

Both run the same plain eager network on float32 frames, in one process. The published loop encodes
and decodes twice for each new frame; the stream keeps what neighbouring windows share.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import harness
import torch
from torch import Tensor

from llve_common.enhance.windows import enhance_clip
from llve_common.metrics.cost import parameter_count
from llve_common.paper.contract import Model
from llve_common.report.tables import Table
from llve_tcenet.network import TCENet, initialise
from llve_tcenet.paper import PAPER

SIZES = {"512x960": (512, 960), "256x256": (256, 256)}
REPEATS = 5


def main() -> None:
    """Measure at each size, print, and write the results."""
    torch.manual_seed(0)
    network = TCENet().eval()
    initialise(network)
    comparisons: dict[str, harness.Comparison] = {}
    rows = []
    for name, size in SIZES.items():
        comparisons[name] = harness.compare(loops(network, *size), repeats=REPEATS)
        rows.append(row(name, comparisons[name]))
    table = Table(
        f"TCE-Net, seconds for each new frame, CPU ({parameter_count(network):,} parameters)",
        ("", "published", "ours", "ratio", "published CPU", "ours CPU", "CPU ratio"),
        tuple(rows),
    )
    harness.write("tcenet", [table], comparisons)


def loops(network: TCENet, height: int, width: int) -> dict[str, Callable[[], Any]]:
    """Both ways to the next frame of an endless clip."""
    clip = [torch.rand(1, 3, height, width) * 0.3 for _ in range(7)]
    published, ours = (
        published_loop(network, cycle(clip)),
        enhance_clip(Model(PAPER, network), cycle(clip)),
    )
    return {"published": lambda: next(published), "ours": lambda: next(ours)}


def published_loop(network: TCENet, frames: Iterator[Tensor]) -> Iterator[Tensor]:
    """Every window as a whole; its second frame is computed, and the next window overwrites it."""
    window: deque[Tensor] = deque(maxlen=len(Model(PAPER, network).window.inputs))
    for frame in frames:
        window.append(frame)
        if len(window) == window.maxlen:
            with torch.inference_mode():
                yield network(torch.stack(tuple(window), dim=1))[0]


def row(name: str, comparison: harness.Comparison) -> tuple[str, ...]:
    """One size's figures."""
    published, ours = comparison.timings["published"], comparison.timings["ours"]
    processor = published.processor_seconds / ours.processor_seconds
    return (
        name,
        f"{published.seconds:.2f}",
        f"{ours.seconds:.2f}",
        f"{comparison.ratio('published', 'ours'):.2f}",
        f"{published.processor_seconds:.2f}",
        f"{ours.processor_seconds:.2f}",
        f"{processor:.2f}",
    )


if __name__ == "__main__":
    main()
