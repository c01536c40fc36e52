"""A self-contained HTML page: pictures under a handle, tables, plots, and what made them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import PIL.Image
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from llve_common.errors import printable
from llve_common.io.atomic import write_text
from llve_common.io.images import Pixels
from llve_common.report.tables import Table


@dataclass(frozen=True)
class Panel:
    """A picture (H, W, 3) uint8 RGB of a group, its name and what there is to say of it."""

    label: str
    picture: Pixels
    caption: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures of one size beside each other, each over the same one; all handles move together.

    One control zooms into all of them, at the pointer.
    """

    caption: str
    before: Pixels
    before_label: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Strips:
    """Pictures (T, W, 3) of one row of pixels over time, one below the other."""

    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, words, the commands that made it, and what they made."""

    heading: str
    text: str = ""
    commands: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    notes: Sequence[str] = ()
    groups: Sequence[Group] = ()
    strips: Sequence[Strips] = ()


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write one HTML file that needs nothing beside it; every value is escaped.

    The lead is the paragraph under the title.

    Raises:
        MediaError: the file cannot be written.
    """
    template = environment().get_template("page.html.jinja")
    write_text(path, template.render(title=title, lead=lead, sections=sections))


def environment() -> jinja2.Environment:
    """What fills in the templates; every value is escaped."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("llve_common.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = _data_uri
    made.finalize = _plain
    return made


def scatter(
    title: str,
    points: Mapping[str, tuple[float, float]],
    x: str,
    y: str,
    level: tuple[str, float] | None = None,
) -> str:
    """Named points over a logarithmic horizontal axis, as SVG text.

    Args:
        title: of the plot.
        points: name to (x, y), x above 0.
        x: label of the horizontal axis, with its unit.
        y: that of the vertical one.
        level: a name and a value of y to draw a line at.
    """
    buffer = io.StringIO()
    # A fixed salt makes the same data give the same bytes.
    with rc_context({"svg.hashsalt": "llve", "font.size": 9}):
        figure = Figure(figsize=(4.6, 3), layout="constrained")
        axes = figure.subplots()
        for name, place in points.items():
            axes.plot(*place, "o", markersize=8)
            # The dollar signs in a file's name are no formula.
            axes.annotate(
                printable(name), place, textcoords="offset points", xytext=(7, 5), parse_math=False
            )
        if level is not None:
            axes.axhline(level[1], color="gray", linestyle="--", linewidth=1)
            at = ("axes fraction", "data")
            axes.annotate(level[0], (0.01, level[1]), xycoords=at, va="bottom", color="gray")
        across = [place[0] for place in points.values()]
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.set(xscale="log", xlim=(min(across) / 2, max(across) * 3))
        axes.margins(y=0.25)
        axes.grid(alpha=0.3)
        # Over several decades there is room for the powers of ten alone.
        close = max(across) < 50 * min(across)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if close else (1.0,)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def _plain(value: object) -> object:
    return printable(value, lines=True) if type(value) is str else value


def _data_uri(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
