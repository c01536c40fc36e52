"""The settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.metrics.fidelity import Ssim


class Data(Settings):
    low: Path = Path("low")
    high: Path | None = None


class Training(TrainerSettings):
    iterations: int = 2
    lr: float = 1e-3


class TrainSettings(Settings):
    procedure: Literal["train"] = "train"
    data: Data = Data()
    train: Training = Training()
    run: RunSettings = RunSettings()


class TestSettings(Settings):
    procedure: Literal["test"] = "test"
    weights: Path | None = None
    data: Data = Data()
    save: Path = Path("results")
    ssim: Ssim = "gaussian11"
    device: str = "auto"
