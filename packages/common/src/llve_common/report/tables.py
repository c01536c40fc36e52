"""A table once, shown in the terminal, in Markdown and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import rich.table

from llve_common.engine.evaluator import Scores


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> rich.table.Table:
        """For the terminal."""
        table = rich.table.Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a README."""
        rule = ["---"] + ["---:"] * (len(self.columns) - 1)
        lines = [self.columns, rule, *self.rows]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def score_table(scores: Scores, title: str, *, ssim_definition: str) -> Table:
    """PSNR and SSIM before and after: a row for each frame of a single clip, or for each clip."""
    columns = ("", "PSNR before", "PSNR after", "SSIM before", "SSIM after")
    if len(scores.per_clip) == 1:
        parts = [(frame.frame, frame.values) for frame in scores.frames]
    else:
        parts = list(scores.per_clip.items())
    rows = [_row(name, values) for name, values in parts]
    rows.append(_row(f"mean of {len(scores.frames)} frames", scores.mean_of_frames))
    if len(scores.per_clip) > 1:
        rows.append(_row(f"mean of {len(scores.per_clip)} clips", scores.mean_of_clips))
    return Table(f"{title} (PSNR in dB; SSIM: {ssim_definition})", columns, tuple(rows))


def _row(name: str, values: dict[str, float]) -> tuple[str, ...]:
    psnrs = [f"{values[key]:.3f}" for key in ("input_psnr", "psnr")]
    ssims = [f"{values[key]:.4f}" for key in ("input_ssim", "ssim")]
    return (name, *psnrs, *ssims)


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of anything that prints."""
    return Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows))
