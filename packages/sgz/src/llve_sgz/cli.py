"""The command ``sgz``. The published scripts' option names work as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import (
    Config,
    Device,
    Overrides,
    Resume,
    paper_app,
    run_test,
    run_training,
    settings_to_test,
)
from llve_common.evaluate.test import Pictures
from llve_common.paper.contract import Clip
from llve_sgz.config import TestSettings
from llve_sgz.data import image_clip
from llve_sgz.paper import PAPER, at_scale

app = paper_app(PAPER)


@app.command()
def train(
    overrides: Overrides = None,
    config: Config = None,
    lowlight_images_path: Annotated[
        Path | None,
        typer.Option(
            "--lowlight_images_path", "--data_path", "--data-path", help="Low-light images."
        ),
    ] = None,
    snapshots_folder: Annotated[
        Path | None,
        typer.Option(
            "--snapshots_folder", "--save", help="Where run folders go.", show_default="EXP"
        ),
    ] = None,
    num_epochs: Annotated[
        int | None, typer.Option("--num_epochs", "--epochs", show_default="100")
    ] = None,
    train_batch_size: Annotated[
        int | None,
        typer.Option("--train_batch_size", "--batch_size", "--batch-size", show_default="6"),
    ] = None,
    num_workers: Annotated[
        int | None, typer.Option("--num_workers", help="Loader processes.", show_default="4")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="1e-4")] = None,
    weight_decay: Annotated[
        float | None, typer.Option("--weight_decay", show_default="1e-4")
    ] = None,
    grad_clip_norm: Annotated[
        float | None, typer.Option("--grad_clip_norm", show_default="0.1")
    ] = None,
    display_iter: Annotated[
        int | None,
        typer.Option("--display_iter", help="Iterations between log lines.", show_default="10"),
    ] = None,
    snapshot_iter: Annotated[
        int | None,
        typer.Option("--snapshot_iter", help="Iterations between weights.", show_default="10"),
    ] = None,
    scale_factor: Annotated[
        int | None, typer.Option("--scale_factor", help="Of training.", show_default="1")
    ] = None,
    conv_type: Annotated[
        str | None, typer.Option("--conv_type", help="dsc or tc.", show_default="dsc")
    ] = None,
    exp_level: Annotated[
        float | None,
        typer.Option("--exp_level", help="Brightness aimed at.", show_default="0.6"),
    ] = None,
    patch_size: Annotated[
        int | None, typer.Option("--patch_size", help="Of the spatial loss.", show_default="4")
    ] = None,
    load_pretrain: Annotated[
        str | None,
        typer.Option(
            "--load_pretrain",
            metavar="True|False",
            help="Start from the weights given.",
            show_default="True where they are given",
        ),
    ] = None,
    pretrain_dir: Annotated[
        Path | None,
        typer.Option("--pretrain_dir", "--model", help="Weights to start from.", show_default=""),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option("--num_of_SegClass", help="Of the segmentation.", show_default="21"),
    ] = None,
    seg: Annotated[
        bool | None,
        typer.Option("--seg/--no-seg", help="Guide by segmentation.", show_default="seg"),
    ] = None,
    seg_weights: Annotated[
        Path | None,
        typer.Option(help="ResNet-50 of ImageNet.", show_default="random initialisation"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights and order.", show_default="0")
    ] = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train on low-light images alone (no ground truth is needed)."""
    options = {
        "data.train": lowlight_images_path,
        "train.epochs": num_epochs,
        "train.batch_size": train_batch_size,
        "train.workers": num_workers,
        "train.lr": lr,
        "train.weight_decay": weight_decay,
        "train.clip_norm": grad_clip_norm,
        "train.snapshot_every": snapshot_iter,
        "train.seed": seed,
        "network.scale_factor": scale_factor,
        "network.conv_type": conv_type,
        "objective.exp_level": exp_level,
        "objective.patch_size": patch_size,
        "load_pretrain": load_pretrain,
        "weights": pretrain_dir,
        "segmentation.use": seg,
        "segmentation.weights": seg_weights,
        "segmentation.classes": num_classes,
        "run.save": snapshots_folder,
        "run.log_every": display_iter,
        "run.device": device,
    }
    run_training(PAPER, "train", config, overrides, options, resume)


@app.command()
def test(
    overrides: Overrides = None,
    config: Config = None,
    input_dir: Annotated[
        Path | None,
        typer.Option(
            "--input_dir", "--data_path", "--data-path", help="Low-light images, with subfolders."
        ),
    ] = None,
    test_dir: Annotated[
        Path | None,
        typer.Option(
            "--test_dir",
            "--save_path",
            "--save-path",
            help="For results.",
            show_default="test_output",
        ),
    ] = None,
    weight_dir: Annotated[
        Path | None,
        typer.Option(
            "--weight_dir", "--model", help="Weights file.", show_default="the bundled one"
        ),
    ] = None,
    target_path: Annotated[
        Path | None,
        typer.Option(
            "--target_path", "--target-path", help="Ground truth of the same names, for scores."
        ),
    ] = None,
    scale_factor: Annotated[
        int | None,
        typer.Option(
            "--scale_factor", help="Images are cropped to its multiples.", show_default="12"
        ),
    ] = None,
    ssim: Annotated[
        str | None, typer.Option(help="skimage7 or gaussian11.", show_default="skimage7")
    ] = None,
    device: Device = None,
) -> None:
    """Enhance a folder as the paper's test does, and score it where ground truth is given."""
    options = {
        "data.low": input_dir,
        "data.high": target_path,
        "weights": weight_dir,
        "scale_factor": scale_factor,
        "save": test_dir,
        "ssim": ssim,
        "device": device,
    }
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options)
    clip = image_clip(settings.data.low, settings.data.high)

    def target(clip: Clip, frame: Path) -> Path:
        return settings.save / frame.relative_to(settings.data.low)

    paper = at_scale(settings.scale_factor)
    run_test(paper, settings, [clip], Pictures(target), fit="crop")
