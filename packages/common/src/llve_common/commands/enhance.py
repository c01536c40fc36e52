"""The command ``enhance``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llve_common.commands.terminal import Device, Weights, console, messages, progress_bar
from llve_common.config import AnyPrecision
from llve_common.errors import ConfigError, MediaError, UserError
from llve_common.machine.memory import lasting_objects
from llve_common.machine.processes import processes
from llve_common.paper.about import About

if TYPE_CHECKING:
    from llve_common.enhance.files import Enhanced
    from llve_common.enhance.jobs import Job, Wishes
    from llve_common.enhance.ready import Ready

Choose = Callable[[Sequence[str], bool], About]
"""The paper for sources as they were typed, which may be a pipe of raw frames."""


def enhance_command(choose: Choose) -> Callable[..., None]:
    """The command, of the paper that is chosen."""

    def enhance(
        sources: Annotated[
            list[str],
            typer.Argument(
                metavar="IN... [OUT]",
                help="Images, videos, or folders of them; - is an image on standard input. The "
                "last is the output where nothing is there yet.",
            ),
        ],
        output: Annotated[
            str | None,
            typer.Option(
                "-o",
                "--output",
                metavar="OUT",
                show_default="<name>-enhanced",
                help="An image, a video (of a folder of frames too), a folder (a video becomes "
                "frames in it), or - for standard output.",
            ),
        ] = None,
        weights: Weights = None,
        device: Device = None,
        precision: Annotated[
            AnyPrecision, typer.Option(help="Number format; auto is the fastest here.")
        ] = "auto",
        strength: Annotated[
            float, typer.Option(min=0, max=1, help="Of the result; 0 gives the input back.")
        ] = 1.0,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Replace results that are there.")
        ] = False,
        skip_existing: Annotated[
            bool, typer.Option("--skip-existing", help="Leave results that are there.")
        ] = False,
        suffix: Annotated[
            str | None,
            typer.Option(help="Ends the results' names.", show_default="-enhanced without -o"),
        ] = None,
        fps: Annotated[
            str | None,
            typer.Option(help="Frames a second of a video of images.", show_default="25"),
        ] = None,
        sound: Annotated[
            Path | None, typer.Option(help="A file whose sound the video gets.")
        ] = None,
        preview: Annotated[
            int | None,
            typer.Option(min=1, metavar="N", help="Of a video, one second in N, for a look."),
        ] = None,
        start: Annotated[
            float | None, typer.Option(min=0, help="Of a video: seconds to leave out.")
        ] = None,
        end: Annotated[
            float | None, typer.Option(min=0, help="Of a video: the second to end at.")
        ] = None,
        keep_going: Annotated[
            bool, typer.Option("--keep-going", help="Pass over a video's damage.")
        ] = False,
        codec: Annotated[
            str, typer.Option(help="Of a video: h264, h265 or ffv1 (lossless).")
        ] = "h264",
        crf: Annotated[
            int | None,
            typer.Option(help="Of a video: 0 (best) to 51.", show_default="18, or 20 of h265"),
        ] = None,
        strip: Annotated[
            bool, typer.Option("--strip", help="Leave out tags, such as date and place.")
        ] = False,
        resume: Annotated[
            bool,
            typer.Option(
                "--resume", help="Write a video in parts; if interrupted, go on with the same line."
            ),
        ] = False,
        raw: Annotated[
            str | None,
            typer.Option(
                metavar="WxH@FPS", help="Standard input, and output, is raw rgb24 frames."
            ),
        ] = None,
    ) -> None:
        """Enhance images, videos, or folders of them."""
        from llve_common.clips.pipes import piped, rate_of, raw_format
        from llve_common.enhance.jobs import Wishes, jobs_to_do, plan_jobs

        given, target = _sources_and_output(sources, output)
        for option, value in (("--start", start), ("--end", end)):
            if value is not None and not math.isfinite(value):
                raise ConfigError("not a time", where=option, got=value)
        wishes = Wishes(
            strength=strength,
            rate=None if fps is None else rate_of(fps, "--fps"),
            sound=sound, preview=preview, start=start, end=end, keep_going=keep_going,
            codec=codec, crf=crf, strip=strip, resume=resume,
            raw=None if raw is None else raw_format(raw),
        )  # fmt: skip
        paper = choose(given, raw is not None)
        with piped(given, target, wishes.raw) as (paths, place):
            jobs = plan_jobs(paper.kind, paths, place, suffix=_ending(suffix), wishes=wishes)
            # Under torchrun each process takes its share; they have nothing to say to one another.
            me = processes()
            mine = jobs[me.rank :: me.count]
            # A batch that goes on does not begin anew what is done.
            skip = skip_existing or (resume and len(jobs) > 1 and not overwrite)
            left = jobs_to_do(mine, place, wishes, overwrite=overwrite, skip_existing=skip)
            ready = _ready(paper, weights, device or "auto", precision)
            result = _enhance(ready, left, wishes)
            _report(result, left, len(mine) - len(left), ready)

    return enhance


def _ready(paper: About, weights: Path | None, device: str, precision: AnyPrecision) -> Ready:
    """The paper's network, without PyTorch where that is not needed."""
    with lasting_objects():
        from llve_common.enhance.ready import ready_without_torch

        found = ready_without_torch(paper, weights, device, precision)
        if found is not None:
            return found
        from llve_common.enhance.frames import ready
        from llve_common.machine.device import choose_device
        from llve_common.weights.network import load_model
    return ready(load_model(paper.paper(), weights, choose_device(device), precision=precision))


