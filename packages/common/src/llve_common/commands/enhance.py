"""The command ``enhance``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llve_common.commands.terminal import Device, Weights, console, progress_bar
from llve_common.errors import MediaError, UserError
from llve_common.machine.processes import processes
from llve_common.paper.about import About

if TYPE_CHECKING:
    from llve_common.enhance.files import Enhanced, Job
    from llve_common.paper.contract import LoadedWeights


def enhance_command(paper: About) -> Callable[..., None]:
    """The command for a paper."""

    def enhance(
        source: Annotated[
            Path, typer.Argument(help="An image, a video, or a folder of images or videos.")
        ],
        output: Annotated[
            Path | None,
            typer.Option(
                "-o", "--output", help="A file or folder to write.", show_default="<name>-enhanced"
            ),
        ] = None,
        weights: Weights = None,
        device: Device = None,
    ) -> None:
        """Enhance an image, a video, or a folder of them."""
        from llve_common.enhance.files import enhance_all, naming_faults, plan_jobs
        from llve_common.machine.device import choose_device
        from llve_common.weights.network import load_model

        me = processes()
        jobs = plan_jobs(paper, source, output)
        naming_faults(jobs)
        model = load_model(paper.paper(), weights, choose_device(device or "auto"))
        # Under torchrun each process takes its share; they have nothing to say to one another.
        mine = jobs[me.rank :: me.count]
        what = "frames" if len(mine) == 1 else "files"
        started = time.monotonic()
        with progress_bar("enhancing", f"{what} {{task.fields[note]}}") as advance:

            def watch(done: int, total: int | None) -> None:
                rate = done / max(time.monotonic() - started, 1e-9)
                advance(done, total, f"{rate:.1f} {what}/s")

            result = enhance_all(model, mine, watch=watch)
        _report(result, mine, model.weights)

    return enhance


def _report(result: Enhanced, jobs: Sequence[Job], weights: LoadedWeights | None) -> None:
    if len(jobs) == 1 and result.failures:
        raise UserError(result.failures[0])
    console.print(f"weights: {weights}", soft_wrap=True)
    if jobs:
        target = jobs[0][1]
        where = target if len(jobs) == 1 else target.parent
        frames = f"{result.frames} {'frame' if result.frames == 1 else 'frames'}"
        rate = f"{result.frames / max(result.seconds, 1e-9):.1f} a second"
        took = f"{result.seconds:.1f} s ({rate})"
        console.print(f"enhanced {frames} in {took}: {where}", soft_wrap=True)
    if result.failures:
        raise MediaError(
            f"{len(result.failures)} of {len(jobs)} files could not be enhanced; "
            "the others are written",
            got="".join(f"\n- {failure}" for failure in result.failures),
        )
