"""SCI's and SGZ's kernels from 540p to 8K: time should grow as the pixels do.

8-bit frames in and out, in one process, calls of all sizes in turns.
"""

from functools import partial

import harness
import torch

from llve_common.report.tables import Table
from llve_common.weights.network import load_model
from llve_sci.paper import PAPER as SCI
from llve_sgz.paper import PAPER as SGZ

SIZES = {"540p": (540, 960), "1080p": (1080, 1920), "4K": (2160, 3840), "8K": (4320, 7680)}


def main() -> None:
    """Measure, print, and write the results."""
    comparisons: dict[str, harness.Comparison] = {}
    rows = []
    frames = [harness.dark_frame(*size) for size in SIZES.values()]
    for paper in (SCI, SGZ):
        enhance = harness.enhancer(load_model(paper, None, torch.device("cpu")))
        runs = (partial(enhance, pixels) for pixels in frames)
        comparisons[paper.name] = found = harness.compare(dict(zip(SIZES, runs, strict=True)))
        for (name, timing), pixels in zip(found.timings.items(), frames, strict=True):
            processor = timing.processor_seconds
            times = (harness.milliseconds(each) for each in (timing.seconds, processor))
            a_pixel = f"{processor / pixels[..., 0].size * 1e9:.2f}"
            rows.append((f"{paper.name}, {name}", *times, a_pixel))
    columns = ("", "ms", "processor ms", "processor ns a pixel")
    title = "SCI and SGZ on a CPU, 8-bit frame to 8-bit frame"
    harness.write("sizes", [Table(title, columns, tuple(rows))], comparisons)


if __name__ == "__main__":
    main()
