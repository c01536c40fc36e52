"""A comparison of papers as tables, as JSON and CSV, and as a self-contained page."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llve_common import __version__
from llve_common.errors import in_one_line
from llve_common.evaluate.compare import Comparison, Cost, Row
from llve_common.evaluate.meter import STRIP_FRAMES
from llve_common.evaluate.scores import plain
from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_command, shown_path, shown_text
from llve_common.machine.shell import COMMAND
from llve_common.report.page import HANDLE, Group, Panel, Section, Strips, scatter, write_page
from llve_common.report.tables import (
    FIDELITY,
    FURTHER,
    LPIPS,
    LPIPS_VERSION,
    STEADINESS,
    Column,
    Table,
    listed,
)

QUALITY = (*FIDELITY, *STEADINESS)
_ASKED_FOR = (Column("PSNR, GT-mean", "psnr_gt_mean", ".3f"), *FURTHER, LPIPS)

_DEFINITIONS = (
    "Every figure is the mean over the items, and an item's the mean over its frames, as "
    "far as they have it.",
    "PSNR and SSIM: of the 8-bit images, after the paper's own rounding. SSIM skimage7: uniform "
    "7x7 window, sample covariance; SSIM gaussian11: 11x11 Gaussian window of sigma 1.5, "
    "population covariance; both for each colour channel. Higher is better.",
    "Warping error: mean squared difference between a frame and the one before, warped along the "
    "optical flow ({flow}) of the ground truth, or of the input where there is none, over pixels "
    "whose flow is consistent; errors along different flows do not compare. MABD: mean absolute "
    "difference in brightness between neighbouring frames; MABD MSE: its sequence's mean squared "
    "error against the ground truth's. Lower is better, but for MABD itself, which holds motion as "
    "well as flicker.",
    "Multiply-accumulates: convolutions, matrix products and attention of one whole window of "
    "frames, even where the next window shares some of it. Time: the median of five frames of a "
    "clip under way, from 8-bit pixels to 8-bit pixels, without reading files; other work on the "
    "machine adds to it. Memory: the peak above what the process held with the network loaded, "
    "until a clip's first frame is enhanced.",
)
_ASKED_FOR_DEFINITIONS = {
    "de": "PSNR, GT-mean: after each result was scaled to its ground truth's mean brightness. NIQE "
    "(Python form), LOE (50 samples along the shorter side) and the colour error (distance from "
    "near-grey objects' own colour, in CIELAB's a and b): lower is better. DE and EME (8x8 blocks, "
    "c = 1): higher is held to be better, and noise raises both.",
    "lpips": f"{LPIPS_VERSION}, against ground truth; lower is better.",
}
"""What the tables' figures mean, ``flow`` left open."""


