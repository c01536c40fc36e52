"""A training step of all five papers on this CPU: processor time, at published and bundled widths.

``ours`` is float32, and ``bf16`` the trainer's ``train.precision=bf16``, on processors with
instructions for it. A paper's steps are interleaved in one process. Freed memory is kept, as by our
commands. SGZ's ResNet and TCE-Net's RAFT and VGG, files of others, are left out.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any

import harness
import torch
from gpu import frames
from torch.utils.flop_counter import FlopCounterMode

from llve_common.config import Precision, read_yaml
from llve_common.machine.device import choose_precision, computing_in
from llve_common.paper.configs import shipped_configs
from llve_common.paper.contract import Batch, Paper
from llve_common.report.tables import Table
from llve_sci.paper import PAPER as SCI
from llve_sdsd.paper import PAPER as SDSD
from llve_sgz.paper import PAPER as SGZ
from llve_stcd.paper import PAPER as STCD
from llve_tcenet.paper import PAPER as TCENET

CPU = torch.device("cpu")
WAYS: dict[str, Precision] = {"ours": "fp32", "bf16": "bf16"}


def main() -> None:
    """Measure the papers that are named, or all; print, and write the results."""
    half = choose_precision("auto", CPU, pays=True) == "bf16"
    comparisons: dict[str, harness.Comparison] = {}
    rows = []
    for name, paper, options, batch in cases():
        if sys.argv[1:] and paper.name not in sys.argv[1:]:
            continue
        ways = steps(paper, options, batch)
        if not half:
            del ways["bf16"]
        comparisons[name] = found = harness.compare(ways, repeats=5)
        seconds = {way: each.processor_seconds for way, each in found.timings.items()}
        mapping = {torch.ops.aten.convolution_backward: backward_operations}
        with FlopCounterMode(display=False, custom_mapping=mapping) as counted:
            ways["ours"]()
        cells = [f"{seconds[way]:.3f}" if way in ways else "-" for way in WAYS]
        gain = f"{seconds['ours'] / seconds['bf16']:.2f}" if half else "-"
        rate = f"{counted.get_total_flops() / seconds['ours'] / 1e9:.0f}"
        rows.append((name, *cells, gain, rate))
        print(*rows[-1], sep="  ", flush=True)
    columns = ("", *WAYS, "bf16: gain", "ours: GFLOP/s a core")
    title = f"A training step, CPU seconds, {torch.get_num_threads()} threads"
    harness.write("train", [Table(title, columns, tuple(rows))], comparisons)


def cases() -> Iterator[tuple[str, Paper, dict[str, Any], Batch]]:
    """Each paper's settings and a batch, of the published width and of the bundled weights'."""
    sides = ("low1", "high1", "low2", "high2")
    pair = {side: frames(1, 3, 256, 384) for side in sides}

    def clips(side: int) -> Batch:
        clip = {"low": frames(2, 6, 3, side, side), "target": frames(2, 2, 3, side, side)}
        return {"real": clip, "synthetic": clip}

    def windows(count: int, side: int) -> Batch:
        return {"frames": frames(count, 5, 3, side, side), "target": frames(count, 3, side, side)}

    without = {"perceptual": False, "flow": "dis"}
    plain = {"segmentation": {"use": False}}
    for paper, published, batch, bundled in (
        (SCI, {}, {"low": frames(1, 3, 400, 600)}, {"low": frames(1, 3, 256, 384)}),
        (SGZ, plain, {"low": frames(2, 3, 512, 512)}, {"low": frames(8, 3, 128, 128)}),
        (SDSD, {}, windows(1, 128), windows(2, 256)),
        (STCD, {}, pair, pair),
        (TCENET, {"objective": without}, clips(128), clips(80)),
    ):
        yield f"{paper.name}, published", paper, published, batch
        options = read_yaml(shipped_configs(paper)["train/photographs"])[0]
        yield f"{paper.name}, bundled", paper, options, bundled


def steps(paper: Paper, options: dict[str, Any], batch: Batch) -> dict[str, Callable[[], None]]:
    """One update of the weights in each way."""
    procedure = paper.procedures["train"]
    settings = procedure.settings.model_validate(options)
    torch.manual_seed(0)
    network, objective = procedure.network(settings).train(), procedure.objective(settings, CPU)
    optimizer = procedure.optimizer(settings, network)

    def step(precision: Precision) -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing_in(precision, CPU):
            losses = objective(network, batch, 1)
        torch.stack([loss.float().reshape(()) for loss in losses.values()]).sum().backward()
        optimizer.step()

    return {way: partial(step, precision) for way, precision in WAYS.items()}


def backward_operations(
    gradient: torch.Size, image: torch.Size, weight: torch.Size, *others: Any, **_: Any
) -> int:
    """Of a convolution's backward pass, by shapes; PyTorch counts grouped ones as if they were not.

    ``others``: bias, stride, padding, dilation, transposed, its padding, groups, wanted gradients.
    """
    transposed, (*wanted, _bias) = others[4], others[-1]
    positions = prod((image if transposed else gradient)[2:])
    return 2 * sum(wanted) * image[0] * positions * prod(weight)


if __name__ == "__main__":
    main()