def _sources_and_output(words: list[str], output: str | None) -> tuple[list[str], str | None]:
    """The sources, and the output by its option, or as the last word where nothing is there yet.

    Raises:
        ConfigError: it does not show whether the last word is an output.
    """
    if output is not None or len(words) == 1:
        return words, output
    *before, last = words
    if last == "-" or not Path(last).exists():
        return before, last
    if len(words) == 2 or Path(last).is_dir():
        raise ConfigError(
            "this is there already: is it the output, or a second source?",
            where=last,
            mend=f"-o {last} makes it the output; -o FOLDER before it makes it a source",
        )
    return words, None


def _ending(suffix: str | None) -> str | None:
    if suffix is not None and (set(suffix) & set("/\\") or not suffix.isprintable()):
        raise ConfigError("not the end of a name", where="--suffix", got=suffix)
    return suffix


def _enhance(ready: Ready, jobs: Sequence[Job], wishes: Wishes) -> Enhanced:
    from llve_common.enhance.files import enhance_all
    from llve_common.video import named_video

    what = "frames" if len(jobs) == 1 else "files"
    started = time.monotonic()
    with progress_bar("enhancing", f"{what} {{task.fields[note]}}") as advance:

        def watch(done: int, total: int | None) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            advance(done, total, f"{rate:.1f} {what}/s")

        try:
            return enhance_all(ready, jobs, wishes=wishes, watch=watch)
        except KeyboardInterrupt:
            if wishes.resume:
                messages.print("interrupted; the same command goes on, by its --resume")
            elif any(named_video(target) for _, target in jobs):
                messages.print("interrupted; a video begun with --resume could go on from here")
            raise


def _report(result: Enhanced, jobs: Sequence[Job], skipped: int, ready: Ready) -> None:
    if len(jobs) == 1 and result.failures:
        raise UserError(result.failures[0])
    piped = bool(jobs) and jobs[0][1].stem == "-"
    say = messages if piped else console
    say.print(f"weights: {ready.weights}", soft_wrap=True)
    if skipped:
        say.print(f"left as they are, since they were there: {skipped}")
    if jobs:
        target = jobs[0][1]
        where = "standard output" if piped else target if len(jobs) == 1 else target.parent
        frames = f"{result.frames} {'frame' if result.frames == 1 else 'frames'}"
        rate = f"{result.frames / max(result.seconds, 1e-9):.1f} a second"
        took = f"{result.seconds:.1f} s ({rate}, in {ready.precision})"
        say.print(f"enhanced {frames} in {took}: {where}", soft_wrap=True)
    if result.failures:
        raise MediaError(
            f"{len(result.failures)} of {len(jobs)} files could not be enhanced; "
            "the others are written",
            got="".join(f"\n- {failure}" for failure in result.failures),
        )


def recommended_paper(given: Sequence[str], raw: bool) -> About:
    """The installed paper that is recommended for the sources; a line says which, and why."""
    from llve_common.clips.frames import require_there
    from llve_common.clips.pipes import PIPE
    from llve_common.paper.installed import find_papers, load_paper
    from llve_common.paper.recommended import kind_of, recommended

    for each in given:
        if each != PIPE:
            require_there(Path(each))
    name, line = recommended("video" if raw else kind_of([Path(each) for each in given]))
    messages.print(line, highlight=False, soft_wrap=True)
    entry = find_papers([name])[name]
    with suppress(ImportError, AttributeError):  # which load_paper explains
        about: About = import_module(f"{entry.module.rpartition('.')[0]}.config").ABOUT
        if about.has_kernel:
            return about
    return load_paper(entry)
