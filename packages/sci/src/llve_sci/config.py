"""The settings of SCI; the defaults are the published values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.metrics.fidelity import Ssim
from llve_sci.objective import YCbCr


class ValidationSettings(Settings):
    """Pairs to score during training; none where ``low`` is not given."""

    low: Path | None = None
    high: Path | None = None
    every: PositiveInt = Field(1, description="epochs")


class TrainData(Settings):
    """Where the images are."""

    train: Path = Field(Path("data/medium"), description="low-light images, read with subfolders")
    preview: Path | None = Field(None, description="images to enhance after every epoch")
    validation: ValidationSettings = ValidationSettings()


class FinetuneData(Settings):
    """Where the images are."""

    train: Path = Field(Path("data/finetune"), description="low-light images, also the previews")


class NetworkSettings(Settings):
    """The cascade."""

    stages: PositiveInt = 3


class ObjectiveSettings(Settings):
    """The objective."""

    ycbcr: YCbCr = "published"


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    seed: int = Field(2, ge=0, lt=2**32)
    epochs: PositiveInt = 1000
    lr: PositiveFloat = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 3e-4
    clip_norm: PositiveFloat | None = 5.0


class FinetuneOptimizerSettings(OptimizerSettings):
    """Adam, and the length of the run."""

    epochs: PositiveInt = Field(100, description="passes over the folder")
    lr: PositiveFloat = 5e-4
    preview_every: PositiveInt = Field(10, description="iterations")
    freeze_after: PositiveInt | None = Field(
        10, description="iterations after which batch norm stands still, as published; null: never"
    )


class TrainSettings(Settings):
    """``sci train``."""

    procedure: Literal["train"] = "train"
    data: TrainData = TrainData()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings()


class FinetuneSettings(Settings):
    """``sci finetune``."""

    procedure: Literal["finetune"] = "finetune"
    weights: Path | None = Field(None, description="to start from; null: the bundled ones")
    data: FinetuneData = FinetuneData()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: FinetuneOptimizerSettings = FinetuneOptimizerSettings()
    run: RunSettings = RunSettings()


class TestData(Settings):
    """Where the images are."""

    low: Path = Field(Path("data/medium"), description="low-light images, read with subfolders")
    high: Path | None = Field(None, description="ground truth, matched by file name")


class TestSettings(Settings):
    """``sci test``."""

    procedure: Literal["test"] = "test"
    weights: Path | None = Field(None, description="null: the bundled ones")
    data: TestData = TestData()
    save: Path = Path("results")
    ssim: Ssim = "skimage7"
    device: str = RunSettings.model_fields["device"].default
