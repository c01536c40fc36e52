"""A table once, shown in the terminal, in Markdown and on a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import rich.table
from rich.text import Text

from llve_common.errors import printable


class Column(NamedTuple):
    """A column of figures: its heading, the score in it, and its form, such as ``.3f``.

    It is shown times the factor.
    """

    heading: str
    score: str
    form: str
    factor: float = 1.0

    def cell(self, value: float | None) -> str:
        """A figure; a dash where there is none."""
        return "-" if value is None else format(value * self.factor, self.form)


def listed(
    columns: Sequence[Column], values: Mapping[str, float], prefix: str = "", between: str = "\n"
) -> str:
    """Those figures that there are, a line each."""
    found = ((each, values.get(prefix + each.score)) for each in columns)
    return between.join(
        f"{each.heading} {each.cell(value)}" for each, value in found if value is not None
    )


FIDELITY = (
    Column("PSNR", "psnr", ".3f"),
    Column("SSIM skimage7", "ssim_skimage7", ".4f"),
    Column("SSIM gaussian11", "ssim_gaussian11", ".4f"),
)
"""What is measured against ground truth, by both definitions of SSIM that tables use."""


FURTHER = (
    Column("NIQE", "niqe", ".4f"),
    Column("LOE", "loe", ".1f"),
    Column("DE", "de", ".4f"),
    Column("EME", "eme", ".3f"),
    Column("colour error", "colour_error", ".2f"),
)
"""What else is measured of an image (:func:`llve_common.metrics.quality.further`)."""

LPIPS = Column("LPIPS", "lpips", ".4f")
LPIPS_VERSION = "LPIPS: AlexNet, version 0.1"

STEADINESS = (
    Column("warping error", "warping_error", ".3f", 1e3),
    Column("MABD", "mabd", ".3f", 1e3),
    Column("MABD MSE", "mabd_mse", ".3f", 1e6),
)
STEADINESS_UNITS = "warping error and MABD in 1e-3, MABD MSE in 1e-6; lower is steadier"
"""What is measured of a clip over time."""


_LONGEST = 24
"""Letters of a row's name that is not broken where the terminal is narrow."""


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; the first column names the row.

    With ``words`` the cells begin at the left; otherwise they hold figures, which end at the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: bool = False

    def rich(self) -> rich.table.Table:
        """For the terminal."""
        # As text: square brackets in a file's name are no markup.
        table = rich.table.Table(title=Text(printable(self.title)), title_justify="left")
        short = all(len(row[0]) <= _LONGEST for row in self.rows)
        for number, column in enumerate(self.columns):
            table.add_column(
                Text(printable(column)),
                justify="right" if number and not self.words else "left",
                # A figure that lost its last digits would be another figure, and so would a name.
                min_width=max((len(word) for word in column.split()), default=None),
                no_wrap=number == 0 and short,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return table

    def markdown(self) -> str:
        """For a README."""
        rule = ["---"] + ["---" if self.words else "---:"] * (len(self.columns) - 1)
        lines = [_cells(self.columns), rule, *map(_cells, self.rows)]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cells(row: Sequence[str]) -> list[str]:
    # A bar or a line break in a cell would end it.
    return [printable(" ".join(cell.split())).replace("|", r"\|") for cell in row]


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of anything that prints."""
    return Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows))
