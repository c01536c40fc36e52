"""A table once, shown in the terminal, in Markdown and on a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rich.table
from rich.markup import escape

from llve_common.evaluate.test import Scores


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; the first column names the row.

    Attributes:
        title: of the table.
        columns: their headings.
        rows: their cells.
        words: the cells hold words, which begin at the left, not figures, which end at the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False

    def rich(self) -> rich.table.Table:
        """For the terminal."""
        # Square brackets in a file's name are no markup.
        table = rich.table.Table(title=escape(self.title), title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(
                escape(column),
                justify="right" if number and not self.words else "left",
                # A figure that lost its last digits would be another figure.
                min_width=max((len(word) for word in column.split()), default=None),
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """For a README."""
        rule = ["---"] + ["---" if self.words else "---:"] * (len(self.columns) - 1)
        lines = [_cells(self.columns), rule, *map(_cells, self.rows)]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def score_table(scores: Scores, title: str, *, ssim_definition: str) -> Table:
    """PSNR, SSIM and, where it was measured, FSIM, before and after.

    There is a row for each frame of a single clip, or for each clip.
    """
    kinds = [each for each in _KINDS if each[1] in scores.mean_of_frames or each[1] != "fsim"]
    columns = [f"{label} {when}" for label, *_ in kinds for when in ("before", "after")]
    if len(scores.per_clip) == 1:
        parts = [(frame.frame, frame.values) for frame in scores.frames]
    else:
        parts = list(scores.per_clip.items())
    parts.append((f"mean of {len(scores.frames)} frames", scores.mean_of_frames))
    if len(scores.per_clip) > 1:
        parts.append((f"mean of {len(scores.per_clip)} clips", scores.mean_of_clips))
    rows = tuple((name, *_fidelity_cells(values, kinds)) for name, values in parts)
    return Table(f"{title} (PSNR in dB; SSIM: {ssim_definition})", ("", *columns), rows)


_STEADINESS = (
    ("warping error", "warping_error"), ("MABD", "mabd"), ("MABD, squared error", "mabd_mse"),
)  # fmt: skip


def steadiness_table(scores: Scores, title: str) -> Table:
    """The temporal scores before and after, a row for each clip; in units of 1e-3."""
    columns = [f"{label} {when}" for label, _ in _STEADINESS for when in ("before", "after")]
    keys = [f"{prefix}{name}" for _, name in _STEADINESS for prefix in ("input_", "")]
    rows = [(clip, *_thousandths(values, keys)) for clip, values in scores.temporal.items()]
    if len(rows) > 1:
        means = _thousandths(scores.mean_of_clips, keys)
        rows.append((f"mean of {len(rows)} clips", *means))
    said = f"times 1000; lower is steadier; warping error by {scores.flow}"
    return Table(f"{title} ({said})", ("", *columns), tuple(rows))


def _thousandths(values: dict[str, float], keys: Sequence[str]) -> list[str]:
    return [f"{values[key] * 1e3:.4f}" if key in values else "-" for key in keys]


_KINDS = (("PSNR", "psnr", ".3f"), ("SSIM", "ssim", ".4f"), ("FSIM", "fsim", ".4f"))


def _fidelity_cells(
    values: dict[str, float], kinds: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    for _, name, form in kinds:
        for key in (f"input_{name}", name):
            yield format(values[key], form) if key in values else "-"


def _cells(row: Sequence[str]) -> list[str]:
    # A bar or a line break in a cell would end it.
    return [" ".join(cell.split()).replace("|", r"\|") for cell in row]


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of anything that prints."""
    return Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows))
