"""The command ``score``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from llve_common.commands.terminal import AsClip, Lpips, Raft, console, progress_bar
from llve_common.errors import ConfigError
from llve_common.io.atomic import write_text


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
        str, typer.Option(help="name, order, or a template of the stems such as '{}_out=gt_{}'.")
    ] = "name",
    clip: AsClip = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score a data set's published test, such as lol-v1 (llve protocols); --reference "
            "may be the set's folder.",
            show_default=False,
        ),
    ] = None,
    fsim: Annotated[
        bool, typer.Option("--fsim", help="Measure FSIM and FSIMc too; needs the extra fsim.")
    ] = False,
    lpips: Lpips = None,
    labels: Annotated[
        Literal["ids", "train-ids"] | None,
        typer.Option(
            help="Score label maps instead, against Cityscapes': mPA and mIoU.", show_default=False
        ),
    ] = None,
    paper_says: Annotated[
        str | None,
        typer.Option(help="A table's PSNR or SSIM: find how it was computed.", show_default=False),
    ] = None,
    raft: Raft = None,
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
    from llve_common.evaluate.meter import require_truth
    from llve_common.evaluate.score import figure_said
    from llve_common.evaluate.score import score as measure
    from llve_common.machine.device import choose_device
    from llve_common.report.scored import score_tables, write_scored
    from llve_common.weights.pretrained import perceptual_distance, warping_flow

    if labels is not None:
        others = {
            "--input": inputs, "--clip": clip, "--protocol": protocol, "--fsim": fsim,
            "--lpips": lpips, "--paper-says": paper_says, "--raft": raft,
        }  # fmt: skip
        if given := [name for name, value in others.items() if value]:
            raise ConfigError("of label maps this is not measured", got=", ".join(given))
        _score_labels(results, reference, pair, output, label_ids=labels == "ids")
        return
    if paper_says is not None:
        figure_said(paper_says)
        require_truth(["--paper-says"], there=reference is not None)
    device = choose_device("auto")
    flow = warping_flow(raft, device)
    distance = perceptual_distance(lpips, device)
    with progress_bar("scoring", "frames") as advance:
        found = measure(
            results, reference, inputs=inputs, pair=pair, clip=clip, protocol=protocol,
            similarity=fsim, distance=distance, flow=flow, watch=advance,
        )  # fmt: skip
    agreeing = [] if paper_says is None else found.agreeing(paper_says)
    for table in score_tables(found):
        console.print(table.rich())
    for line in (*found.by_protocol(), *found.notes, *agreeing):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        write_scored(output, found, agreeing)
        console.print(f"the page is at {output / 'index.html'}", markup=False, soft_wrap=True)
    if found.missing:
        raise typer.Exit(1)


def _score_labels(
    results: Path, reference: Path | None, pair: str, output: Path | None, *, label_ids: bool
) -> None:
    from llve_common.evaluate.labels import score_labels
    from llve_common.report.tables import plain_table

    if reference is None:
        raise ConfigError("label maps are scored against ground truth", mend="give --reference")
    with progress_bar("scoring", "maps") as advance:
        found = score_labels(results, reference, label_ids=label_ids, pair=pair, watch=advance)
    rows = [
        (name, *(f"{each[score]:.4f}" if score in each else "-" for score in ("accuracy", "iou")))
        for name, each in found.classes.items()
    ]
    if found.means:
        rows.append(("mean over classes", *(f"{found.means[key]:.4f}" for key in ("mpa", "miou"))))
        rows.append(("all pixels", f"{found.means['pixel_accuracy']:.4f}", "-"))
    console.print(plain_table(f"{found.count} label maps", ("", "accuracy", "IoU"), rows).rich())
    for line in found.left_out:
        console.print(f"left out: {line}", highlight=False, soft_wrap=True)
    if output is not None:
        write_text(output / "labels.json", json.dumps(vars(found), indent=2) + "\n")
    if found.left_out:
        raise typer.Exit(1)
