"""The settings of SCI; the defaults are the published values."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from llve_common import config as common
from llve_common.config import (
    Beta,
    PairSettings,
    PositiveInt,
    RunSettings,
    Settings,
    TrainerSettings,
)
from llve_common.paper.about import About
from llve_common.published_options import PublishedOptions

YCbCr = Literal["published", "per-pixel"]
"""How the smoothness loss reads the colours of its pixels."""


class ValidationSettings(Settings):
    """Pairs to score during training; none where ``low`` is not given."""

    low: Path | None = Field(None, description="folder of low-light images; null: none")
    high: Path | None = Field(None, description="folder of ground truth, matched by file name")
    every: PositiveInt = Field(1, description="epochs between two validations")


class TrainData(Settings):
    """Where the images are."""

    train: Path = Field(Path("data/medium"), description="low-light images, with subfolders")
    preview: Path | None = Field(None, description="images to enhance after every epoch")
    validation: ValidationSettings = ValidationSettings()


class FinetuneData(Settings):
    """Where the images are."""

    train: Path = Field(Path("data/finetune"), description="low-light images, also previewed")


class NetworkSettings(Settings):
    """The cascade."""

    stages: PositiveInt = Field(3, le=100, description="stages of the cascade")


class ObjectiveSettings(Settings):
    """The objective."""

    ycbcr: YCbCr = Field(
        "published", description="per-pixel: correct; published: mixes neighbours of a colour plane"
    )


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    seed: int = Field(2, ge=0, lt=2**32, description="seed of all random numbers")
    epochs: PositiveInt = Field(1000, description="epochs, passes over the folder")
    lr: PositiveFloat = Field(3e-4, description="learning rate")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="Adam's two betas")
    weight_decay: NonNegativeFloat = Field(3e-4, description="weight decay")
    clip_norm: PositiveFloat | None = Field(5.0, description="largest norm of the gradients")


class FinetuneOptimizerSettings(OptimizerSettings):
    """Adam, and the length of the run."""

    epochs: PositiveInt = Field(100, description="epochs, passes over the folder")
    lr: PositiveFloat = Field(5e-4, description="learning rate")
    preview_every: PositiveInt = Field(10, description="iterations between two previews")
    freeze_after: PositiveInt | None = Field(
        10, description="iterations until batch norm freezes, as published; null: never"
    )

    @model_validator(mode="after")
    def _can_be_replayed(self) -> Self:
        if self.graph and self.freeze_after is not None:
            raise ValueError("graph replays one kind of step: it needs freeze_after=null")
        return self


class TrainSettings(Settings):
    """Train the cascade on low-light images alone (no ground truth is needed)."""

    procedure: Literal["train"] = "train"
    data: TrainData = TrainData()
    pairs: PairSettings = PairSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings()


class FinetuneSettings(Settings):
    """Fine-tune the estimator on the images to enhance."""

    procedure: Literal["finetune"] = "finetune"
    weights: Path | None = Field(None, description="weights to start from; default: bundled ones")
    data: FinetuneData = FinetuneData()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: FinetuneOptimizerSettings = FinetuneOptimizerSettings()
    run: RunSettings = RunSettings()


class TestData(Settings):
    """Where the images are."""

    low: Path = Field(Path("data/medium"), description="low-light images, with subfolders")
    high: Path | None = Field(None, description="ground truth, matched by file name")


class TestSettings(common.TestSettings):
    """Enhance a folder as the paper's test does, and score it if ground truth is given."""

    data: TestData = TestData()


TRAIN_OPTIONS = PublishedOptions(
    flags={
        "--data_path": "data.train",
        "--batch_size": "train.batch_size",
        "--epochs": "train.epochs",
        "--lr": "train.lr",
        "--stage": "network.stages",
        "--seed": "train.seed",
    },
    without_effect=("--cuda", "--gpu"),
)
"""The published ``train.py``."""

FINETUNE_OPTIONS = PublishedOptions(
    flags={
        "--data_path": "data.train",
        "--model": "weights",
        "--batch_size": "train.batch_size",
        "--steps": "train.epochs",
        "--epochs": "train.epochs",
        "--lr": "train.lr",
        "--seed": "train.seed",
    },
    without_effect=("--cuda", "--gpu"),
)
"""The published ``finetune.py``, whose steps are passes over the folder."""

TEST_OPTIONS = PublishedOptions(
    flags={"--data_path": "data.low", "--target_path": "data.high"},
    without_effect=("--gpu", "--seed"),
)
"""The published ``test.py``."""

ABOUT = About(
    name="sci",
    title="SCI (Ma et al., CVPR 2022)",
    package="llve_sci",
    kind="image",
    bundled="sci-photographs.safetensors",
    has_kernel=True,
    options={
        TrainSettings: TRAIN_OPTIONS,
        FinetuneSettings: FINETUNE_OPTIONS,
        TestSettings: TEST_OPTIONS,
    },
)
