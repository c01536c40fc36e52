"""A 1080p video through ``sci enhance``: the whole against its stages.

Decoding, network and encoding overlap, so the whole should take little longer than its slowest
stage, or than the processor seconds of all stages shared out over the cores. The clip is longer
than the 40 frames that the encoder looks ahead: a shorter one is mostly encoded when all else is
done.
"""

import os
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch

from llve_common.data.synthetic import read_photograph
from llve_common.enhance.files import enhance_job
from llve_common.enhance.frames import frame_enhancer
from llve_common.report.tables import Table
from llve_common.video import VideoInfo, VideoReader, VideoWriter
from llve_common.weights.network import load_model
from llve_sci.paper import PAPER

CPU = torch.device("cpu")
WIDTH, HEIGHT, FRAMES = 1920, 1080, 120
STAGES = ("decode", "network", "encode")


def main() -> None:
    """Measure, print, and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "dark.mp4", Path(folder) / "bright.mp4"
        make_video(source)
        comparison = harness.compare(functions(source, target), repeats=3)
    harness.write("video", [table(comparison)], {"video": comparison})


def functions(source: Path, target: Path) -> dict[str, Callable[[], Any]]:
    """Each stage alone, on frames held in memory, and the whole."""
    model = load_model(PAPER, None, CPU)
    enhance, stream = harness.enhancer(model), frame_enhancer(model)
    with VideoReader(source) as reader:
        info, frames = reader.info, list(reader)

    def encode() -> None:
        with VideoWriter(target, info) as writer:
            for frame in frames:
                writer.write(bright[frame.time], frame.time)

    bright = {frame.time: enhance(frame.pixels) for frame in frames}
    return {
        "decode": lambda: decode(source),
        "network": lambda: [enhance(frame.pixels) for frame in frames],
        "encode": encode,
        "whole": lambda: enhance_job(stream, (source, target)),
    }


def table(comparison: harness.Comparison) -> Table:
    """A row for each stage, and what the whole could not be faster than."""
    timings, cores = comparison.timings, os.cpu_count() or 1
    slowest = max(timings[name].seconds for name in STAGES)
    shared = sum(timings[name].processor_seconds for name in STAGES) / cores
    bound = max(slowest, shared)
    rows = [
        (
            name,
            harness.milliseconds(each.seconds / FRAMES),
            harness.milliseconds(each.processor_seconds / FRAMES),
        )
        for name, each in timings.items()
    ]
    rows.append(
        ("bound: slowest stage, or all shared out", harness.milliseconds(bound / FRAMES), "")
    )
    rows.append(("whole / bound", f"{timings['whole'].seconds / bound:.3f}", ""))
    title = f"SCI, {WIDTH}x{HEIGHT} mp4 to mp4, {FRAMES} frames, {cores} cores"
    return Table(title, ("stage", "ms a frame", "CPU ms a frame"), tuple(rows))


def make_video(path: Path) -> None:
    """A camera that moves over a photograph, dark."""
    photograph = np.tile(read_photograph("coffee") // 4, (4, 5, 1))
    info = VideoInfo(path, WIDTH, HEIGHT, Fraction(25), Fraction(1, 12800))
    with VideoWriter(path, info) as writer:
        for number in range(FRAMES):
            view = photograph[2 * number : 2 * number + HEIGHT, 3 * number : 3 * number + WIDTH]
            writer.write(np.ascontiguousarray(view), Fraction(number, 25))


def decode(path: Path) -> None:
    """Read all frames and keep none."""
    with VideoReader(path) as reader:
        for _ in reader:
            pass


if __name__ == "__main__":
    main()
