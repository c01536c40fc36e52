"""Compares functions by interleaved medians in one process, and says what else the machine did."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rich.console
import torch
from torch import Tensor

from llve_common.enhance.frames import deferred_enhancer
from llve_common.io.images import Pixels
from llve_common.machine.memory import keep_freed_memory
from llve_common.paper.contract import Model
from llve_common.report.tables import Table

RESULTS = Path(__file__).parent / "results"

# Cores' worth of other work above which a run is marked as disturbed.
DISTURBED = 0.1
# Seconds between looks whether this process rests, and looks at most.
_PAUSE, _LOOKS = 0.01, 100


@dataclass(frozen=True)
class Timing:
    """One function's share of a comparison: wall-clock and processor seconds of a call, medians."""

    seconds: float
    processor_seconds: float
    repeats: int


@dataclass(frozen=True)
class Comparison:
    """Timings by name, and the other work of the machine meanwhile.

    Attributes:
        timings: by the functions' names.
        other_load: cores that other processes kept busy; None where /proc/stat is missing.
    """

    timings: dict[str, Timing]
    other_load: float | None

    @property
    def disturbed(self) -> bool:
        """Whether other work may have changed the figures."""
        return self.other_load is not None and self.other_load > DISTURBED

    def ratio(self, slow: str, fast: str) -> float:
        """How many times as long ``slow`` takes as ``fast``."""
        return self.timings[slow].seconds / self.timings[fast].seconds


def compare(functions: Mapping[str, Callable[[], Any]], repeats: int = 15) -> Comparison:
    """Call the functions in turns, after one turn that warms up, so that all meet the same load.

    All have the allocator that our commands choose, and begin when threads of the last have ended
    or sleep: runtimes' threads wait for more work in a loop, on cores that the next one needs.
    """
    keep_freed_memory()
    for function in functions.values():
        function()
    wall: dict[str, list[float]] = {name: [] for name in functions}
    processor: dict[str, list[float]] = {name: [] for name in functions}
    before = _moment()
    for _ in range(repeats):
        for name, function in functions.items():
            _rest()
            own, started = time.process_time(), time.perf_counter()
            function()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - own)
    timings = {
        name: Timing(statistics.median(wall[name]), statistics.median(processor[name]), repeats)
        for name in functions
    }
    return Comparison(timings, _other_load(before, _moment()))


def write(name: str, tables: list[Table], comparisons: Mapping[str, Comparison]) -> None:
    """Print tables; write them as text, Markdown and JSON, with the machine, to ``results/``."""
    RESULTS.mkdir(exist_ok=True)
    loads = [f"{title}: {_describe(each)}" for title, each in comparisons.items()]
    facts = [f"{key}: {value}" for key, value in machine().items()]
    with (RESULTS / f"{name}.txt").open("w", encoding="utf-8") as file:
        for console in (rich.console.Console(), rich.console.Console(file=file, width=100)):
            for table in tables:
                console.print(table.rich())
            console.print("\n".join([*loads, *facts]), highlight=False, markup=False)
    parts = [f"## {table.title}\n\n{table.markdown()}" for table in tables]
    parts.append("".join(f"- {line}\n" for line in [*loads, *facts]))
    (RESULTS / f"{name}.md").write_text("\n".join(parts), encoding="utf-8")
    found = {
        "machine": machine(),
        "comparisons": {
            title: asdict(each) | {"disturbed": each.disturbed}
            for title, each in comparisons.items()
        },
        "tables": [asdict(table) for table in tables],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def enhancer(model: Model) -> Callable[[Pixels], Pixels]:
    """What enhances a frame (H, W, 3) and waits for the result."""
    begin = deferred_enhancer(model)
    return lambda pixels: begin(pixels)()


def dark_frame(height: int, width: int) -> Pixels:
    """Random low-light pixels (H, W, 3)."""
    draws = np.random.default_rng(0).random((height, width, 3))
    return (draws**2.2 * 0.3 * 255).astype(np.uint8)


def to_float(pixels: Pixels) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous().float() / 255


def machine() -> dict[str, str]:
    """What figures depend on: processor, cores, versions, threads, allocator settings."""
    allocator = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("MALLOC_") or key in {"LD_PRELOAD", "GLIBC_TUNABLES"}
    }
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "allocator": str(allocator or "the system's, which keeps freed memory as in our commands"),
    }


def milliseconds(seconds: float) -> str:
    """For a table's cell."""
    return f"{seconds * 1e3:.2f}"


def _rest() -> None:
    """Wait until no thread of this process works."""
    for _ in range(_LOOKS):
        own = time.process_time()
        time.sleep(_PAUSE)
        if time.process_time() - own < DISTURBED * _PAUSE:
            return


def _describe(comparison: Comparison) -> str:
    if comparison.other_load is None:
        return "other load unknown"
    mark = " (DISTURBED)" if comparison.disturbed else ""
    return f"other load {comparison.other_load:.2f} of a core{mark}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _moment() -> tuple[float, float, float] | None:
    """Seconds: now, busy of all cores, of this process; None where the system does not tell."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy, time.process_time()


def _other_load(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None
) -> float | None:
    if before is None or after is None:
        return None
    wall, busy, own = (late - early for early, late in zip(before, after, strict=True))
    return max((busy - own) / wall, 0.0)
