"""The command ``sci``. The published scripts' option names work as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import (
    Config,
    Device,
    Model,
    Overrides,
    Resume,
    SavePath,
    paper_app,
    run_test,
    run_training,
    settings_to_test,
)
from llve_common.evaluate.test import Pictures
from llve_common.paper.contract import Clip
from llve_sci.config import TestSettings
from llve_sci.data import image_clip
from llve_sci.paper import PAPER

app = paper_app(PAPER)

DataPath = Annotated[
    Path | None,
    typer.Option("--data_path", "--data-path", help="Folder of low-light images, with subfolders."),
]
Save = Annotated[Path | None, typer.Option(help="Where run folders go.", show_default="EXP")]
Seed = Annotated[int | None, typer.Option(help="Of weights and order.", show_default="2")]
BatchSize = Annotated[
    int | None, typer.Option("--batch_size", "--batch-size", help="Images.", show_default="1")
]


@app.command()
def train(
    overrides: Overrides = None,
    config: Config = None,
    data_path: DataPath = None,
    batch_size: BatchSize = None,
    epochs: Annotated[int | None, typer.Option(show_default="1000")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="3e-4")] = None,
    stage: Annotated[int | None, typer.Option(help="Stages.", show_default="3")] = None,
    seed: Seed = None,
    save: Save = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train the cascade on low-light images alone (no ground truth is needed)."""
    options = {
        "data.train": data_path,
        "train.batch_size": batch_size,
        "train.epochs": epochs,
        "train.lr": lr,
        "train.seed": seed,
        "network.stages": stage,
        "run.save": save,
        "run.device": device,
    }
    run_training(PAPER, "train", config, overrides, options, resume)


@app.command()
def finetune(
    overrides: Overrides = None,
    config: Config = None,
    data_path: DataPath = None,
    model: Model = None,
    batch_size: BatchSize = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the folder.", show_default="100")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default="5e-4")] = None,
    seed: Seed = None,
    save: Save = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Fine-tune the estimator on the images that are to be enhanced."""
    options = {
        "data.train": data_path,
        "weights": model,
        "train.batch_size": batch_size,
        "train.epochs": epochs,
        "train.lr": lr,
        "train.seed": seed,
        "run.save": save,
        "run.device": device,
    }
    run_training(PAPER, "finetune", config, overrides, options, resume)


@app.command()
def test(
    overrides: Overrides = None,
    config: Config = None,
    data_path: DataPath = None,
    save_path: SavePath = None,
    model: Model = None,
    target_path: Annotated[
        Path | None,
        typer.Option(
            "--target_path", "--target-path", help="Ground truth of the same names, for scores."
        ),
    ] = None,
    ssim: Annotated[
        str | None, typer.Option(help="skimage7 or gaussian11.", show_default="skimage7")
    ] = None,
    device: Device = None,
) -> None:
    """Enhance a folder as the paper's test does, and score it where ground truth is given."""
    options = {
        "data.low": data_path,
        "data.high": target_path,
        "weights": model,
        "save": save_path,
        "ssim": ssim,
        "device": device,
    }
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options)
    clip = image_clip(settings.data.low, settings.data.high)

    def target(clip: Clip, frame: Path) -> Path:
        return settings.save / frame.relative_to(settings.data.low).with_suffix(".png")

    run_test(PAPER, settings, [clip], Pictures(target))
