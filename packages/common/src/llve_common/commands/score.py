"""The command ``score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import console, progress_bar


def score(
    results: Annotated[
        Path, typer.Argument(help="Anybody's results: images, clips in subfolders, or a video.")
    ],
    reference: Annotated[
        Path | None, typer.Option(help="The ground truth, likewise.", show_default=False)
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--input", help="The images as they were, for LOE.", show_default=False),
    ] = None,
    pair: Annotated[
        str,
        typer.Option(help="name, order, or a template of the stems such as '{}_out=gt_{}'."),
    ] = "name",
    clip: Annotated[bool, typer.Option("--clip", help="Images are the frames of a clip.")] = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score a data set's published test, such as lol-v1 (llve protocols); --reference "
            "may be the set's folder.",
            show_default=False,
        ),
    ] = None,
    paper_says: Annotated[
        str | None,
        typer.Option(help="A table's PSNR or SSIM: find how it was computed.", show_default=False),
    ] = None,
    raft: Annotated[
        Path | None,
        typer.Option(help="RAFT's weights for the warping error.", show_default="by DIS"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder for JSON, CSV, Markdown and a page.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Score anybody's results under every protocol that tables use, side by side."""
    from llve_common.evaluate.score import score as measure
    from llve_common.machine.device import choose_device
    from llve_common.report.scored import score_tables, write_scored
    from llve_common.weights.pretrained import warping_flow

    flow = warping_flow(raft, choose_device("auto"))
    with progress_bar("scoring", "frames") as advance:
        found = measure(
            results, reference, inputs=inputs, pair=pair, clip=clip, protocol=protocol,
            flow=flow, watch=advance,
        )  # fmt: skip
    agreeing = found.agreeing(paper_says) if paper_says else []
    for table in score_tables(found):
        console.print(table.rich())
    for line in (*found.by_protocol(), *found.notes, *agreeing):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        write_scored(output, found, agreeing)
        console.print(f"the page is at {output / 'index.html'}", markup=False, soft_wrap=True)
    if found.missing:
        raise typer.Exit(1)
