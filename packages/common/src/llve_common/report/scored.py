"""The tables, files and page of anybody's scored results."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from llve_common.clips.clip import fitted
from llve_common.clips.frames import open_source
from llve_common.evaluate.meter import STRIP_FRAMES
from llve_common.evaluate.rows import MEASURES, ROWS
from llve_common.evaluate.score import Scored, ScoredFrame
from llve_common.evaluate.scores import plain
from llve_common.io.atomic import write_text
from llve_common.io.images import in_8_bits, read_image
from llve_common.metrics.quality import Eight
from llve_common.report.page import Group, Panel, Section, Strips, curves, write_page
from llve_common.report.tables import (
    FIDELITY,
    FURTHER,
    LPIPS,
    LPIPS_VERSION,
    STEADINESS,
    STEADINESS_UNITS,
    Column,
    Table,
    listed,
)
from llve_common.video import is_video

WORST = 5
_MORE = (*FURTHER, Column("FSIM", "fsim", ".4f"), Column("FSIMc", "fsimc", ".4f"), LPIPS)


def score_tables(scored: Scored) -> list[Table]:
    """A row for each protocol, over frames and over clips; and what needs no ground truth."""
    tables = []
    clips = len({frame.clip for frame in scored.frames})
    for over, count in (("frames", len(scored.frames)), ("clips", clips)):
        means = scored.means(over)
        if means and (over == "frames" or clips > 1):
            rows = [
                (name, *(each.cell(row.get(each.score)) for each in FIDELITY))
                for name, row in means.items()
            ]
            title = f"mean of {count} {over if count > 1 else 'frame'} (PSNR in dB)"
            tables.append(Table(title, ("", *(each.heading for each in FIDELITY)), tuple(rows)))
    alone = scored.means_alone()
    shown = [each for each in (*_MORE, *STEADINESS) if each.score in alone]
    if shown:
        row = ("mean", *(each.cell(alone[each.score]) for each in shown))
        said = f"; {LPIPS_VERSION}" if "lpips" in alone else ""
        said += f"; {STEADINESS_UNITS}; by {scored.flow}" if scored.temporal else ""
        title = f"beyond ground truth (NIQE: Python form; LOE: 50 samples; EME: 8x8 blocks{said})"
        tables.append(Table(title, ("", *(each.heading for each in shown)), (row,)))
    return tables


def write_scored(folder: Path, scored: Scored, agreeing: Sequence[str]) -> None:
    """Write ``scores.json``, ``scores.csv``, ``scores.md`` and ``index.html``.

    Raises:
        MediaError: a file cannot be written, or a picture not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables, shown = score_tables(scored), scored.over_time
    notes = [*scored.by_protocol(), *scored.notes, *agreeing]
    content = {
        "mean_of_frames": scored.means(),
        "mean_of_clips": scored.means("clips"),
        "without_reference": scored.means_alone(),
        "rows": ROWS,
        "notes": notes,
        "over_time": {
            clip: {**figures, "brightness_differences": shown[clip].curves if clip in shown else {}}
            for clip, figures in scored.temporal.items()
        },
        "frames": [
            {"clip": each.clip, "frame": each.frame, "values": each.values, "alone": each.alone}
            for each in scored.frames
        ],
    }
    write_text(folder / "scores.json", json.dumps(plain(content), indent=2) + "\n")
    write_text(folder / "scores.csv", _csv(scored))
    written = [f"{table.title}\n\n{table.markdown()}\n" for table in tables]
    write_text(folder / "scores.md", "".join([*written, *(f"- {note}\n" for note in notes)]))
    lead = "Each row is a way to compute the same figures: compare only rows of one name."
    told = [f"{name}: computed {text}." for name, text in ROWS.items()]
    sections = [
        Section("Scores", tables=tables, notes=notes),
        *_over_time(scored),
        *_worst(scored),
        Section("What the rows mean", notes=told),
    ]
    write_page(folder / "index.html", "Scores", lead, sections)


def _csv(scored: Scored) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    names = [name for name in ROWS if any(name in each.values for each in scored.frames)]
    columns = [(name, measure) for name in names for measure in MEASURES]
    more = [each.score for each in _MORE]
    rows.writerow(["clip", "frame", *(f"{m} {n}" for n, m in columns), *more])
    for each in scored.frames:
        values = [each.values.get(name, {}).get(measure, "") for name, measure in columns]
        alone = [each.alone.get(measure, "") for measure in more]
        rows.writerow([each.clip, each.frame, *values, *alone])
    return text.getvalue()


def _over_time(scored: Scored) -> list[Section]:
    if not scored.over_time:
        return []
    strips = [
        Strips(f"{clip}: {len(shown.strips['result'])} frames", [
            Panel(name, [strip]) for name, strip in shown.strips.items()
        ])
        for clip, shown in scored.over_time.items() if shown.strips
    ]  # fmt: skip
    plots = [
        curves(clip, shown.curves, "frame", "difference in brightness")
        for clip, shown in scored.over_time.items() if shown.curves
    ]  # fmt: skip
    text = (
        "The curves: mean absolute difference in brightness to the frame before, in [0, 1]; "
        "flicker makes them leave the ground truth's. The strips: the middle row of the picture, "
        f"one line for each frame, from top to bottom (at most the first {STRIP_FRAMES}); flicker "
        "shows as horizontal bands, noise as grain."
    )
    return [Section("Over time", text, plots=plots, strips=strips)]


def _worst(scored: Scored) -> list[Section]:
    """The results of the lowest PSNR, over their ground truth."""
    measured = [each for each in scored.frames if each.values]
    worst = sorted(measured, key=lambda each: each.values["RGB"]["psnr"])[:WORST]
    groups = [_group(each) for each in worst]
    text = "Left of the handle is the ground truth."
    return [Section(f"The {len(groups)} worst", text, groups=groups)] if groups else []


def _group(frame: ScoredFrame) -> Group:
    assert frame.target is not None
    target = _pixels(*frame.target)
    result = fitted(_pixels(*frame.file), target.shape[1::-1])
    said = listed(FIDELITY, frame.values["RGB"])
    caption = f"{frame.clip}/{frame.frame}" if frame.clip else frame.frame
    return Group(caption, [Panel("ground truth", [target]), Panel("result", [result], said)])


def _pixels(file: Path, number: int) -> Eight:
    if not is_video(file):
        return in_8_bits(read_image(file).pixels)
    with open_source(file, skip=number) as source:
        return in_8_bits(next(source.frames).image.pixels)
