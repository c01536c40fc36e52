"""The command ``five``."""

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
from llve_five.config import TestSettings
from llve_five.data import clip_of
from llve_five.paper import PAPER

app = paper_app(PAPER)
DataPath = Annotated[Path | None, typer.Option("--data_path")]


@app.command()
def train(
    overrides: Overrides = None,
    config: Config = None,
    data_path: DataPath = None,
    save: Path | None = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train."""
    options = {"data.low": data_path, "run.save": save, "run.device": device}
    run_training(PAPER, "train", config, overrides, options, resume)


@app.command()
def test(
    overrides: Overrides = None,
    config: Config = None,
    data_path: DataPath = None,
    save_path: Annotated[Path | None, typer.Option("--save_path")] = None,
    model: Path | None = None,
) -> None:
    """Test."""
    options = {"data.low": data_path, "save": save_path, "weights": model}
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options)
    clip = clip_of(settings.data.low, settings.data.high)
    pictures = Pictures(lambda _, frame: settings.save / frame.name)
    run_test(PAPER, settings, [clip], pictures)
