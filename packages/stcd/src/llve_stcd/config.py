"""The settings of STCD; the defaults are the published values for SDSD indoor."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat

from llve_common.config import NonNegativeInt, PairSettings, PositiveInt, ScheduleSettings, Settings
from llve_common.data.sdsd import settings as sdsd
from llve_common.data.sdsd.settings import (
    HAS_FULL_SIZE,
    ClipData,
    ClipTraining,
    ExperimentSettings,
    Keys,
)
from llve_common.paper.about import About
from llve_common.published_options import PublishedOptions, only

Criterion = Literal["cb", "l1", "l2", "cb2"]
"""Charbonnier sum, L1 sum, L2 sum, Charbonnier mean."""

MatcherKind = Literal["dis", "dkm", "dkm-package"]

Place = Literal["indoor", "outdoor"]
"""What the weights of DKM were trained on."""


class NetworkSettings(Settings):
    """The network."""

    nf: PositiveInt = Field(64, multiple_of=4, le=1024, description="feature channels")
    front_blocks: NonNegativeInt = Field(
        1, le=1000, description="residual blocks on both frames' features"
    )


class MatcherSettings(Settings):
    """What finds the matches between ground-truth frames."""

    kind: MatcherKind = Field("dis", description="matcher; dkm and dkm-package need weights")
    weights: Path | None = Field(None, description="DKMv3_indoor.pth or DKMv3_outdoor.pth")
    place: Place = Field("indoor", description="kind of DKM's weights: indoor or outdoor")
    size: tuple[PositiveInt, PositiveInt] = Field(
        (640, 480), description="width and height that frames are matched at"
    )
    cache: Path | None = Field(None, description="folder to keep matches in; null: none")


class ObjectiveSettings(Settings):
    """The objective."""

    criterion: Criterion = Field("cb", description="cb: Charbonnier sum; cb2: mean; l1, l2: sums")
    pixel_weight: PositiveFloat = Field(1.0, description="factor of pixel and smoothness terms")
    matcher: MatcherSettings = MatcherSettings()


class OptimizerSettings(ClipTraining):
    """Adam, and the length of the run."""

    batch_size: PositiveInt = Field(4, description="pairs in a batch, over all processes")
    iterations: PositiveInt = Field(200_000, description="training iterations")
    lr: float = Field(1e-4, gt=0, description="learning rate")
    schedule: ScheduleSettings = ScheduleSettings(
        periods=(200_000,), restarts=(200_000,), restart_weights=(1.0,), eta_min=1e-7
    )
    save_every: PositiveInt = Field(500, description="iterations between two weights files")
    validate_every: PositiveInt | None = Field(500, description="validation interval; null: never")


class TrainSettings(Settings):
    """Train on pairs of clips in low and in normal light."""

    procedure: Literal["train"] = "train"
    weights: Path | None = Field(None, description="weights to start from; null: new ones")
    data: ClipData = ClipData()
    pairs: PairSettings = PairSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: ExperimentSettings = ExperimentSettings()


class TestSettings(sdsd.TestSettings):
    """Score the first 30 frames of each test clip; report means over clips and over frames."""

    save_images: bool = Field(True, description="write enhanced frames, ground truth and input")


# Training takes whole frames, and a window is two of them.
_IDLE_DATA = (
    "name", "mode", "interval_list", "random_reverse", "border_mode", "cache_keys", "cache_data",
    "padding", "N_frames", "use_shuffle", "GT_size", "LQ_size", "use_flip", "use_rot", "color",
)  # fmt: skip
_IDLE = (
    "network_G.nframes", "network_G.groups", "network_G.back_RBs", "network_G.predeblur",
    "network_G.center", "network_G.w_TSA",
)  # fmt: skip
_SAME_NETWORK: Keys = {
    "model": only("video_base4_m2"),
    "network_G.which_model_G": only("low_light_transformer", "low_light_transformer42"),
    **HAS_FULL_SIZE,
}
_NETWORK: Keys = {"network_G.nf": "network.nf", "network_G.front_RBs": "network.front_blocks"}

TRAIN_OPTIONS = PublishedOptions(
    flags={"--data_path": "data.root", "--model": "weights"},
    file=sdsd.training_options(
        {},
        {**_SAME_NETWORK, **_NETWORK},
        {
            "ft_tsa_only": only(0),
            "pixel_weight": "objective.pixel_weight",
            # The seed's key as it is published, which the published code does not read.
            "manual.resize960x512_seed": "train.seed",
        },
        idle_data=_IDLE_DATA,
        idle=_IDLE,
    ),
)
"""The published ``train.py``."""

TEST_OPTIONS = PublishedOptions(
    flags={"--data_path": "data.root"},
    # The weights tell what network they are of.
    file=sdsd.test_options({}, _SAME_NETWORK, idle_data=_IDLE_DATA, idle=(*_IDLE, *_NETWORK)),
)
"""The published ``test.py``."""

ABOUT = About(
    name="stcd",
    title="STCD (Xu et al., IJCAI 2025)",
    package="llve_stcd",
    kind="video",
    bundled="stcd-photographs.safetensors",
    options={TrainSettings: TRAIN_OPTIONS, TestSettings: TEST_OPTIONS},
)
