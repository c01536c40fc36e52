"""The command ``tcenet``. The published script's options work as they stand.

The published script is one command, told what to do by ``--mode train`` or ``--mode test``; that
works here as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import rich.progress
import typer
from rich.console import Console

from llve_common.commands.terminal import (
    Commands,
    Config,
    Device,
    Overrides,
    Resume,
    console,
    paper_app,
    run_test,
    run_training,
    settings_to_test,
)
from llve_common.enhance.frames import plan_jobs
from llve_common.evaluate.test import Pictures, files_below
from llve_common.machine.device import choose_device
from llve_common.paper.contract import Clip
from llve_common.weights.network import load_network
from llve_common.weights.pretrained import warping_flow
from llve_tcenet.config import TestSettings
from llve_tcenet.data import video_clips
from llve_tcenet.objective import FlowEstimator
from llve_tcenet.paper import PAPER, build_flow
from llve_tcenet.pictures import write_pictures
from llve_tcenet.simulate import clip_names, simulate_clip, write_list


class PublishedCommands(Commands):
    """Reads ``--mode train ...`` as ``train ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the mode in the place of the command."""
        if "--mode" in args[:-1]:
            place = args.index("--mode")
            args = [args[place + 1], *args[:place], *args[place + 2 :]]
        return super().parse_args(ctx, args)


app = paper_app(PAPER)
app.info.cls = PublishedCommands

Folder = Path | None


@app.command()
def train(
    overrides: Overrides = None,
    config: Config = None,
    version: Annotated[
        str | None, typer.Option(help="Begins the weights' names.", show_default="Enhance-Video")
    ] = None,
    real_low: Annotated[
        Folder,
        typer.Option("--SDSD_dir", "--DRV_dir", "--data_path", help="Real videos in low light."),
    ] = None,
    real_normal: Annotated[
        Folder,
        typer.Option("--SDSD_ref_dir", "--DRV_ref_dir", "--target_path", help="Ground truth."),
    ] = None,
    real_list: Annotated[
        Folder,
        typer.Option("--SDSD_list_dir", "--DRV_list_dir", help="Where train_list.txt is."),
    ] = None,
    syn_low: Annotated[Folder, typer.Option("--syn_dir", help="Synthetic ones.")] = None,
    syn_normal: Annotated[Folder, typer.Option("--syn_ref_dir", help="Ground truth.")] = None,
    syn_list: Annotated[
        Folder, typer.Option("--syn_list_dir", help="Where train_list.txt is.")
    ] = None,
    raft_model_path: Annotated[
        Folder, typer.Option("--raft_model_path", help="RAFT's weights.")
    ] = None,
    vgg: Annotated[Folder, typer.Option("--vgg", help="VGG-19's weights.")] = None,
    flow: Annotated[str | None, typer.Option(help="raft or dis.", show_default="raft")] = None,
    perceptual: Annotated[
        bool | None,
        typer.Option("--perceptual/--no-perceptual", help="VGG-19.", show_default="perceptual"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--total_epochs", "--epochs", show_default="300")
    ] = None,
    repeat_times: Annotated[
        int | None,
        typer.Option("--repeat_times", help="Draws of a video per epoch.", show_default="10"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--train_batch_size", "--batch_size", "--batch-size", show_default="4"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Loader processes.", show_default="8")
    ] = None,
    crop_size: Annotated[int | None, typer.Option("--crop_size", show_default="256")] = None,
    lr: Annotated[
        float | None, typer.Option("--lr_init", "--lr", help="Rate.", show_default="1e-4")
    ] = None,
    seed: Annotated[int | None, typer.Option(show_default="19960101")] = None,
    use_tensorboard: Annotated[
        str | None,
        typer.Option("--use_tensorboard", metavar="true|false", show_default="true"),
    ] = None,
    model: Annotated[
        Folder, typer.Option("--model", help="Weights to start from.", show_default="none")
    ] = None,
    save: Annotated[
        Folder,
        typer.Option(
            "--save_root_dir", "--save", help="Where run folders go.", show_default="results"
        ),
    ] = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train on real pairs and synthetic clips together (STCL)."""
    options = {
        "version": version,
        "weights": model,
        "data.real.low": real_low,
        "data.real.normal": real_normal,
        "data.real.list": _train_list(real_list),
        "data.synthetic.low": syn_low,
        "data.synthetic.normal": syn_normal,
        "data.synthetic.list": _train_list(syn_list),
        "objective.raft.weights": raft_model_path,
        "objective.vgg": vgg,
        "objective.flow": flow,
        "objective.perceptual": perceptual,
        "train.epochs": epochs,
        "train.repeat": repeat_times,
        "train.batch_size": batch_size,
        "train.workers": threads,
        "train.crop": crop_size,
        "train.lr": lr,
        "train.seed": seed,
        "run.tensorboard": use_tensorboard,
        "run.save": save,
        "run.device": device,
    }
    run_training(PAPER, "train", config, overrides, options, resume)


