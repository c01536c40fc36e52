"""The settings of SGZ; the defaults are the published code's values."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, ValidationInfo, field_validator

from llve_common import config as common
from llve_common.config import (
    PairSettings,
    PositiveInt,
    RunSettings,
    Settings,
    TrainerSettings,
    Workers,
)
from llve_common.paper.about import About
from llve_common.published_options import PublishedOptions

ConvType = Literal["dsc", "tc"]
"""Depthwise-separable or traditional convolutions."""

TEST_SCALE = 12
"""The scale factor of the published test, and of enhancing."""


class TrainData(Settings):
    """Where the images are, and the size that all of them are brought to."""

    train: Path = Field(Path("data/train_data"), description="low-light images, without subfolders")
    size: int = Field(
        512, ge=64, le=8192, description="side that images are resized to, at least 64"
    )


class NetworkSettings(Settings):
    """The enhancement network."""

    scale_factor: PositiveInt = Field(
        1, le=512, description="scale factor of training, not of the test"
    )
    conv_type: ConvType = Field(
        "dsc", description="dsc: depthwise separable convolutions; tc: plain"
    )

    @field_validator("conv_type", mode="before")
    @classmethod
    def _refuse_the_undefined(cls, value: Any) -> Any:
        if value == "dc":
            raise ValueError("'dc' is listed by the published code, which never defined it")
        return value


class SegmentationSettings(Settings):
    """The network that guides training."""

    use: bool = Field(True, description="train with the segmentation loss")
    weights: Path | None = Field(
        None, description="weights of torchvision's ResNet-50, or of a segmentation network"
    )
    classes: PositiveInt = Field(21, le=10_000, description="classes of the segmentation network")


class ObjectiveSettings(Settings):
    """The objective."""

    exp_level: float = Field(0.6, gt=0, lt=1, description="grey level of the exposure loss")
    patch_size: int = Field(4, ge=1, le=16, description="patch size of the spatial loss")


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    epochs: PositiveInt = Field(100, description="epochs, passes over the folder")
    batch_size: PositiveInt = Field(6, description="images in a batch, over all processes")
    workers: Workers = 4
    lr: PositiveFloat = Field(1e-4, description="learning rate; the published README says 1e-3")
    weight_decay: NonNegativeFloat = Field(
        1e-4, description="weight decay; the published README says 1e-3"
    )
    clip_norm: PositiveFloat | None = Field(0.1, description="largest norm of the gradients")
    snapshot_every: PositiveInt = Field(
        10, description="iterations between two weights files, at least one per epoch"
    )


class TrainSettings(Settings):
    """Train on low-light images alone (no ground truth is needed)."""

    procedure: Literal["train"] = "train"
    load_pretrain: bool | None = Field(None, description="load the weights; default: if any")
    weights: Path | None = Field(None, description="weights to start from; default: new ones")
    data: TrainData = TrainData()
    pairs: PairSettings = PairSettings()
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


class TestSettings(common.TestSettings):
    """Enhance a folder as the paper's test does, and score it if ground truth is given."""

    data: TestData = TestData()
    scale_factor: PositiveInt = Field(
        TEST_SCALE, le=512, description="scale factor; crops to its multiples"
    )
    save: Path = Field(Path("test_output"), description="folder for the results")


_OF_TRAINING = {
    "--lowlight_images_path": "data.train",
    "--data_path": "data.train",
    "--snapshots_folder": "run.save",
    "--save": "run.save",
    "--num_epochs": "train.epochs",
    "--epochs": "train.epochs",
    "--train_batch_size": "train.batch_size",
    "--batch_size": "train.batch_size",
    "--num_workers": "train.workers",
    "--lr": "train.lr",
    "--weight_decay": "train.weight_decay",
    "--grad_clip_norm": "train.clip_norm",
    "--display_iter": "run.log_every",
    "--snapshot_iter": "train.snapshot_every",
    "--scale_factor": "network.scale_factor",
    "--conv_type": "network.conv_type",
    "--exp_level": "objective.exp_level",
    "--patch_size": "objective.patch_size",
    "--load_pretrain": "load_pretrain",
    "--pretrain_dir": "weights",
    "--model": "weights",
    "--num_of_SegClass": "segmentation.classes",
}
_OF_TEST = {
    "--input_dir": "data.low",
    "--data_path": "data.low",
    "--test_dir": "save",
    "--weight_dir": "weights",
    "--model": "weights",
    "--scale_factor": "scale_factor",
}

TRAIN_OPTIONS = PublishedOptions(
    flags={
        **_OF_TRAINING,
        "--seg/--no-seg": "segmentation.use",
        "--seg-weights": "segmentation.weights",
        "--seed": "train.seed",
    },
    # One parser serves the published training and its test.
    without_effect=("--val_batch_size", *(_OF_TEST.keys() - _OF_TRAINING.keys())),
)
"""The published ``train.py``."""

TEST_OPTIONS = PublishedOptions(
    flags={**_OF_TEST, "--target_path": "data.high"},
    without_effect=("--val_batch_size", *(_OF_TRAINING.keys() - _OF_TEST.keys())),
)
"""The published ``test.py``."""

ABOUT = About(
    name="sgz",
    title="SGZ (Zheng and Gupta, WACV 2022)",
    package="llve_sgz",
    kind="image",
    bundled="sgz-photographs.safetensors",
    options={TrainSettings: TRAIN_OPTIONS, TestSettings: TEST_OPTIONS},
    has_kernel=True,
)
