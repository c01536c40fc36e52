"""The command ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llve_common.commands.terminal import AsClip, Device, Lpips, Raft, console, progress_bar
from llve_common.config import AnyPrecision
from llve_common.errors import ConfigError, UserError
from llve_common.machine.shell import command_line

if TYPE_CHECKING:
    from llve_common.evaluate.contenders import Contender
    from llve_common.report.compared import Command


def compare(
    source: Annotated[
        Path,
        typer.Argument(
            help="An image, a video, a folder of images or videos, or of GT and input (or LQ)."
        ),
    ],
    reference: Annotated[
        Path | None, typer.Option(help="Ground truth under the same names.", show_default=False)
    ] = None,
    papers: Annotated[
        str | None, typer.Option(help="Papers, such as sci,sgz.", show_default="all installed")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Weights of a paper, or published:NAME; each of several gets a row.",
            show_default="the bundled ones",
        ),
    ] = None,
    raft: Raft = None,
    quality: Annotated[
        bool,
        typer.Option(
            "--quality",
            help="Measure GT-mean, NIQE, LOE, DE, EME and the colour error too, and a gamma curve.",
        ),
    ] = False,
    lpips: Lpips = None,
    clip: AsClip = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="A data set's published test, such as lol-v1 (llve protocols); the source is the "
            "set's folder.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.")] = Path(
        "comparison"
    ),
    device: Device = None,
    precision: Annotated[
        AnyPrecision, typer.Option(help="Number format; published scores are of fp32.")
    ] = "fp32",
) -> None:
    """Compare papers on your images or clips: a table and a page of quality, pictures and cost."""
    from llve_common.data.sdsd.layout import is_set, low_and_high
    from llve_common.evaluate.compare import compare as put_side_by_side
    from llve_common.evaluate.contenders import find_clips, find_contenders
    from llve_common.evaluate.protocols import find_set, protocol_clips
    from llve_common.machine.device import choose_device, choose_precision
    from llve_common.paper.installed import find_papers
    from llve_common.report.compared import comparison_tables, dashes, write_comparison
    from llve_common.weights.pretrained import perceptual_distance, warping_flow

    if protocol and (reference or clip):
        raise ConfigError(
            "a protocol brings its own ground truth and clips", where="--protocol",
            got="--reference" if reference else "--clip",
        )  # fmt: skip
    chosen = find_papers([name.strip() for name in papers.split(",")] if papers else None)
    contenders = find_contenders(chosen, _files_by_paper(weights or ()))
    clips = (
        protocol_clips(protocol, source) if protocol else find_clips(source, reference, clips=clip)
    )
    given = {
        "--reference": reference, "--protocol": protocol, "--raft": raft, "--lpips": lpips,
        "--clip": clip, "--quality": quality, "--device": device,
        "--precision": precision if precision != "fp32" else None,
    }  # fmt: skip
    said = {flag: [] if value is True else [str(value)] for flag, value in given.items() if value}
    options = [word for flag, value in said.items() for word in (flag, *value)]
    low = low_and_high(source)[0] if reference is None and is_set(source) else source
    low = find_set(protocol, source).low if protocol else low
    where = choose_device(device or "auto")
    choose_precision(precision, where, pays=True)  # says if there is no such
    flow, distance = warping_flow(raft, where), perceptual_distance(lpips, where)
    with progress_bar("comparing", "frames, {task.fields[note]}") as advance:
        found = put_side_by_side(
            contenders, clips, where, flow=flow, precision=precision, quality=quality,
            distance=distance, watch=advance,
        )  # fmt: skip
    write_comparison(output, found, _commands(source, low, contenders, options, precision, output))
    for table in comparison_tables(found):
        console.print(table.rich())
    for note in dashes(found):
        console.print(note, highlight=False)
    console.print(f"the page is at {output / 'index.html'}", soft_wrap=True)
    if found.failures:
        faults = "".join(f"\n- {failure}" for failure in found.failures)
        raise UserError("not everything could be compared; the rest is", got=faults)


def _files_by_paper(given: Sequence[str]) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not (name and equals and file):
            what = "not weights of a paper"
            raise ConfigError(what, where="--weights", got=each, expected="NAME=FILE")
        files.setdefault(name, []).append(Path(file))
    return files


def _commands(
    source: Path,
    low: Path,
    contenders: Sequence[Contender],
    options: Sequence[str],
    precision: str,
    output: Path,
) -> Command:
    """What makes the whole again, and each row, whose pictures are of what lies at ``low``."""
    from llve_common.report.compared import Command

    start = ["python", "-m", "llve_common", "compare", str(source), *options]
    names = ",".join(dict.fromkeys(each.entry.name for each in contenders))
    given = [f"{each.entry.name}={each.weights}" for each in contenders if each.weights]
    said = [word for each in given for word in ("--weights", each)]
    whole = [*start, "--papers", names, *said, "-o", str(output)]
    rows = {}
    for each in contenders:
        paper, folder, file = each.entry.name, output / each.name, each.weights
        own = ["--weights", f"{paper}={file}"] if file else []
        alone = [*start, "--papers", paper, *own, "-o", str(folder)]
        weights = ["--weights", str(file)] if file else []
        pictures = ["--precision", precision, "-o", str(folder / "pictures")]
        enhance = [paper, "enhance", str(low), *weights, *pictures]
        rows[each.name] = [command_line(alone), command_line(enhance)]
    return Command(command_line(whole), rows)