@app.command()
def test(
    overrides: Overrides = None,
    config: Config = None,
    low: Annotated[
        Folder,
        typer.Option(
            "--SDSD_dir", "--DRV_dir", "--syn_dir", "--data_path", help="Videos in low light."
        ),
    ] = None,
    normal: Annotated[
        Folder,
        typer.Option(
            "--SDSD_ref_dir",
            "--DRV_ref_dir",
            "--syn_ref_dir",
            "--target_path",
            help="Ground truth of the same names, for scores.",
        ),
    ] = None,
    lists: Annotated[
        Folder,
        typer.Option(
            "--SDSD_list_dir", "--DRV_list_dir", "--syn_list_dir", help="Where test_list.txt is."
        ),
    ] = None,
    model: Annotated[Folder, typer.Option("--model", help="Weights file.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Of the weights, with --pretrained_model.")
    ] = None,
    pretrained_model: Annotated[
        int | None, typer.Option("--pretrained_model", help="Epoch of the weights.")
    ] = None,
    model_save_path: Annotated[
        Path, typer.Option("--model_save_path", help="Where weights of that name are.")
    ] = Path("results/models"),
    save_path: Annotated[
        Folder,
        typer.Option("--save_path", help="For results.", show_default="results/test"),
    ] = None,
    pad: Annotated[
        bool | None,
        typer.Option("--pad/--no-pad", help="The clips' ends too.", show_default="no-pad"),
    ] = None,
    ssim: Annotated[
        str | None, typer.Option(help="skimage7 or gaussian11.", show_default="skimage7")
    ] = None,
    fsim: Annotated[
        bool | None,
        typer.Option("--fsim/--no-fsim", help="Score by FSIM too.", show_default="no-fsim"),
    ] = None,
    pictures: Annotated[
        bool | None,
        typer.Option(
            "--pictures/--no-pictures",
            help="Save flow, warped frames and masks too.",
            show_default="no-pictures",
        ),
    ] = None,
    flow: Annotated[
        str | None, typer.Option(help="Of the pictures: raft or dis.", show_default="raft")
    ] = None,
    raft_model_path: Annotated[
        Folder, typer.Option("--raft_model_path", help="RAFT's weights, for the pictures.")
    ] = None,
    raft: Annotated[
        Folder,
        typer.Option(help="RAFT's weights: warping error by RAFT.", show_default="by DIS"),
    ] = None,
    device: Device = None,
) -> None:
    """Enhance videos as the paper's test does, and score them where ground truth is given."""
    if model is None and pretrained_model is not None:
        name = f"{version or 'Enhance-Video'}_epoch_{pretrained_model}.pth"
        model = model_save_path / name
    options = {
        "data.low": low,
        "data.normal": normal,
        "data.list": None if lists is None else lists / "test_list.txt",
        "weights": model,
        "save": save_path,
        "pad": pad,
        "ssim": ssim,
        "fsim": fsim,
        "pictures": pictures,
        "flow": flow,
        "raft.weights": raft_model_path,
        "metric_raft": raft,
        "device": device,
    }
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options)
    clips = video_clips(settings.data.low, settings.data.normal, settings.data.list)
    # Before the work begins: without its weights it cannot.
    error_flow = warping_flow(settings.metric_raft, choose_device(settings.device))
    estimate = _flow_of_pictures(settings) if settings.pictures else None
    run_test(
        PAPER,
        settings,
        clips,
        Pictures(files_below(settings.save / "frames")),
        inner=not settings.pad,
        temporal=error_flow,
        with_fsim=settings.fsim,
    )
    if estimate is not None:
        _draw_pictures(settings, clips, estimate)


@app.command()
def simulate(
    source: Annotated[Path, typer.Argument(help="A video, or a folder of videos or frames.")],
    out: Annotated[Path, typer.Argument(help="The set's folder; one begun is gone on with.")],
    seed: Annotated[int, typer.Option(min=0, help="Of parameters and noise.")] = 0,
) -> None:
    """Make a paired set in DS-LOL's layout by simulated low light; the ranges are llve's own."""
    sources = [source for source, _ in plan_jobs(PAPER, source, out)]
    terminal = Console(stderr=True)
    counts = {}
    for name, path in rich.progress.track(
        clip_names(sources, source).items(),
        "simulating",
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    ):
        counts[name] = simulate_clip(path, name, out, seed)
    write_list(out, counts)
    console.print(f"{len(counts)} clips, {sum(counts.values())} frames: {out}", soft_wrap=True)


def _flow_of_pictures(settings: TestSettings) -> FlowEstimator:
    return build_flow(settings.flow, settings.raft, choose_device(settings.device))


def _draw_pictures(settings: TestSettings, clips: list[Clip], flow: FlowEstimator) -> None:
    device = choose_device(settings.device)
    network, _ = load_network(PAPER, settings.weights, device)
    count = sum(
        write_pictures(network, flow, clip, PAPER.window, settings.save, device) for clip in clips
    )
    name = "DIS" if settings.flow == "dis" else f"RAFT, {settings.raft.weights}"
    console.print(f"flow, warped frame and mask of {count} windows, by {name}", soft_wrap=True)


def _train_list(folder: Path | None) -> Path | None:
    return None if folder is None else folder / "train_list.txt"
