"""The five papers and the deformable convolution on a CUDA device; nothing is measured without one.

Of the papers, those named after the command, or all. ``enhance``: 8-bit frames in the host's memory
to 8-bit frames there, the next begun before the last is waited for, published widths. Where no
weights are bundled they are random: no speed depends on them. Their results are compared with the
CPU's, level by level. ``TF32`` is how PyTorch computes float32 convolutions on a GPU unless it is
told otherwise.

Training: a step of each paper at published width on random frames that lie on the device, with
batches and crops as published as far as one GPU's memory goes, and random weights of RAFT and
VGG-19. In the last columns losses and gradients are replayed from a CUDA graph. STCD's matches are
found in the step, by the CPU, or lie on the device, as they come from the processes that load data.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import dcn
import harness
import numpy as np
import torch
from sdsd import random_network
from torch import Tensor
from torch.nn.functional import conv2d

from llve_common.clips.frames import Frame
from llve_common.enhance.frames import frame_enhancer
from llve_common.flow.raft import Raft, raft_flow
from llve_common.io.images import Image
from llve_common.machine.replay import Replayed, mapped
from llve_common.metrics.cost import peak_memory
from llve_common.nn.vgg import Vgg19Features
from llve_common.ops.deform_conv import deform_conv2d
from llve_common.ops.selection import VARIABLE
from llve_common.paper.contract import Batch, Model, Objective, Procedure
from llve_common.report.tables import Table
from llve_common.train.batches import samples_in, to_device
from llve_common.train.trainer import channels_last
from llve_common.weights.network import load_model
from llve_sci.paper import PAPER as SCI
from llve_sdsd.paper import PAPER as SDSD
from llve_sgz.paper import PAPER as SGZ
from llve_stcd import network as stcd
from llve_stcd.matchers import dis_matches, match_frames
from llve_stcd.paper import PAPER as STCD
from llve_tcenet.network import TCENet, initialise
from llve_tcenet.paper import PAPER as TCENET
from llve_tcenet.paper import perceptual_features, stcl

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HD, SDSD_SIZE = (1080, 1920), (512, 960)
BOTH = [SDSD_SIZE, HD]
SIZES = {"sci": [HD], "sgz": [HD], "sdsd": BOTH, "stcd": BOTH, "tcenet": BOTH}
AGREEMENT = (256, 320)
PRECISIONS: dict[str, tuple[bool, torch.dtype | None]] = {
    "float32": (False, None),
    "TF32": (True, None),
    "bfloat16": (True, torch.bfloat16),
    "float16": (True, torch.float16),
}
# Half formats are the model's choice when it enhances, and autocast's in a training step.
HALF = {"bfloat16": "bf16", "float16": "fp16"}
CHANNELS_LAST = "bfloat16, channels last"
GRAPHS = ("float32, graph", "bfloat16, graph")
TRAINING = ("float32", "TF32", "bfloat16", CHANNELS_LAST, *GRAPHS)
# Has no graph. To try is no way out: PyTorch's random numbers are out of order after a capture that
# failed.
MATCHED_IN_THE_STEP = "stcd, matched in the step"
DEFORMABLE, TORCH, PLAIN, TORCHVISION = "triton", "torch", "plain convolution", "torchvision"
# Calls in a row, as in a network: Python launches the next ones while the device computes.
QUEUED = 10


def main() -> None:
    """Measure, print, and write the results."""
    if not torch.cuda.is_available():
        print("not run: there is no CUDA device here")
        return
    comparisons: dict[str, harness.Comparison] = {}
    chosen = sys.argv[1:] or list(SIZES)
    types = (torch.float32, torch.float16, torch.bfloat16)
    tables = [deformable_table(dtype, comparisons) for dtype in types]
    for table in tables:
        print(table.title)
        list(map(shown, table.rows))
    steps = [
        shown(training_row(*each, comparisons))
        for each in trainings()
        if each[0].partition(",")[0] in chosen
    ]
    rows = [
        shown(row) for model in models() if model.paper.name in chosen
        for row in paper_rows(model, comparisons)
    ]  # fmt: skip
    columns = ("", "size", "precision", "ms", "frames a second", "peak MiB", "levels off the CPU")
    title = f"Papers on {torch.cuda.get_device_name()}, 8-bit frame to 8-bit frame"
    trained = Table(
        f"A training step on {torch.cuda.get_device_name()}",
        ("", "samples", *(f"{name}, ms" for name in TRAINING), "peak MiB"), tuple(steps),
    )  # fmt: skip
    harness.write("gpu", [Table(title, columns, tuple(rows)), trained, *tables], comparisons)


def shown(row: tuple[str, ...]) -> tuple[str, ...]:
    """The row, printed as soon as it is measured."""
    print(*row, sep="  ", flush=True)
    return row


def models() -> Iterator[Model]:
    """Each paper on the CPU."""
    yield load_model(SCI, None, CPU)
    yield load_model(SGZ, None, CPU)
    yield Model(SDSD, random_network())
    torch.manual_seed(0)
    yield Model(STCD, stcd.STCD().eval())
    network = TCENet().eval()
    initialise(network)
    yield Model(TCENET, network)


def paper_rows(
    model: Model, comparisons: dict[str, harness.Comparison]
) -> Iterator[tuple[str, ...]]:
    """A row for each size and precision."""
    clip = [harness.dark_frame(*AGREEMENT)[:, ::turn] for turn in (1, -1, 1, -1, 1, -1, 1)]
    expected = enhanced(model, clip)
    model.network.to(GPU)
    for precision in PRECISIONS:
        model = replace(model, precision=HALF.get(precision, "fp32"))
        with computed_in(precision):
            difference = np.abs(enhanced(model, clip) - expected)
            agreement = f"{difference.mean():.4f}, at most {difference.max()}"
            for size in SIZES[model.paper.name]:
                stream = frame_enhancer(model, ahead=1)(cycle([frame(harness.dark_frame(*size))]))
                name = f"{model.paper.name}, {size[1]}x{size[0]}, {precision}"
                run = lambda stream=stream: next(stream)  # noqa: E731
                # A stream's first frames fill its window.
                list(islice(stream, 6))
                comparisons[name] = harness.compare({name: run}, repeats=9)
                seconds = comparisons[name].timings[name].seconds
                peak = peak_memory(run, device=GPU) or 0
                yield (
                    model.paper.name, f"{size[1]}x{size[0]}", precision,
                    harness.milliseconds(seconds), f"{1 / seconds:.1f}", f"{peak / 2**20:.0f}",
                    agreement,
                )  # fmt: skip
    model.network.to(CPU)
    torch.cuda.empty_cache()


def trainings() -> Iterator[tuple[str, Procedure[Any], dict[str, object], Batch]]:
    """Each paper's training, its settings, and a batch."""
    windows, pairs, clips = (each.procedures["train"] for each in (SDSD, STCD, TCENET))
    yield "sci", SCI.procedures["train"], {}, {"low": frames(1, 3, 400, 600)}
    plain = {"segmentation": {"use": False}}
    yield "sgz", SGZ.procedures["train"], plain, {"low": frames(6, 3, 512, 512)}
    window = {"frames": frames(8, 5, 3, 128, 128), "target": frames(8, 3, 128, 128)}
    yield "sdsd", windows, {}, window
    pair = {side: frames(1, 3, *SDSD_SIZE) for side in ("low1", "high1", "low2", "high2")}
    yield MATCHED_IN_THE_STEP, pairs, {}, pair
    highs = pair["high1"], pair["high2"]
    yield "stcd", pairs, {}, {**pair, "matches": match_frames(dis_matches, (640, 480), *highs)}
    clip = {"low": frames(2, 6, 3, 256, 256), "target": frames(2, 2, 3, 256, 256)}
    published = replace(clips, objective=lambda settings, device: tcenet_objective(device))
    yield "tcenet", published, {}, {"real": clip, "synthetic": clip}


