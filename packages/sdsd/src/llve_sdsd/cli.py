"""The command ``sdsd``. The published option files work as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.data import data_app
from llve_common.commands.terminal import (
    ClipsPath,
    Config,
    Device,
    Model,
    OptionFile,
    Overrides,
    Resume,
    SavePath,
    paper_app,
    run_test,
    run_training,
    settings_to_test,
)
from llve_common.evaluate.test import NO_PICTURES, Pictures, files_below
from llve_common.published_options import read_options
from llve_common.weights.files import read_weights
from llve_common.weights.network import bundled_weights
from llve_sdsd.config import TEST_OPTIONS, TRAIN_OPTIONS, TestSettings
from llve_sdsd.data import test_clips
from llve_sdsd.paper import FRAMES, PAPER, at_window
from llve_sdsd.weights import from_published, network_arguments

app = paper_app(PAPER)
app.add_typer(data_app(), name="data")


@app.command()
def train(
    overrides: Overrides = None,
    opt: OptionFile = None,
    config: Config = None,
    data_path: ClipsPath = None,
    save: Annotated[
        Path | None, typer.Option(help="Where run folders go.", show_default="experiments")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the run's folder.", show_default="with the time")
    ] = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train on pairs of clips in low and in normal light."""
    options = {
        "data.root": data_path,
        "run.save": save,
        "run.name": name,
        "run.device": device,
    }
    run_training(
        PAPER,
        "train",
        config,
        overrides,
        options,
        resume,
        published=None if opt is None else read_options(opt, TRAIN_OPTIONS),
        fitting=lambda chosen: at_window(chosen.network.frames, chosen.data.border),
    )


@app.command()
def test(
    overrides: Overrides = None,
    opt: OptionFile = None,
    config: Config = None,
    data_path: ClipsPath = None,
    model: Model = None,
    save_path: SavePath = None,
    save_images: Annotated[
        bool | None,
        typer.Option("--save-images", help="Write enhanced and input frames too."),
    ] = None,
    device: Device = None,
) -> None:
    """Score the test's clips: the first 30 frames of each, means of clips, then of all clips."""
    options = {
        "data.root": data_path,
        "weights": model,
        "save": save_path,
        "save_images": save_images,
        "device": device,
    }
    published = None if opt is None else read_options(opt, TEST_OPTIONS)
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options, published)
    state = from_published(read_weights(settings.weights or bundled_weights(PAPER)))
    frames = network_arguments(state).get("nframes", FRAMES)
    clips = test_clips(settings.data, settings.data.first, frames)
    folder = settings.save if settings.name is None else settings.save / settings.name
    images = folder / "images"
    pictures = Pictures(
        enhanced=files_below(images / "output"),
        input=files_below(images / "input"),
    )
    run_test(
        at_window(frames, settings.data.border),
        settings,
        clips,
        pictures if settings.save_images else NO_PICTURES,
        folder=folder,
    )
