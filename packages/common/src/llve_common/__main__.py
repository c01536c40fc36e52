"""``python -m llve_common``: what belongs to no single paper."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from llve_common.commands.doctor import Check, examine
from llve_common.commands.terminal import Commands, Device, console, progress_bar
from llve_common.data.synthetic import (
    write_clip_set,
    write_dark_photograph,
    write_image_set,
)
from llve_common.errors import ConfigError, UserError
from llve_common.evaluate.compare import Comparison, Contender, find_contenders, find_items
from llve_common.evaluate.compare import compare as put_side_by_side
from llve_common.machine.device import choose_device
from llve_common.paper.installed import find_papers
from llve_common.report.compared import (
    Command,
    comparison_tables,
    dashes,
    write_comparison,
)
from llve_common.weights.pretrained import warping_flow

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Tools that all papers share.")


@app.command()
def synthetic(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips from each photograph.")] = 2,
    frames: Annotated[int, typer.Option(min=1, help="Frames in a clip.")] = 6,
    height: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 96,
    width: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Every pixel follows from it.")] = 0,
    layout: Annotated[
        Literal["images", "clips"],
        typer.Option(help="clips: GT and input, a folder of .npy frames for each clip (SDSD's)."),
    ] = "images",
) -> None:
    """Make the embedded low/normal-light set from the photographs that scikit-image ships."""
    write = write_image_set if layout == "images" else write_clip_set
    write(folder, clips=clips, frames=frames, height=height, width=width, seed=seed)
    inside = "train and test, each with low and high" if layout == "images" else "GT and input"
    console.print(f"made {folder}: {inside}")


@app.command()
def photograph(
    folder: Annotated[Path, typer.Argument(help="Where the two files go.")],
    name: Annotated[str, typer.Option(help="A colour image of skimage.data.")] = "astronaut",
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
) -> None:
    """Write a photograph that scikit-image ships, as it is and darkened by simulation."""
    normal, dark = write_dark_photograph(folder, name, seed)
    console.print(f"made {normal} and {dark}", soft_wrap=True)


@app.command()
def compare(
    source: Annotated[
        Path, typer.Argument(help="An image, a video, or a folder of images or videos.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="The same in normal light, under the same names.", show_default=False),
    ] = None,
    papers: Annotated[
        str | None, typer.Option(help="Such as sci,sgz.", show_default="all that are installed")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A paper's weights; several of one paper are a row each.",
            show_default="the bundled ones",
        ),
    ] = None,
    raft: Annotated[
        Path | None,
        typer.Option(help="RAFT's weights: warping error by RAFT.", show_default="by DIS"),
    ] = None,
    clip: Annotated[bool, typer.Option("--clip", help="A folder's images are a clip.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder.")] = Path("comparison"),
    device: Device = None,
) -> None:
    """Compare papers on your images or clips: a table and a page of quality, pictures and cost."""
    chosen = find_papers([name.strip() for name in papers.split(",")] if papers else None)
    contenders = find_contenders(chosen, _files_by_paper(weights or ()))
    items = find_items(source, reference, clips=clip)
    options = ["--reference", str(reference)] if reference else []
    options += ["--raft", str(raft)] if raft else []
    options += [*(["--clip"] if clip else []), *(["--device", device] if device else [])]
    command = _commands(source, contenders, options, output)
    where = choose_device(device or "auto")
    flow = warping_flow(raft, where)
    with progress_bar("comparing", "frames, {task.fields[note]}") as advance:
        found = put_side_by_side(contenders, items, where, flow=flow, watch=advance)
    write_comparison(output, found, command)
    _report_comparison(found, output)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what is installed, what works, and what to do about the rest; 1 if anything is broken."""
    checks = examine()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            _show(check)
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


_COLOURS = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def _show(check: Check) -> None:
    line = Text.assemble((f"{check.state:8}", _COLOURS[check.state]), f"{check.subject}: ")
    console.print(line.append(check.found), soft_wrap=True)
    if check.state != "ok" and check.mend:
        console.print(f"{'':8}-> {check.mend}", highlight=False, markup=False, soft_wrap=True)


def _files_by_paper(given: Sequence[str]) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not (name and equals and file):
            raise ConfigError(
                "not weights of a paper", where="--weights", got=each, expected="NAME=FILE"
            )
        files.setdefault(name, []).append(Path(file))
    return files


def _commands(
    source: Path, contenders: Sequence[Contender], options: Sequence[str], output: Path
) -> Command:
    """What makes the whole again, and each row."""
    start = ["python", "-m", "llve_common", "compare", str(source), *options]
    names = ",".join(dict.fromkeys(each.entry.name for each in contenders))
    given = [f"{each.entry.name}={each.weights}" for each in contenders if each.weights]
    whole = [*start, "--papers", names, *_repeated("--weights", given), "-o", str(output)]
    rows = {}
    for each in contenders:
        paper, folder = each.entry.name, str(output / each.name)
        own = [f"{paper}={each.weights}"] if each.weights else []
        alone = [*start, "--papers", paper, *_repeated("--weights", own), "-o", folder]
        file = ["--weights", str(each.weights)] if each.weights else []
        enhance = [paper, "enhance", str(source), *file, "-o", str(output / each.name / "pictures")]
        rows[each.name] = [shlex.join(alone), shlex.join(enhance)]
    return Command(shlex.join(whole), rows)


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _report_comparison(found: Comparison, folder: Path) -> None:
    for table in comparison_tables(found):
        console.print(table.rich())
    for note in dashes(found):
        console.print(note, highlight=False, markup=False)
    console.print(f"the page is at {folder / 'index.html'}", soft_wrap=True)
    if found.failures:
        raise UserError(
            "not everything could be compared; the rest is",
            got="".join(f"\n- {failure}" for failure in found.failures),
        )


if __name__ == "__main__":
    app(prog_name="python -m llve_common")