@dataclass(frozen=True)
class Command:
    """How the comparison was asked for: the whole of it, and each row's own commands."""

    whole: str
    rows: Mapping[str, Sequence[str]]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Quality, cost, and the weights or what went amiss."""
    items, rows, shown = len(comparison.frames), comparison.rows, _columns(comparison)
    quality = Table(
        f"Quality on {items} {'item' if items == 1 else 'items'}, frames: "
        f"{sum(comparison.frames.values())} (PSNR in dB, warping error and MABD in 1e-3, MABD MSE "
        f"in 1e-6; warping error by {comparison.flow})",
        ("", *(column.heading for column in shown)),
        tuple((row.name, *(each.cell(row.mean(each.score)) for each in shown)) for row in rows),
    )
    height, width = comparison.size
    cost = Table(
        f"Cost of a frame of {width}x{height} pixels on {comparison.device}, "
        f"threads: {torch.get_num_threads()}",
        ("", "parameters", "multiply-accumulates", "time, ms", "peak memory, MiB"),
        tuple((row.name, *_cost_cells(row.cost)) for row in rows[1:]),
    )
    # A gamma curve has no weights, and its title says how it is made.
    titled = ((row, row.title if row.weights or row.failure else "-") for row in rows[1:])
    made = tuple((row.name, title, made_with(row)) for row, title in titled)
    return [quality, cost, Table("Weights", ("", "paper", "made with"), made, words=True)]


def _columns(comparison: Comparison) -> list[Column]:
    """Those of every comparison, and those that were asked for."""
    first = comparison.rows[0]
    return [*QUALITY, *(each for each in _ASKED_FOR if first.mean(each.score) is not None)]


def made_with(row: Row) -> str:
    """The weights of a row, or why it has no figures."""
    if row.failure is not None:
        return f"failed: {shown_text(in_one_line(row.failure))}"
    return shown_text(str(row.weights)) if row.weights is not None else row.title


def dashes(comparison: Comparison) -> list[str]:
    """Why figures of all rows are missing."""
    found = []
    if comparison.rows[0].mean("psnr") is None:
        found.append("A dash under PSNR, SSIM and MABD MSE: there is no --reference.")
    if comparison.rows[0].mean("mabd") is None:
        found.append(
            "A dash under warping error and MABD: nothing has more than one frame. Images of a "
            "folder are images by themselves, unless --clip says that they are frames."
        )
    return found


def _notes(comparison: Comparison) -> list[str]:
    left_out, shown = comparison.left_out.items(), {each.score for each in _columns(comparison)}
    return [
        *dashes(comparison),
        *(f"Left out: {name}: {shown_text(in_one_line(why))}" for name, why in left_out),
        *(each.format(flow=comparison.flow) for each in _DEFINITIONS),
        *(text for score, text in _ASKED_FOR_DEFINITIONS.items() if score in shown),
    ]


def write_comparison(folder: Path, comparison: Comparison, command: Command) -> None:
    """Write ``index.html`` and ``comparison.md``, ``.json`` and ``.csv``, or replace them.

    Where what was compared lies on this machine stands in ``command.txt`` alone.

    Raises:
        MediaError: a file cannot be written.
    """
    lines = [command.whole, *(line for name in command.rows for line in command.rows[name])]
    write_text(folder / COMMAND, "".join(f"{line}\n" for line in lines))
    rows = {name: [shown_command(line) for line in own] for name, own in command.rows.items()}
    command = Command(shown_command(command.whole), rows)
    write_text(folder / "comparison.md", _markdown(comparison, command))
    write_text(folder / "comparison.json", json.dumps(_facts(comparison, command), indent=2) + "\n")
    write_text(folder / "comparison.csv", _csv(comparison))
    lead = (
        "Each paper with the weights named beside it. Figures hold for these weights on this data "
        "alone; bundled weights are small, trained by llve, and not the papers' own."
    )
    made = (
        f"The whole page, then each row alone and its pictures in full. Made by llve {__version__} "
        f"with torch {torch.__version__}."
    )
    sections = [
        _pictures_section(comparison),
        Section("Figures", tables=comparison_tables(comparison), notes=_notes(comparison)),
        *_plots_section(comparison),
        *_strips_section(comparison),
        Section("How it was made", made, commands=_lines(comparison, command)),
    ]
    write_page(folder / "index.html", "Low-light enhancement, compared", lead, sections)


_COSTS: dict[str, tuple[str, Callable[[Cost], float]]] = {
    "Against time": ("time of a frame, ms", lambda cost: cost.seconds * 1e3),
    "Against arithmetic": ("multiply-accumulates, 1e9", lambda cost: cost.macs / 1e9),
}


def _plots_section(comparison: Comparison) -> Iterator[Section]:
    plots = [_plot(comparison, title, *each) for title, each in _COSTS.items()]
    drawn = [plot for plot in plots if plot is not None]
    if drawn:
        yield Section("Quality against cost", plots=drawn)


def _plot(
    comparison: Comparison, title: str, label: str, of: Callable[[Cost], float]
) -> str | None:
    """Rows by PSNR, or without ground truth by warping error; None where there are none."""
    scored = comparison.rows[0].mean("psnr") is not None
    column = QUALITY[0] if scored else QUALITY[3]
    axis = "PSNR, dB" if scored else "warping error, 1e-3"
    points = {}
    for row in comparison.rows:
        value = row.mean(column.score)
        # A logarithmic axis has no place for 0, the count of a network without products.
        if value is not None and math.isfinite(value) and row.cost and of(row.cost) > 0:
            points[row.name] = (of(row.cost), value * column.factor)
    base = comparison.rows[0].mean(column.score)
    level = None if base is None or math.isinf(base) else ("input", base * column.factor)
    return scatter(title, points, label, axis, level) if points else None


def _pictures_section(comparison: Comparison) -> Section:
    untouched = comparison.rows[0]
    groups = []
    for item, view in untouched.views.items():
        count = comparison.frames[item]
        some = f", {len(view.frames)} of its {count} frames" if count > len(view.frames) else ""
        groups.append(Group(f"{item}{some}", _panels(comparison, item), view.frames))
    text = (
        f"{HANDLE} Zoomed, the pointer or two sliders choose the place. Figures are of the frame "
        "shown."
    )
    if len(comparison.frames) > len(groups):
        text += f" Shown are {len(groups)} of {len(comparison.frames)} items, evenly spread."
    return Section("Pictures", text, groups=groups)


def _panels(comparison: Comparison, item: str) -> list[Panel]:
    # Opens with the input and the first paper: what has no weights but the input comes last.
    first, *rows = (row for row in comparison.rows if item in row.views)
    rows.sort(key=lambda row: row.weights is None)
    found = [_panel(row, item) for row in (first, *rows)]
    if item in comparison.references:
        found.append(Panel("ground truth", comparison.references[item].pictures))
    return found


def _panel(row: Row, item: str) -> Panel:
    view = row.views[item]
    said = [listed((*FIDELITY, *_ASKED_FOR), scores) for scores in view.scores]
    # What the weights are for stands in the table.
    caption = "" if row.weights is None else made_with(row).partition(":")[0]
    return Panel(row.name, view.pictures, caption, said)


def _strips_section(comparison: Comparison) -> Iterator[Section]:
    found = []
    for item, view in comparison.rows[0].views.items():
        if view.strip is not None:
            panels = [
                Panel(row.name, [strip])
                for row in comparison.rows
                if item in row.views and (strip := row.views[item].strip) is not None
            ]
            truth = comparison.references.get(item)
            if truth is not None and truth.strip is not None:
                panels.append(Panel("ground truth", [truth.strip]))
            found.append(Strips(f"{item}: {view.strip.shape[0]} frames", panels))
    text = (
        "The middle row of the picture, one line for each frame, from top to bottom (at most the "
        f"first {STRIP_FRAMES}). What rests is a straight vertical line; flicker shows as "
        "horizontal bands, noise as grain."
    )
    if found:
        yield Section("Over time", text, strips=found)


def _lines(comparison: Comparison, command: Command) -> list[str]:
    """The commands, without those of rows that failed."""
    made = [row.name for row in comparison.rows[1:] if row.failure is None]
    return [command.whole, *(line for name in made for line in command.rows.get(name, ()))]


def _cost_cells(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("-",) * 4
    memory = "-" if cost.memory is None else f"{cost.memory / 2**20:.1f}"
    return f"{cost.parameters:,}", _counted(cost.macs), f"{cost.seconds * 1e3:.1f}", memory


def _counted(number: int) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _markdown(comparison: Comparison, command: Command) -> str:
    parts = [f"## {table.title}\n\n{table.markdown()}" for table in comparison_tables(comparison)]
    parts.append("".join(f"- {note}\n" for note in _notes(comparison)))
    lines = _lines(comparison, command)
    parts.append("```sh\n" + "".join(f"{line}\n" for line in lines) + "```\n")
    return "\n".join(parts)


def _csv(comparison: Comparison) -> str:
    buffer = io.StringIO()
    rows = [_flat(row, comparison.flow, _columns(comparison)) for row in comparison.rows]
    writer = csv.DictWriter(buffer, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _facts(comparison: Comparison, command: Command) -> dict[str, Any]:
    rows = []
    for row in comparison.rows:
        own = {"commands": command.rows.get(row.name, ()), "items": plain(row.figures)}
        rows.append(_flat(row, comparison.flow, _columns(comparison)) | own)
    return {
        "command": command.whole,
        "llve": __version__,
        "torch": str(torch.__version__),
        "device": str(comparison.device),
        "threads": torch.get_num_threads(),
        "cost_measured_at": dict(zip(("height", "width"), comparison.size, strict=True)),
        "frames": dict(comparison.frames),
        "left_out": {name: shown_text(why) for name, why in comparison.left_out.items()},
        "notes": _notes(comparison),
        "rows": rows,
    }


def _flat(row: Row, flow: str, columns: Sequence[Column]) -> dict[str, Any]:
    """A row by name, in plain units: intensities in [0, 1], seconds, bytes."""
    cost, weights = row.cost, row.weights
    means = {each.score: plain(row.mean(each.score)) for each in columns}
    return {
        "name": row.name,
        "title": row.title,
        **means,
        "warping_error_flow": flow,
        "parameters": cost and cost.parameters,
        "multiply_accumulates": cost and cost.macs,
        "precision": cost and cost.precision,
        "seconds": cost and cost.seconds,
        "peak_memory": cost and cost.memory,
        "weights": weights and shown_path(weights.path),
        "weights_sha256": weights and weights.sha256,
        "weights_bundled": weights and weights.bundled,
        "failure": row.failure and shown_text(row.failure),
    }