def tcenet_objective(device: torch.device) -> Objective:
    """With RAFT and VGG-19 of random weights."""
    raft, vgg = (each.eval().requires_grad_(False).to(device) for each in (Raft(), Vgg19Features()))
    return stcl(partial(perceptual_features, vgg), partial(raft_flow, raft))


def training_row(
    name: str, procedure: Procedure[Any], options: dict[str, object], batch: Batch,
    comparisons: dict[str, harness.Comparison],
) -> tuple[str, ...]:  # fmt: skip
    """A step's time in each precision."""
    settings = procedure.settings.model_validate(options)
    objective, batch = procedure.objective(settings, GPU), to_device(batch, GPU)
    runs = {}
    for precision in TRAINING[: -len(GRAPHS)] if name == MATCHED_IN_THE_STEP else TRAINING:
        network = procedure.network(settings).to(GPU).train()
        given = batch
        if precision == CHANNELS_LAST or precision in GRAPHS:
            given = mapped(batch, channels_last)
            for weight in network.parameters():
                weight.data = channels_last(weight.data)
        optimizer = procedure.optimizer(settings, network)
        make = graphed_step if precision in GRAPHS else training_step
        runs[precision] = finished(
            make(network, objective, optimizer, given, precision.partition(",")[0])
        )
    compared = comparisons[f"training {name}"] = harness.compare(runs, repeats=9)
    times = (
        harness.milliseconds(compared.timings[way].seconds) if way in runs else "-"
        for way in TRAINING
    )
    peak = peak_memory(runs[TRAINING[0]], device=GPU) or 0
    torch.cuda.empty_cache()
    samples = samples_in(batch.get("real", batch))
    return name, str(samples), *times, f"{peak / 2**20:.0f}"


def training_step(
    network: torch.nn.Module, objective: Objective, optimizer: torch.optim.Optimizer,
    batch: Batch, precision: str,
) -> Callable[[], None]:  # fmt: skip
    """One update of the weights."""

    def step() -> None:
        gradients(network, objective, optimizer, batch, precision)
        optimizer.step()

    return step


