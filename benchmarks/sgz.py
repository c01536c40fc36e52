"""SGZ on the CPU at scale 12: the enhance path against the published network, a plain eager module.

Both take 8-bit RGB (H, W, 3) and give the same, in one process, with one allocator.
"""

import harness
import numpy as np
import torch
from torch import Tensor, nn

from llve_common.io.images import Pixels
from llve_common.metrics.cost import multiply_accumulates
from llve_common.paper.contract import Model
from llve_common.report.tables import Table
from llve_common.weights.network import load_model
from llve_sgz.paper import PAPER

CPU = torch.device("cpu")
SIZES = {"1080p": (1080, 1920), "540p": (540, 960)}


def main() -> None:
    """Measure at each size, print, and write the results."""
    network = load_model(PAPER, None, CPU).network
    comparisons: dict[str, harness.Comparison] = {}
    rows = []
    for name, size in SIZES.items():
        pixels = harness.dark_frame(*size)
        comparisons[name], row = measured(name, network, pixels)
        rows.append(row)
    table = Table(
        "SGZ, 8-bit frame to 8-bit frame, CPU (ms, medians of interleaved calls)",
        ("", "published", "ours", "ratio", "values that differ", "GMACs"),
        tuple(rows),
    )
    harness.write("sgz", [table], comparisons)


def measured(
    name: str, network: nn.Module, pixels: Pixels
) -> tuple[harness.Comparison, tuple[str, ...]]:
    """Times, their ratio, and how far the results agree."""
    ours = harness.enhancer(Model(PAPER, network))
    comparison = harness.compare(
        {"published": lambda: published(network, pixels), "ours": lambda: ours(pixels)}
    )
    difference = np.abs(published(network, pixels).astype(int) - ours(pixels).astype(int))
    macs = multiply_accumulates(lambda: network(harness.to_float(pixels)))
    times = [harness.milliseconds(each.seconds) for each in comparison.timings.values()]
    return comparison, (
        name,
        *times,
        f"{comparison.ratio('published', 'ours'):.2f}",
        f"{(difference > 0).mean():.4%}, at most {difference.max()}",
        f"{macs / 1e9:.3f}",
    )


def published(network: nn.Module, pixels: Pixels) -> Pixels:
    """(H, W, 3) to the same by the plain network, sides multiples of 12, rounded."""
    with torch.inference_mode():
        enhanced: Tensor = network(harness.to_float(pixels))[0]
    levels = (enhanced * 255 + 0.5).clamp(0, 255).to(torch.uint8)
    return levels[0].permute(1, 2, 0).contiguous().numpy()


if __name__ == "__main__":
    main()
