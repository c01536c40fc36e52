"""The settings of SDSD; the defaults are the published values for SDSD indoor.

The tables at the end say what the keys of the published option files are here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from llve_common.config import FOLDER_NAME, RunSettings, ScheduleSettings, Settings, TrainerSettings
from llve_common.data.windows import Border
from llve_common.metrics.fidelity import Ssim
from llve_common.published_options import Convert, OptionTable, below, names, only, renamed
from llve_sdsd.objective import Criterion

Layout = Literal["sdsd", "smid"]
TEST_FRAMES = 30
"""The published tests take so many frames of each clip."""


class Data(Settings):
    """Where the clips are, and how they are read."""

    root: Path = Field(
        Path("data/indoor_np"), description="holds GT and input (or LQ), or SMID's two folders"
    )
    low: Path | None = Field(None, description="the input's folder; null: in the root")
    high: Path | None = Field(None, description="the ground truth's folder; null: in the root")
    layout: Layout = Field("sdsd", description="smid: one ground truth for a scene")
    test_clips: tuple[str, ...] | None = Field(
        None, description="null: the published ones, of SDSD indoor or of SMID by the layout"
    )
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        (960, 512), description="width and height that frames are resized to; null: as they are"
    )
    border: Border = Field("new_info", description="what stands in beyond a clip's ends")


class TrainData(Data):
    """Where the clips are, and how they are read and augmented."""

    crop: PositiveInt | None = Field(128, description="side of a random square; null: whole frames")
    flip_horizontal: bool = True
    flip_vertical: bool = True


class TestData(Data):
    """Where the clips are, and how they are read."""

    first: PositiveInt | None = Field(TEST_FRAMES, description="frames of each clip; null: all")


class NetworkSettings(Settings):
    """The network."""

    nf: PositiveInt = Field(64, description="channels")
    frames: PositiveInt = Field(5, ge=3, description="in a window; an odd number")
    groups: PositiveInt = Field(8, description="deformable groups, which divide the channels")
    front_blocks: PositiveInt = 5
    back_blocks: PositiveInt = 10
    center: int | None = Field(None, description="the middle frame; null is the same")
    attention: bool = Field(True, description="fuses by attention, not by one convolution")

    @field_validator("frames")
    @classmethod
    def _need_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a window has a middle frame, so an odd number of frames")
        return value

    @field_validator("center")
    @classmethod
    def _is_the_middle(cls, value: int | None, info: ValidationInfo) -> int | None:
        # Weights do not tell another one, which a test would therefore not align to.
        frames = info.data.get("frames")
        if value is not None and frames is not None and value != frames // 2:
            raise ValueError(
                f"input should be {frames // 2}, the middle of {frames} frames, "
                "which the ground truth is of"
            )
        return value


class ObjectiveSettings(Settings):
    """The objective."""

    criterion: Criterion = Field("cb", description="cb: Charbonnier (SDSD); l1 (SMID)")
    weight: PositiveFloat = Field(1.0, description="of all losses")


class Schedule(ScheduleSettings):
    """Cosine annealing with restarts."""

    periods: tuple[PositiveInt, ...] = (50_000, 100_000, 150_000, 150_000, 150_000)
    restarts: tuple[NonNegativeInt, ...] = (50_000, 150_000, 300_000, 450_000)
    restart_weights: tuple[PositiveFloat, ...] = (1.0, 1.0, 1.0, 1.0)
    eta_min: NonNegativeFloat = 1e-7


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    seed: int = Field(2318, ge=0, lt=2**32)
    batch_size: PositiveInt = Field(32, description="of all processes together")
    workers: int = Field(3, ge=0, description="loader processes; 0 loads in the training process")
    iterations: PositiveInt = 600_000
    lr: PositiveFloat = 4e-4
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Schedule = Schedule()
    fusion_only: int = Field(
        50_000, ge=0, description="all but the fusion stands still before this iteration; 0: never"
    )
    save_every: PositiveInt = Field(5000, description="iterations")
    validate_every: PositiveInt | None = Field(5000, description="iterations; null: never")


class Run(RunSettings):
    """Where a run writes, and on what it computes."""

    save: Path = Path("experiments")
    log_every: PositiveInt = Field(100, description="iterations between two lines of the log")


class TrainSettings(Settings):
    """``sdsd train``."""

    procedure: Literal["train"] = "train"
    weights: Path | None = Field(None, description="to start from; null: new ones")
    data: TrainData = TrainData()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: Run = Run()


class TestSettings(Settings):
    """``sdsd test``."""

    procedure: Literal["test"] = "test"
    weights: Path | None = Field(None, description="null: the bundled ones")
    data: TestData = TestData()
    save: Path = Path("results")
    name: str | None = Field(None, pattern=FOLDER_NAME, description="of a folder in it; null: none")
    save_images: bool = Field(False, description="enhanced and input frames too")
    ssim: Ssim = "gaussian11"
    device: str = RunSettings.model_fields["device"].default


_LAYOUTS: dict[str, Layout] = {
    "video_samesize": "sdsd",
    "video_samesize1": "sdsd",
    "video_samesize_smid": "smid",
    "video_samesize_smid1": "smid",
}
_DATA: dict[str, str | Convert] = {
    "mode": renamed("data.layout", _LAYOUTS),
    "dataroot_GT": "data.high",
    "dataroot_LQ": "data.low",
    "train_size": "data.size",
    "padding": "data.border",
    "testing_dir": names("data.test_clips"),
}
_AUGMENTATION: dict[str, str | Convert] = {
    "GT_size": "data.crop",
    "use_flip": "data.flip_horizontal",
    "use_rot": "data.flip_vertical",
    "N_frames": "network.frames",
    "batch_size": "train.batch_size",
    "n_workers": "train.workers",
}
_IDLE_DATA = (
    "name", "interval_list", "random_reverse", "border_mode", "cache_keys", "cache_data",
    "use_shuffle", "LQ_size", "color",
)  # fmt: skip
_IDLE = ("distortion", "scale", "gpu_ids", "suffix", "crop_border", "path.strict_load")
_NETWORK = ("nf", "nframes", "groups", "front_RBs", "back_RBs", "w_TSA", "center")
# The published network is of this one kind, whose name and two switches do not change.
_SAME_NETWORK = {
    "network_G.which_model_G": only("denoise_illumination_enhance"),
    "network_G.predeblur": only(True),
    "network_G.HR_in": only(True),
}
_SCHEMES = {
    "CosineAnnealingLR_Restart": "cosine",
    "MultiStepLR_Restart": "multistep",
    "MultiStepLR": "multistep",
}

TRAIN_OPTIONS = OptionTable(
    settings={
        "name": "run.name",
        "use_tb_logger": "run.tensorboard",
        "model": only("video_base"),
        **{f"datasets.train.{key}": meaning for key, meaning in {**_DATA, **_AUGMENTATION}.items()},
        **_SAME_NETWORK,
        "network_G.nf": "network.nf",
        "network_G.nframes": "network.frames",
        "network_G.groups": "network.groups",
        "network_G.front_RBs": "network.front_blocks",
        "network_G.back_RBs": "network.back_blocks",
        "network_G.center": "network.center",
        "network_G.w_TSA": "network.attention",
        "path.root": below("run.save", "experiments"),
        "path.pretrain_model_G": "weights",
        "train.lr_G": "train.lr",
        "train.lr_scheme": renamed("train.schedule.scheme", _SCHEMES),
        "train.beta1": "train.beta1",
        "train.beta2": "train.beta2",
        "train.weight_decay_G": "train.weight_decay",
        "train.niter": "train.iterations",
        "train.ft_tsa_only": "train.fusion_only",
        "train.warmup_iter": "train.schedule.warmup",
        "train.T_period": "train.schedule.periods",
        "train.restarts": "train.schedule.restarts",
        "train.restart_weights": "train.schedule.restart_weights",
        "train.eta_min": "train.schedule.eta_min",
        "train.lr_steps": "train.schedule.milestones",
        "train.lr_gamma": "train.schedule.gamma",
        "train.clear_state": "train.schedule.clear_state",
        "train.pixel_criterion": "objective.criterion",
        "train.pixel_weight": "objective.weight",
        "train.val_freq": "train.validate_every",
        "train.manual_seed": "train.seed",
        "logger.print_freq": "run.log_every",
        "logger.save_checkpoint_freq": "train.save_every",
    },
    without_effect=(
        *_IDLE,
        *(f"datasets.train.{key}" for key in _IDLE_DATA),
        # Validation reads what training reads, and takes the test's clips of it.
        *(f"datasets.val.{key}" for key in (*_IDLE_DATA, *_DATA, *_AUGMENTATION)),
    ),
    left_out={
        "train.fusion_only": 0,
        "train.schedule.restarts": (),
        "train.schedule.restart_weights": (),
        "network.attention": False,
    },
)
"""The published option files of ``sdsd train``."""

TEST_OPTIONS = OptionTable(
    settings={
        "name": "name",
        "model": only("video_base"),
        **{f"datasets.test.{key}": meaning for key, meaning in _DATA.items()},
        **_SAME_NETWORK,
        "path.root": below("save", "results"),
        "path.pretrain_model_G": "weights",
    },
    without_effect=(
        *_IDLE,
        "use_tb_logger",
        *(f"datasets.test.{key}" for key in (*_IDLE_DATA, *_AUGMENTATION)),
        # The weights tell what network they are of.
        *(f"network_G.{key}" for key in _NETWORK),
    ),
)
"""The published option files of ``sdsd test``."""
