"""The settings of STCD; the defaults are the published values for SDSD indoor.

The tables at the end say what the keys of the published option files are here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llve_common.config import FOLDER_NAME, RunSettings, Settings, TrainerSettings
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.metrics.fidelity import Ssim
from llve_common.paper.published_options import Convert, OptionTable, below, names, only, renamed
from llve_common.train.schedule import ScheduleSettings
from llve_stcd.dkm.network import Place
from llve_stcd.matchers import MatcherKind
from llve_stcd.objective import Criterion

TEST_FRAMES = 30
"""The published test takes so many frames of each clip."""


class Data(Settings):
    """Where the clips are, and how they are read."""

    root: Path = Field(Path("data/indoor_np"), description="holds GT and input (or LQ)")
    low: Path | None = Field(None, description="the input's folder; null: in the root")
    high: Path | None = Field(None, description="the ground truth's folder; null: in the root")
    test_clips: tuple[str, ...] = Field(SDSD_INDOOR_TEST, description="names; not trained on")
    size: tuple[PositiveInt, PositiveInt] | None = Field(
        (960, 512), description="width and height that frames are resized to; null: as they are"
    )


class TestData(Data):
    """Where the clips are, and how they are read."""

    first: PositiveInt | None = Field(TEST_FRAMES, description="frames of each clip; null: all")


class NetworkSettings(Settings):
    """The network."""

    nf: PositiveInt = Field(64, multiple_of=4, description="channels")
    front_blocks: NonNegativeInt = Field(1, description="residual blocks on both frames' features")


class MatcherSettings(Settings):
    """What finds the matches between ground-truth frames."""

    kind: MatcherKind = Field("dis", description="dkm and dkm-package need weights")
    weights: Path | None = Field(None, description="DKMv3_indoor.pth or DKMv3_outdoor.pth")
    place: Place = Field("indoor", description="which of the two the weights are")
    cache: Path | None = Field(None, description="folder to keep matches in; null: none are kept")


class ObjectiveSettings(Settings):
    """The objective."""

    criterion: Criterion = Field("cb", description="Charbonnier sum; cb2: its mean; l1, l2: sums")
    pixel_weight: PositiveFloat = Field(1.0, description="of the pixel and smoothness terms")
    matcher: MatcherSettings = MatcherSettings()


class Schedule(ScheduleSettings):
    """One cosine period; what follows it keeps its last rate."""

    periods: tuple[PositiveInt, ...] = (200_000,)
    restarts: tuple[NonNegativeInt, ...] = (200_000,)
    restart_weights: tuple[PositiveFloat, ...] = (1.0,)
    eta_min: NonNegativeFloat = 1e-7


class OptimizerSettings(TrainerSettings):
    """Adam, and the length of the run."""

    seed: int = Field(0, ge=0, lt=2**32)
    batch_size: PositiveInt = Field(4, description="of all processes together")
    workers: int = Field(3, ge=0, description="loader processes; 0 loads in the training process")
    iterations: PositiveInt = 200_000
    lr: PositiveFloat = 1e-4
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 0.0
    schedule: Schedule = Schedule()
    save_every: PositiveInt = Field(500, description="iterations")
    validate_every: PositiveInt | None = Field(500, description="iterations; null: never")


class Run(RunSettings):
    """Where a run writes, and on what it computes."""

    save: Path = Path("experiments")
    log_every: PositiveInt = Field(100, description="iterations between two lines of the log")


class TrainSettings(Settings):
    """``stcd train``."""

    procedure: Literal["train"] = "train"
    weights: Path | None = Field(None, description="to start from; null: new ones")
    data: Data = Data()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: Run = Run()


class TestSettings(Settings):
    """``stcd test``."""

    procedure: Literal["test"] = "test"
    weights: Path | None = Field(None, description="null: the bundled ones")
    data: TestData = TestData()
    save: Path = Path("results")
    name: str | None = Field(None, pattern=FOLDER_NAME, description="of a folder in it; null: none")
    save_images: bool = Field(True, description="enhanced frames, ground truth and input")
    ssim: Ssim = "gaussian11"
    device: str = RunSettings.model_fields["device"].default


_DATA: dict[str, str | Convert] = {
    "dataroot_GT": "data.high",
    "dataroot_LQ": "data.low",
    "train_size": "data.size",
    "testing_dir": names("data.test_clips"),
}
# Training takes whole frames, and a window is two of them.
_IDLE_DATA = (
    "name", "mode", "interval_list", "random_reverse", "border_mode", "cache_keys", "cache_data",
    "padding", "N_frames", "use_shuffle", "GT_size", "LQ_size", "use_flip", "use_rot", "color",
)  # fmt: skip
_IDLE = (
    "distortion", "scale", "gpu_ids", "suffix", "crop_border", "path.strict_load",
    "network_G.nframes", "network_G.groups", "network_G.back_RBs", "network_G.predeblur",
    "network_G.center", "network_G.w_TSA",
)  # fmt: skip
_SAME_NETWORK = {
    "network_G.which_model_G": only("low_light_transformer", "low_light_transformer42"),
    # Published networks without it lack the layers that they call.
    "network_G.HR_in": only(True),
}

TRAIN_OPTIONS = OptionTable(
    settings={
        "name": "run.name",
        "use_tb_logger": "run.tensorboard",
        "model": only("video_base4_m2"),
        **{f"datasets.train.{key}": meaning for key, meaning in _DATA.items()},
        "datasets.train.batch_size": "train.batch_size",
        "datasets.train.n_workers": "train.workers",
        **_SAME_NETWORK,
        "network_G.nf": "network.nf",
        "network_G.front_RBs": "network.front_blocks",
        "path.root": below("run.save", "experiments"),
        "path.pretrain_model_G": "weights",
        "train.lr_G": "train.lr",
        "train.lr_scheme": renamed(
            "train.schedule.scheme",
            {"CosineAnnealingLR_Restart": "cosine", "MultiStepLR_Restart": "multistep"},
        ),
        "train.beta1": "train.beta1",
        "train.beta2": "train.beta2",
        "train.weight_decay_G": "train.weight_decay",
        "train.niter": "train.iterations",
        "train.ft_tsa_only": only(0),
        "train.warmup_iter": "train.schedule.warmup",
        "train.T_period": "train.schedule.periods",
        "train.restarts": "train.schedule.restarts",
        "train.restart_weights": "train.schedule.restart_weights",
        "train.eta_min": "train.schedule.eta_min",
        "train.pixel_criterion": "objective.criterion",
        "train.pixel_weight": "objective.pixel_weight",
        "train.val_freq": "train.validate_every",
        "train.manual_seed": "train.seed",
        # The seed's key as it is published, which the published code does not read.
        "train.manual.resize960x512_seed": "train.seed",
        "logger.print_freq": "run.log_every",
        "logger.save_checkpoint_freq": "train.save_every",
    },
    without_effect=(
        *_IDLE,
        *(f"datasets.train.{key}" for key in _IDLE_DATA),
        # Validation reads what training reads, and takes the test's clips of it.
        *(f"datasets.val.{key}" for key in (*_IDLE_DATA, *_DATA)),
    ),
)
"""The published option files of ``stcd train``."""

TEST_OPTIONS = OptionTable(
    settings={
        "name": "name",
        "model": only("video_base4_m2"),
        **{f"datasets.test.{key}": meaning for key, meaning in _DATA.items()},
        **_SAME_NETWORK,
        "path.root": below("save", "results"),
        "path.pretrain_model_G": "weights",
    },
    without_effect=(
        *_IDLE,
        "use_tb_logger",
        *(f"datasets.test.{key}" for key in _IDLE_DATA),
        # The weights tell what network they are of.
        "network_G.nf",
        "network_G.front_RBs",
    ),
)
"""The published option files of ``stcd test``."""
