"""Ours on this CPU beside onnxruntime, OpenVINO and torchvision, in one table, outputs compared.

A row goes from an 8-bit frame to an 8-bit frame with the bundled weights. Runtimes get the network
as ``weights onnx`` writes it; of a video paper that is a window for each frame, where ours streams.
The limit is the time of a row's multiply-accumulates at the speed of a large matrix product in
float32, or of its bytes, in and out once, at the speed of a copy, whichever is longer.
"""

import importlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dcn
import harness
import numpy as np
import torch
from numpy.typing import NDArray

from llve_common.clips.frames import Frame
from llve_common.enhance.frames import frame_enhancer
from llve_common.io.images import Image, Pixels
from llve_common.metrics.cost import multiply_accumulates
from llve_common.ops.deform_conv import deform_conv2d
from llve_common.paper.contract import Model
from llve_common.report.tables import Table
from llve_common.weights.network import load_model
from llve_common.weights.onnx import export_onnx
from llve_sci.paper import PAPER as SCI
from llve_sdsd.paper import PAPER as SDSD
from llve_sgz.paper import PAPER as SGZ
from llve_stcd.paper import PAPER as STCD

CPU = torch.device("cpu")
# Sides that every network takes as they are.
ROWS = ((SCI, 1080, 1920), (SGZ, 1080, 1920), (SDSD, 272, 480), (STCD, 272, 480))
OURS, OURS_BF16 = "ours", "ours, bf16"
ORT, OPENVINO, OPENVINO_BF16 = "onnxruntime", "OpenVINO", "OpenVINO, bf16"
TORCHVISION = "torchvision"
COLUMNS = (OURS, OURS_BF16, ORT, OPENVINO, OPENVINO_BF16, TORCHVISION)

Way = Callable[[], Any]
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def main() -> None:
    """Measure, print, and write the results."""
    speed, bandwidth = machine_limits()
    comparisons: dict[str, harness.Comparison] = {}
    rows = []
    for name, ways, macs, size in [*papers(), deformable()]:
        comparisons[name] = found = harness.compare(ways, repeats=9)
        limit = max(2 * macs / speed, size / bandwidth)
        times = [
            harness.milliseconds(found.timings[way].seconds) if way in ways else "-"
            for way in COLUMNS
        ]
        near = f"{limit / found.timings[OURS].seconds:.0%}"
        rows.append((name, *times, harness.milliseconds(limit), near, agreement(ways)))
    title = (
        f"ms, {torch.get_num_threads()} threads; limits by {speed / 1e9:.0f} GFLOP/s and "
        f"{bandwidth / 1e9:.1f} GB/s"
    )
    columns = ("", *COLUMNS, "limit", "ours of it", "values that differ from ours by 2 or more")
    harness.write("peers", [Table(title, columns, tuple(rows))], comparisons)


def papers() -> Iterator[tuple[str, dict[str, Way], int, int]]:
    """For each paper its name, ways to enhance a frame, multiply-accumulates and bytes."""
    for paper, height, width in ROWS:
        pixels, model = harness.dark_frame(height, width), load_model(paper, None, CPU)
        ways = {OURS: ours(model, pixels)}
        if paper.kind == "video":
            ways[OURS_BF16] = ours(replace(model, precision="bf16"), pixels)
        # Kernels in C are not counted, the network that they stand for is.
        alone = partial(model.network, harness.to_float(pixels))
        macs = multiply_accumulates(ways[OURS] if paper.kind == "video" else alone)
        for name, run in runtimes(model).items():
            ways[name] = partial(through, run, pixels, model)
        yield f"{paper.name}, {width}x{height}", ways, macs, 2 * pixels.nbytes


def ours(model: Model, pixels: Pixels) -> Way:
    """The next enhanced frame of a clip under way."""
    stream = frame_enhancer(model)(itertools.repeat(Frame(Image(pixels), "", "a dark frame")))
    return lambda: next(stream).image.pixels


def through(run: Network, pixels: Pixels, model: Model) -> Pixels:
    """8 bits to 8 bits by a runtime, rounded as the paper does."""
    frames, rounding = len(model.window.inputs), model.paper.rounding
    image = np.divide(pixels.transpose(2, 0, 1), np.float32(255), dtype=np.float32)
    enhanced = run(np.ascontiguousarray(np.broadcast_to(image, (1, frames, *image.shape))))[0, 0]
    levels = enhanced * 255 + (0.5 if rounding == "round" else 0)
    levels = np.rint(levels) if rounding == "half-even" else levels
    return levels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def runtimes(model: Model) -> dict[str, Network]:
    """The network in each runtime that is installed and takes it."""
    found: dict[str, Network] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        export_onnx(model, path)
        found[ORT] = by_onnxruntime(path)
        for name, precision in ((OPENVINO, "f32"), (OPENVINO_BF16, "bf16")):
            try:
                found[name] = by_openvino(path, precision)
            except (ImportError, RuntimeError) as error:
                print(f"{model.paper.name}: no {name}: {str(error).strip().splitlines()[-1]}")
    return found


def by_onnxruntime(path: Path) -> Network:
    """Its CPU provider, with as many threads as torch."""
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda frames: np.asarray(session.run(["enhanced"], {"frames": frames})[0])


def by_openvino(path: Path, precision: str) -> Network:
    """Its CPU device, with as many threads as torch, for one frame at a time."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }  # fmt: skip
    openvino: Any = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda frames: np.asarray(compiled(frames)[0])


def deformable() -> tuple[str, dict[str, Way], int, int]:
    """The deformable convolution of SDSD's alignment, as :mod:`dcn` has it."""
    tensors = {name: each.detach() for name, each in dcn.inputs().items()}
    ways: dict[str, Way] = {OURS: lambda: deform_conv2d(**tensors, padding=1)}
    try:
        theirs = importlib.import_module("torchvision.ops").deform_conv2d
        ways[TORCHVISION] = lambda: theirs(**tensors, padding=1)
    except (ImportError, RuntimeError) as error:
        print(f"no {TORCHVISION}: {error}")
    output = ways[OURS]()
    macs = output.numel() * tensors["weight"][0].numel()
    size = sum(each.nbytes for each in (*tensors.values(), output))
    return f"deformable convolution, {' x '.join(map(str, dcn.SHAPE))}", ways, macs, size


def agreement(ways: dict[str, Way]) -> str:
    """How far the others' results are from ours: 8-bit levels, or values of a thousandth."""
    outputs = {name: np.asarray(way()) for name, way in ways.items()}
    step = 2 if outputs[OURS].dtype == np.uint8 else 1e-3
    shares = [
        f"{name} {(np.abs(each - outputs[OURS].astype(np.float64)) >= step).mean():.3%}"
        for name, each in outputs.items() if name != OURS
    ]  # fmt: skip
    return "; ".join(shares) or "-"


def machine_limits() -> tuple[float, float]:
    """Floating-point operations and bytes a second, of a matrix product and of a copy."""
    matrix, source = torch.rand(2048, 2048), torch.rand(1 << 25)
    target = torch.empty_like(source)
    found = harness.compare(
        {"product": lambda: matrix @ matrix, "copy": lambda: target.copy_(source)}
    )
    product, copy = (found.timings[each].seconds for each in ("product", "copy"))
    return 2 * 2048**3 / product, 2 * source.nbytes / copy


if __name__ == "__main__":
    main()
