"""The settings of SGZ; the defaults are the published code's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.metrics.fidelity import Ssim
from llve_sgz.network import ConvType


class TrainData(Settings):
    """Where the images are, and the size that all of them are brought to."""

    train: Path = Field(
        Path("data/train_data"), description="low-light images, read without subfolders"
    )
    size: int = Field(512, ge=64, description="sides after resizing; the smallest is 64")


class NetworkSettings(Settings):
    """The enhancement network."""

    scale_factor: PositiveInt = Field(1, description="training's; the test has its own")
    conv_type: ConvType = Field("dsc", description="dsc: depthwise separable; tc: traditional")

    @field_validator("conv_type", mode="before")
    @classmethod
    def _refuse_the_undefined(cls, value: Any) -> Any:
        if value == "dc":
            raise ValueError("'dc' is listed by the published code, which never defined it")
        return value


class SegmentationSettings(Settings):
    """The network that guides training."""

    use: bool = True
    weights: Path | None = Field(
        None, description="torchvision's ResNet-50 file, or a whole segmentation network's"
    )
    classes: PositiveInt = 21


class ObjectiveSettings(Settings):
    """The objective."""

    exp_level: float = Field(0.6, gt=0, lt=1, description="the grey level aimed at")
    patch_size: int = Field(4, ge=1, le=16, description="of the spatial loss, in pixels")


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = Field(6, description="of all processes together")
    workers: int = Field(4, ge=0, description="loader processes; 0 loads in the training process")
    lr: PositiveFloat = Field(1e-4, description="the published README's table says 1e-3")
    weight_decay: NonNegativeFloat = Field(
        1e-4, description="the published README's table says 1e-3"
    )
    clip_norm: PositiveFloat | None = Field(0.1, description="largest norm of the gradient")
    snapshot_every: PositiveInt = Field(
        10, description="iterations between two files of weights; at least one in an epoch"
    )


class TrainSettings(Settings):
    """``sgz train``."""

    procedure: Literal["train"] = "train"
    load_pretrain: bool | None = Field(None, description="null: where weights are given")
    weights: Path | None = Field(None, description="to start from; null: new ones")
    data: TrainData = TrainData()
    network: NetworkSettings = NetworkSettings()
    segmentation: SegmentationSettings = SegmentationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings()

    @field_validator("weights")
    @classmethod
    def _need_weights_to_load(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None and info.data.get("load_pretrain"):
            raise ValueError("load_pretrain needs the weights to load (--pretrain_dir)")
        return value


class TestData(Settings):
    """Where the images are."""

    low: Path = Field(Path("data/test_data"), description="low-light images, with subfolders")
    high: Path | None = Field(None, description="ground truth, matched by file name")


class TestSettings(Settings):
    """``sgz test``."""

    procedure: Literal["test"] = "test"
    weights: Path | None = Field(None, description="null: the bundled ones")
    data: TestData = TestData()
    scale_factor: PositiveInt = Field(12, description="images are cropped to its multiples")
    save: Path = Path("test_output")
    ssim: Ssim = "skimage7"
    device: str = RunSettings.model_fields["device"].default
