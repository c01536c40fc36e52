"""The settings of papers that learn from SDSD, and what their published option files mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat

from llve_common import config
from llve_common.config import (
    Beta,
    PositiveInt,
    RunSettings,
    ScheduleSettings,
    Settings,
    TrainerSettings,
    Workers,
)
from llve_common.data.sdsd.splits import Split
from llve_common.published_options import Convert, OptionTable, below, only, renamed

TEST_FRAMES = 30
"""The published tests take so many frames of each clip."""

Side = Annotated[int, Field(gt=0, le=16_384)]

Layout = Literal["sdsd", "smid"]

Keys = Mapping[str, str | Convert]
"""Published key to our setting, or to a function of its value."""


class ClipData(Settings):
    """Where the clips are, and how they are read."""

    root: Path = Field(Path("data/indoor_np"), description="folder of GT and input (or LQ)")
    low: Path | None = Field(None, description="folder of the input; null: in the root")
    high: Path | None = Field(None, description="folder of ground truth; null: in the root")
    layout: Layout = Field("sdsd", description="layout; smid has a ground truth per scene")
    test_clips: Split | tuple[str, ...] | None = Field(
        None,
        description="clips of the test: names, indoor, outdoor or smid; null: by the folder's name",
    )
    size: tuple[Side, Side] | None = Field(
        (960, 512), description="width and height that frames are resized to; null: unchanged"
    )


class ClipTestData(ClipData):
    """Where the clips are, and how they are read."""

    first: PositiveInt | None = Field(TEST_FRAMES, description="frames of each clip; null: all")


class ClipTraining(TrainerSettings):
    """Adam, and the length of the run."""

    workers: Workers = 3
    iterations: PositiveInt = Field(description="training iterations")
    lr: float = Field(gt=0, description="learning rate")
    beta1: Beta = Field(0.9, description="decay of Adam's first moment")
    beta2: Beta = Field(0.99, description="decay of Adam's second moment")
    weight_decay: NonNegativeFloat = Field(0.0, description="weight decay")
    schedule: ScheduleSettings
    save_every: PositiveInt = Field(description="iterations between two weights files")
    validate_every: PositiveInt | None = Field(description="validation interval; null: never")

    @property
    def adam(self) -> dict[str, Any]:
        """Adam's arguments."""
        betas = (self.beta1, self.beta2)
        return {"lr": self.lr, "betas": betas, "weight_decay": self.weight_decay}


class ExperimentSettings(RunSettings):
    """Where a run writes, and on what it computes."""

    save: Path = Field(Path("experiments"), description="folder of the runs")
    log_every: PositiveInt = Field(100, description="iterations between two log lines")


class TestSettings(config.TestSettings):
    """Score the first 30 frames of each test clip; report means over clips and over frames."""

    data: ClipTestData = ClipTestData()
    ssim: config.Ssim = Field("gaussian11", description="SSIM definition: skimage7 or gaussian11")


def training_options(
    data: Keys,
    network: Keys,
    objective: Keys,
    *,
    idle_data: Sequence[str],
    idle: Sequence[str] = (),
    left_out: Mapping[str, Any] | None = None,
) -> OptionTable:
    """What the keys of a published training's option file mean.

    Args:
        data: further keys of ``datasets.train``.
        network: keys at the top and of ``network_G``, dotted.
        objective: keys of ``train`` that are the paper's own.
        idle_data: keys of ``datasets.train`` and ``datasets.val`` without effect.
        idle: further keys without effect.
        left_out: as in :class:`OptionTable`.
    """
    read = {**_DATA, **_LOADER, **data}
    return OptionTable(
        settings={
            **_RUN,
            **{f"datasets.train.{key}": meaning for key, meaning in read.items()},
            **network,
            **{f"train.{key}": meaning for key, meaning in {**_TRAINING, **objective}.items()},
        },
        without_effect=(
            *_IDLE,
            *idle,
            *(f"datasets.train.{key}" for key in idle_data),
            # Validation reads what training reads, and takes the test's clips of it.
            *(f"datasets.val.{key}" for key in (*idle_data, *read)),
        ),
        left_out=left_out or {},
        resume="path.resume_state",
    )


def test_options(
    data: Keys, network: Keys, *, idle_data: Sequence[str], idle: Sequence[str]
) -> OptionTable:
    """What the keys of a published test's option file mean, arguments as for the training's."""
    return OptionTable(
        settings={
            "name": "name",
            **{f"datasets.test.{key}": meaning for key, meaning in {**_DATA, **data}.items()},
            **network,
            "path.root": below("save", "results"),
            "path.pretrain_model_G": "weights",
        },
        without_effect=(
            *_IDLE,
            *idle,
            "use_tb_logger",
            *(f"datasets.test.{key}" for key in (*idle_data, *_LOADER)),
        ),
    )


def _test_clips(value: Any) -> dict[str, Any]:
    """The names of the test's clips, with commas between them."""
    if not isinstance(value, str):
        raise ValueError("input should be names with commas between them")
    return {"data.test_clips": tuple(name.strip() for name in value.split(",") if name.strip())}


_DATA: Keys = {
    "dataroot_GT": "data.high",
    "dataroot_LQ": "data.low",
    "train_size": "data.size",
    "testing_dir": _test_clips,
}
_LOADER: Keys = {"batch_size": "train.batch_size", "n_workers": "train.workers"}
_RUN: Keys = {
    "name": "run.name",
    "use_tb_logger": "run.tensorboard",
    "path.root": below("run.save", "experiments"),
    "path.pretrain_model_G": "weights",
    "logger.print_freq": "run.log_every",
    "logger.save_checkpoint_freq": "train.save_every",
}
_SCHEMES = {
    "CosineAnnealingLR_Restart": "cosine",
    "MultiStepLR_Restart": "multistep",
    "MultiStepLR": "multistep",
}
_TRAINING: Keys = {
    "lr_G": "train.lr",
    "lr_scheme": renamed("train.schedule.scheme", _SCHEMES),
    "beta1": "train.beta1",
    "beta2": "train.beta2",
    "weight_decay_G": "train.weight_decay",
    "niter": "train.iterations",
    "warmup_iter": "train.schedule.warmup",
    "T_period": "train.schedule.periods",
    "restarts": "train.schedule.restarts",
    "restart_weights": "train.schedule.restart_weights",
    "eta_min": "train.schedule.eta_min",
    "lr_steps": "train.schedule.milestones",
    "lr_gamma": "train.schedule.gamma",
    "clear_state": "train.schedule.clear_state",
    "pixel_criterion": "objective.criterion",
    "val_freq": "train.validate_every",
    "manual_seed": "train.seed",
}
_IDLE = ("distortion", "scale", "gpu_ids", "suffix", "crop_border", "path.strict_load")

HAS_FULL_SIZE = {"network_G.HR_in": only(True)}
"""Published networks without it lack the layers that they call."""
