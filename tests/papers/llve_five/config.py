"""The settings, and the names that they have on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llve_common import config as common
from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.metrics.fidelity import Ssim
from llve_common.published_options import PublishedOptions


class Data(Settings):
    low: Path = Path("low")
    high: Path | None = None


class Training(TrainerSettings):
    iterations: int = 2
    lr: float = 1e-3


class TrainSettings(Settings):
    """Train."""

    procedure: Literal["train"] = "train"
    data: Data = Data()
    train: Training = Training()
    run: RunSettings = RunSettings()


class TestSettings(common.TestSettings):
    """Test."""

    data: Data = Data()
    ssim: Ssim = "gaussian11"


OPTIONS = PublishedOptions(flags={"--data_path": "data.low"})
