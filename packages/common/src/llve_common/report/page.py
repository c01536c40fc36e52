"""A self-contained HTML page: pictures under a handle, tables, plots, and what made them."""

import base64
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from llve_common.errors import printable
from llve_common.io.atomic import write_text
from llve_common.io.images import Pixels, to_webp
from llve_common.report.tables import Table

HANDLE = (
    "Drag the handle; the lists choose what is on its two sides, and a click on a small picture "
    "what is on the right."
)
"""How pictures are looked at, for the text of a section."""


@dataclass(frozen=True)
class Panel:
    """A picture, or the frames of a clip, and what there is to say of them.

    Attributes:
        label: what it is.
        frames: (H, W, 3) uint8 RGB each, or WebP.
        caption: stands under all of them.
        said: what stands under each.
    """

    label: str
    frames: Sequence[Pixels | bytes]
    caption: str = ""
    said: Sequence[str] = ()


@dataclass(frozen=True)
class Group:
    """Pictures of one thing and one size, any two of them under one handle, at first the first two.

    The frames are the names of a clip's.
    """

    caption: str
    panels: Sequence[Panel]
    frames: Sequence[str] = ("",)


@dataclass(frozen=True)
class Strips:
    """Pictures (T, W, 3) of one row of pixels over time, one below the other, a frame each."""

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
    values = {"title": title, "lead": lead, "sections": sections}
    write_text(path, render("page", "img-src data:", **values))


def render(name: str, allowed: str, **values: object) -> str:
    """A page of the template, the style and the script of that name; every value is escaped.

    Its content security policy forbids every request but those that are allowed.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llve_common.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "values": _values}
    environment.finalize = _plain
    script = template_text(f"{name}.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template(f"{name}.html.jinja").render(
        values,
        style=template_text("base.css") + template_text(f"{name}.css"),
        script=script,
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}; "
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    )


def template_text(name: str) -> str:
    """A file of the templates as it stands."""
    return (files("llve_common.report") / "templates" / name).read_text(encoding="utf-8")


def scatter(
    title: str,
    points: Mapping[str, tuple[float, float]],
    x: str,
    y: str,
    level: tuple[str, float] | None = None,
) -> str:
    """Named points (x, y), x above 0, over a logarithmic horizontal axis, as SVG text.

    ``x`` and ``y`` are the axes' labels, and ``level`` a name and a value of y to draw a line at.
    """
    with _drawing() as (axes, drawn):
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
    return drawn()


def curves(title: str, lines: Mapping[str, Sequence[float]], x: str, y: str) -> str:
    """Named sequences over their places, from 1, as SVG text; the axes' labels are x and y."""
    with _drawing() as (axes, drawn):
        for name, values in lines.items():
            axes.plot(range(1, len(values) + 1), values, linewidth=1, label=printable(name))
        axes.set(xlabel=x, ylabel=y)
        axes.set_title(printable(title), parse_math=False)
        axes.set_ylim(bottom=0)
        axes.legend()
        axes.grid(alpha=0.3)
    return drawn()


@contextmanager
def _drawing() -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Axes to draw in, and what gives the drawing as SVG text afterwards."""
    buffer = io.StringIO()
    # A fixed salt makes the same data give the same bytes.
    with rc_context({"svg.hashsalt": "llve", "font.size": 9}):
        figure = Figure(figsize=(4.6, 3), layout="constrained")
        yield figure.subplots(), lambda: buffer.getvalue()[buffer.getvalue().index("<svg") :]
        figure.savefig(buffer, format="svg", metadata={"Date": None})


def _plain(value: object) -> object:
    return printable(value, lines=True) if type(value) is str else value


def _values(group: Group) -> dict[str, object]:
    panels = [
        {
            "label": printable(panel.label),
            "said": [printable(each, lines=True) for each in panel.said],
            "pictures": [_data_uri(each) for each in panel.frames],
        }
        for panel in group.panels
    ]
    return {"frames": [printable(name) for name in group.frames], "panels": panels}


def _data_uri(picture: Pixels | bytes) -> str:
    encoded = picture if isinstance(picture, bytes) else to_webp(picture)
    return "data:image/webp;base64," + base64.b64encode(encoded).decode("ascii")
