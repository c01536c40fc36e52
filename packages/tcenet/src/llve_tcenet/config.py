"""The settings of TCE-Net; the defaults are the published values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.flow.raft import ImageRange
from llve_common.metrics.fidelity import Ssim
from llve_common.weights.pretrained import Statistics
from llve_tcenet.network import MULTIPLE, REMAINDERS
from llve_tcenet.objective import FlowName


class PairedSet(Settings):
    """Videos in low and in normal light: a folder of frames each, matched by name."""

    low: Path
    normal: Path
    list: Path | None = Field(None, description="names of the videos to use; null: all there are")


class ValidationSettings(Settings):
    """Videos to score during training; none where ``low`` is not given."""

    low: Path | None = None
    normal: Path | None = None
    list: Path | None = None
    every: PositiveInt = Field(1, description="epochs")


class TrainData(Settings):
    """Where the videos are."""

    real: PairedSet = PairedSet(
        low=Path("data/SDSD_CUHK/videoSDSD_low"),
        normal=Path("data/SDSD_CUHK/videoSDSD_normal"),
        list=Path("data/SDSD_CUHK/train_list.txt"),
    )
    synthetic: PairedSet = PairedSet(
        low=Path("data/DS_LOL/low_and_noise"),
        normal=Path("data/DS_LOL/normal"),
        list=Path("data/DS_LOL/train_list.txt"),
    )
    validation: ValidationSettings = ValidationSettings()


class RaftSettings(Settings):
    """The optical flow network."""

    weights: Path = Field(
        Path("Pretrained_RAFT/raft-things.pth"), description="large or small, as the file is"
    )
    iterations: PositiveInt = 12
    image_range: ImageRange = Field(
        "unit", description="unit: [0, 1], as published; signed: [-1, 1], what its weights expect"
    )
    statistics: Statistics = Field(
        "batch", description="batch: batch norm by the batch, as published; running: as trained"
    )


class ObjectiveSettings(Settings):
    """The objective, and the trained networks that it looks through."""

    perceptual: bool = Field(True, description="false: train without VGG-19")
    vgg: Path = Field(Path("vgg19-dcbb9e9d.pth"), description="VGG-19 of ImageNet")
    flow: FlowName = Field("raft", description="dis needs no weights, and gives no gradient")
    raft: RaftSettings = RaftSettings()


class OptimizerSettings(TrainerSettings):
    """Adam, the augmentation, and the length of the run."""

    seed: int = Field(19960101, ge=0, lt=2**32)
    batch_size: int = Field(
        4, ge=2, description="at least 2: batch norm sees one value per channel and sample"
    )
    workers: int = Field(8, ge=0, description="loader processes; 0 loads in the training process")
    epochs: PositiveInt = 300
    repeat: PositiveInt = Field(10, description="how often each video is drawn in an epoch")
    lr: PositiveFloat = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 1e-4
    decay_after: PositiveInt = Field(150, description="epochs at the full rate")
    decay_epochs: PositiveInt = Field(150, description="epochs from there to the rate of zero")
    crop: PositiveInt = Field(256, description="side of a training crop, in pixels")
    scales: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.5, 2.0), description="a sample is resized by a factor drawn between these"
    )

    @model_validator(mode="after")
    def _legal(self) -> Self:
        if self.crop < MULTIPLE or self.crop % MULTIPLE not in REMAINDERS:
            raise ValueError("crop has to be a multiple of 16, or 4 more than one")
        if self.scales[0] > self.scales[1]:
            raise ValueError("scales has the larger factor first")
        if self.accumulate * 2 > self.batch_size:
            raise ValueError("every part of a batch needs at least 2 samples, for batch norm")
        return self


class TrainSettings(Settings):
    """``tcenet train``."""

    procedure: Literal["train"] = "train"
    version: str = Field("Enhance-Video", min_length=1, description="begins the weights' names")
    weights: Path | None = Field(None, description="to start from; null: the initial weights")
    optimizer_state: bool = Field(
        False, description="take Adam's state too from weights that the published trainer saved"
    )
    data: TrainData = TrainData()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings(save=Path("results"))


class TestData(Settings):
    """Where the videos are."""

    low: Path = Field(
        Path("data/SDSD_CUHK/videoSDSD_low"), description="a folder of frames for each video"
    )
    normal: Path | None = Field(None, description="ground truth, matched by name")
    list: Path | None = Field(None, description="names of the videos to use; null: all there are")


class TestSettings(Settings):
    """``tcenet test``."""

    procedure: Literal["test"] = "test"
    weights: Path | None = None
    data: TestData = TestData()
    save: Path = Path("results/test")
    pad: bool = Field(
        False, description="enhance a clip's first two and last two frames too, by reflection"
    )
    ssim: Ssim = "skimage7"
    fsim: bool = Field(False, description="score by FSIM too; needs the extra llve-common[fsim]")
    pictures: bool = Field(
        False, description="save flow, warped frames and masks too; they double the time"
    )
    flow: FlowName = Field("raft", description="of the pictures; dis needs no weights")
    raft: RaftSettings = RaftSettings()
    metric_raft: Path | None = Field(
        None, description="RAFT's weights, to measure warping error along its flow; null: by DIS"
    )
    device: str = RunSettings.model_fields["device"].default
