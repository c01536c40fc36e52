"""SCI on the CPU: the enhance path against the published network, a plain eager module.

Both take 8-bit RGB (H, W, 3) and give the same, in one process, with one allocator.
"""

from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import torch
from torch import Tensor, nn

from llve_common.enhance.row_blocks import RowBlocks
from llve_common.io.images import Pixels
from llve_common.metrics.cost import latency, multiply_accumulates, parameter_count, peak_memory
from llve_common.paper.contract import Model, Prepared
from llve_common.report.tables import Table
from llve_common.weights.network import load_model
from llve_sci.paper import PAPER

CPU = torch.device("cpu")
SIZES = {"1080p": (1080, 1920), "720p": (720, 1280)}


def main() -> None:
    """Measure at each size, print, and write the results."""
    network = load_model(PAPER, None, CPU).network
    comparisons: dict[str, harness.Comparison] = {}
    ratios, stages, costs = [], [], []
    for name, size in SIZES.items():
        pixels = harness.dark_frame(*size)
        paths = enhance_paths(network, pixels)
        comparisons[name] = harness.compare(paths)
        ratios.append(ratio_row(name, comparisons[name], network, pixels))
        comparisons[f"{name}, stages"] = harness.compare(
            stages_of_paths(network, pixels), repeats=7
        )
        stages.append(stage_table(name, comparisons[f"{name}, stages"]))
        costs += [cost_row(f"{name}, {path}", network, size, paths[path]) for path in paths]
    tables = [
        Table(
            "SCI, 8-bit frame to 8-bit frame, CPU (ms, medians of interleaved calls)",
            ("", "published", "ours", "ratio", "published CPU", "ours CPU", "values that differ"),
            tuple(ratios),
        ),
        *stages,
        Table(
            "SCI, cost",
            ("", "parameters", "GMACs", "latency (ms)", "peak memory (MiB)"),
            tuple(costs),
        ),
    ]
    harness.write("sci", tables, comparisons)


def enhance_paths(network: nn.Module, pixels: Pixels) -> dict[str, Callable[[], Pixels]]:
    """The two ways from pixels to pixels."""
    ours = harness.enhancer(Model(PAPER, network))
    return {
        "published": lambda: to_8_bits(forward(network, harness.to_float(pixels))),
        "ours": lambda: ours(pixels),
    }


def forward(network: nn.Module, image: Tensor) -> Tensor:
    """The plain network."""
    with torch.inference_mode():
        enhanced: Tensor = network(image)[1]
        return enhanced


def to_8_bits(image: Tensor) -> Pixels:
    """(1, 3, H, W) to (H, W, 3) by clipping and truncation."""
    levels = (image.clamp(0, 1) * 255).to(torch.uint8)
    pixels: Pixels = levels[0].permute(1, 2, 0).contiguous().numpy()
    return pixels


def stages_of_paths(network: nn.Module, pixels: Pixels) -> dict[str, Callable[[], Any]]:
    """The stages of the published path one by one; of ours, all but the network, and all."""
    image = harness.to_float(pixels)
    enhanced = forward(network, image)
    assert Model(PAPER, network).window.halo is not None
    alone = Prepared(lambda block, first, seen: block, Model(PAPER, network).window.halo)
    conversions = RowBlocks(alone, PAPER.rounding)
    ours = harness.enhancer(Model(PAPER, network))
    return {
        "published: to float": lambda: harness.to_float(pixels),
        "published: network": lambda: forward(network, image),
        "published: to 8 bits": lambda: to_8_bits(enhanced),
        "ours: to float and to 8 bits": lambda: conversions(pixels),
        "ours: with the network": lambda: ours(pixels),
    }


def ratio_row(
    name: str, comparison: harness.Comparison, network: nn.Module, pixels: Pixels
) -> tuple[str, ...]:
    """Times, their ratio, and how far the results agree."""
    published, ours = (comparison.timings[each] for each in ("published", "ours"))
    frames = [path().astype(int) for path in enhance_paths(network, pixels).values()]
    difference = np.abs(frames[0] - frames[1])
    return (
        name,
        harness.milliseconds(published.seconds),
        harness.milliseconds(ours.seconds),
        f"{comparison.ratio('published', 'ours'):.2f}",
        harness.milliseconds(published.processor_seconds),
        harness.milliseconds(ours.processor_seconds),
        f"{(difference > 0).mean():.4%}, at most {difference.max()}",
    )


def stage_table(name: str, comparison: harness.Comparison) -> Table:
    """Wall-clock and processor time of each stage."""
    rows = tuple(
        (stage, harness.milliseconds(each.seconds), harness.milliseconds(each.processor_seconds))
        for stage, each in comparison.timings.items()
    )
    return Table(f"SCI at {name}, stages", ("", "ms", "CPU ms"), rows)


def cost_row(
    name: str, network: nn.Module, size: tuple[int, int], run: Callable[[], Any]
) -> tuple[str, ...]:
    """Parameters and multiply-accumulates of the network, time and memory of a path."""
    macs = multiply_accumulates(lambda: network(torch.zeros(1, 3, *size)))
    memory = peak_memory(run, device=CPU)
    return (
        name,
        str(parameter_count(network)),
        f"{macs / 1e9:.4f}",
        harness.milliseconds(latency(run, device=CPU)),
        "-" if memory is None else f"{memory / 2**20:.1f}",
    )


if __name__ == "__main__":
    main()
