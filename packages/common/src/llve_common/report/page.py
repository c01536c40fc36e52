"""A self-contained HTML page: before/after sliders, tables, plots and the commands behind them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import PIL.Image
from matplotlib import rc_context
from matplotlib.figure import Figure

from llve_common.io.atomic import write_text
from llve_common.io.images import Pixels
from llve_common.report.tables import Table


@dataclass(frozen=True)
class Slider:
    """Two pictures of one size, (H, W, 3) uint8 RGB, under a handle that uncovers one of them."""

    before: Pixels
    after: Pixels
    caption: str
    before_label: str = "before"
    after_label: str = "after"


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, words, the commands that made it, and what they made."""

    heading: str
    text: str = ""
    commands: Sequence[str] = ()
    sliders: Sequence[Slider] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[str] = field(default_factory=tuple)


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write one HTML file that needs nothing beside it.

    Args:
        path: the file.
        title: of the page.
        lead: the paragraph under the title.
        sections: in order.

    Raises:
        MediaError: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llve_common.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    page = environment.get_template("page.html.jinja").render(
        title=title, lead=lead, sections=sections
    )
    write_text(path, page)


def curve(
    title: str, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str
) -> str:
    """A line plot as SVG text.

    Args:
        title: of the plot.
        series: name to (x values, y values).
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.
    """
    # A fixed salt makes the same data give the same bytes.
    with rc_context({"svg.hashsalt": "llve", "font.size": 9}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for name, (across, up) in series.items():
            axes.plot(across, up, label=name, linewidth=1.4)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        if len(series) > 1:
            axes.legend()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _data_uri(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