def graphed_step(
    network: torch.nn.Module, objective: Objective, optimizer: torch.optim.Optimizer,
    batch: Batch, precision: str,
) -> Callable[[], None]:  # fmt: skip
    """Likewise, with the kernels of losses and gradients launched as one, by ``train.graph``."""
    replayed = Replayed(
        lambda batch: gradients(network, objective, optimizer, batch, precision), GPU
    )

    def step() -> None:
        # What the function sets besides lies where it was captured.
        replayed(batch)
        optimizer.step()

    # A graph is captured at the fourth.
    for _ in range(4):
        step()
    return step


def gradients(
    network: torch.nn.Module, objective: Objective, optimizer: torch.optim.Optimizer,
    batch: Batch, precision: str,
) -> dict[str, Tensor]:  # fmt: skip
    """Those of the losses' sum, in a precision; gives the losses."""
    optimizer.zero_grad(set_to_none=True)
    with computed_in(precision):
        losses = objective(network, batch, 1)
        total = torch.stack([loss.float().reshape(()) for loss in losses.values()]).sum()
    total.backward()
    return losses


def frames(*shape: int) -> Tensor:
    """Random frames."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def enhanced(model: Model, clip: list[np.ndarray]) -> np.ndarray:
    """The clip's enhanced levels."""
    stream = frame_enhancer(model)(map(frame, clip))
    return np.stack([each.image.pixels for each in stream]).astype(int)


def frame(pixels: np.ndarray) -> Frame:
    """A frame of 8-bit pixels."""
    return Frame(Image(np.ascontiguousarray(pixels), None), "", "a random frame")


def computed_in(precision: str) -> AbstractContextManager[object]:
    """Let networks compute in a precision; what is left out of autocast is float32 or TF32."""
    tf32, dtype = PRECISIONS[precision]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    return nullcontext() if dtype is None else torch.autocast("cuda", dtype)


def deformable_table(dtype: torch.dtype, comparisons: dict[str, harness.Comparison]) -> Table:
    """Triton's kernels against plain PyTorch, torchvision and a plain convolution."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    tensors = {
        name: tensor.detach().to(GPU, dtype).requires_grad_()
        for name, tensor in dcn.inputs().items()
    }
    kinds: dict[str, Callable[[Callable[[], Tensor]], Callable[[], object]]] = {
        "forward": lambda run: torch.no_grad()(queued(run)),
        "forward and backward": lambda run: queued(with_backward(run, tensors)),
        # As within a network that is replayed: Python launches nothing.
        "forward, CUDA graph": lambda run: graphed(torch.no_grad()(queued(run))),
    }
    rows = []
    for kind, way in kinds.items():
        runs = {name: finished(way(run), name) for name, run in convolutions(tensors).items()}
        # A graph is captured at the fourth call.
        for run in [*runs.values()] * 4:
            run()
        compared = harness.compare(runs, repeats=5)
        comparisons[f"deformable, {kind}, {dtype}, {QUEUED} calls"] = compared
        times = (harness.milliseconds(each.seconds / QUEUED) for each in compared.timings.values())
        rows.append((kind, *times))
    shape = " x ".join(map(str, dcn.SHAPE))
    title = f"Deformable convolution, {shape}, {str(dtype).removeprefix('torch.')}, ms"
    return Table(title, ("", *convolutions(tensors)), tuple(rows))


def convolutions(tensors: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """The convolutions by name; torchvision's where it is installed."""

    def ours() -> Tensor:
        return deform_conv2d(**tensors, padding=1)

    image, weight, bias = (tensors[name] for name in ("input", "weight", "bias"))
    found = {
        DEFORMABLE: ours,
        TORCH: ours,
        PLAIN: lambda: conv2d(image, weight, bias, padding=1),
    }
    try:
        from torchvision.ops import deform_conv2d as theirs
    except ImportError:
        return found
    if image.dtype == torch.bfloat16:  # which it has no kernels for
        return found
    offset, mask = tensors["offset"], tensors["mask"]
    return found | {TORCHVISION: lambda: theirs(image, offset, weight, bias, 1, 1, 1, mask)}


def queued(run: Callable[[], object]) -> Callable[[], object]:
    """Calls in a row."""
    return lambda: [run() for _ in range(QUEUED)]


def graphed(run: Callable[[], object]) -> Callable[[], object]:
    """What it computes, from its fourth call on launched as one."""
    replayed = Replayed(lambda given: run(), GPU)
    return lambda: replayed(())


def with_backward(run: Callable[[], Tensor], tensors: dict[str, Tensor]) -> Callable[[], object]:
    """The same, with the gradients of all tensors."""
    return lambda: dcn.backward(run(), tensors)


def finished(run: Callable[[], object], implementation: str = "auto") -> Callable[[], None]:
    """A call, until the device has finished, with one of our deformable convolutions."""
    ours = implementation if implementation in (DEFORMABLE, TORCH) else "auto"

    def call() -> None:
        # Not patch.dict, which puts the whole environment back while the clock runs.
        os.environ[VARIABLE] = ours
        run()
        torch.cuda.synchronize()

    return call


if __name__ == "__main__":
    main()
