"""The settings of SDSD; the defaults are the published values for SDSD indoor."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, ValidationInfo, field_validator

from llve_common.clips.windows import Border
from llve_common.config import NonNegativeInt, PairSettings, PositiveInt, ScheduleSettings, Settings
from llve_common.data.sdsd import settings as sdsd
from llve_common.data.sdsd.settings import HAS_FULL_SIZE, ClipTraining, ExperimentSettings, Keys
from llve_common.paper.about import About
from llve_common.published_options import PublishedOptions, only, renamed

Criterion = Literal["cb", "l1"]
"""Charbonnier sum, L1 sum."""


class Data(sdsd.ClipData):
    """Where the clips are, and how they are read."""

    border: Border = Field("new_info", description="how to fill windows at a clip's ends")


class TrainData(Data):
    """Where the clips are, and how they are read and augmented."""

    crop: PositiveInt | None = Field(
        128, le=8192, description="side of a random crop; null: whole frames"
    )
    flip_horizontal: bool = Field(True, description="mirror left and right at random")
    flip_vertical: bool = Field(True, description="mirror top and bottom at random")


class TestData(Data, sdsd.ClipTestData):
    """Where the clips are, and how they are read."""


class NetworkSettings(Settings):
    """The network."""

    nf: PositiveInt = Field(64, le=1024, description="feature channels")
    frames: PositiveInt = Field(5, ge=3, le=99, description="frames in a window, an odd number")
    groups: PositiveInt = Field(
        8, le=1024, description="deformable groups, which divide the channels"
    )
    front_blocks: PositiveInt = Field(
        5, le=1000, description="residual blocks before the alignment"
    )
    back_blocks: PositiveInt = Field(10, le=1000, description="residual blocks of each branch")
    center: int | None = Field(
        None, le=99, description="index of the middle frame; null: frames // 2"
    )
    attention: bool = Field(True, description="fuse by attention; false: by one convolution")
    last_features: PositiveInt = Field(64, description="channels of the last layers")
    begin: Literal["random", "pixels"] = Field(
        "random", description="new weights; pixels: 24 channels begin as the frame's own pixels"
    )

    @field_validator("frames")
    @classmethod
    def _need_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a window has a middle frame, so an odd number of frames")
        return value

    @field_validator("begin")
    @classmethod
    def _has_the_channels(cls, value: str, info: ValidationInfo) -> str:
        # Where one of them is refused itself, it is not there.
        nf, last = info.data.get("nf", 24), info.data.get("last_features", 3)
        if value == "pixels" and (nf < 24 or last < 3):
            raise ValueError("pixels need nf of 24 and last_features of 3 at least")
        return value

    @field_validator("center")
    @classmethod
    def _is_the_middle(cls, value: int | None, info: ValidationInfo) -> int | None:
        # Weights do not tell another one, which a test would therefore not align to.
        frames = info.data.get("frames")
        if value is not None and frames is not None and value != frames // 2:
            middle = f"{frames // 2}, the middle of {frames} frames"
            raise ValueError(f"input should be {middle}, which the ground truth is of")
        return value


class ObjectiveSettings(Settings):
    """The objective."""

    criterion: Criterion = Field("cb", description="cb: Charbonnier sum (SDSD); l1: L1 sum (SMID)")
    weight: PositiveFloat = Field(1.0, description="factor of all losses")
    exposure: PositiveFloat = Field(
        1.0, description="take apart the frame times this, so that its own noise counts less"
    )
    denoised: float = Field(1.0, ge=0, description="factor of the denoised frame's loss")


class OptimizerSettings(ClipTraining):
    """Adam, and the length of the run."""

    seed: int = Field(2318, ge=0, lt=2**32, description="seed of all random numbers")
    batch_size: PositiveInt = Field(32, description="windows in a batch, over all processes")
    iterations: PositiveInt = Field(600_000, description="training iterations")
    lr: float = Field(4e-4, gt=0, description="learning rate")
    schedule: ScheduleSettings = ScheduleSettings(
        periods=(50_000, 100_000, 150_000, 150_000, 150_000),
        restarts=(50_000, 150_000, 300_000, 450_000),
        restart_weights=(1.0, 1.0, 1.0, 1.0),
        eta_min=1e-7,
    )
    fusion_only: NonNegativeInt = Field(
        50_000, description="only the fusion learns before this iteration; 0: never"
    )
    save_every: PositiveInt = Field(5000, description="iterations between two weights files")
    validate_every: PositiveInt | None = Field(5000, description="validation interval; null: never")


class TrainSettings(Settings):
    """Train on pairs of clips in low and in normal light."""

    procedure: Literal["train"] = "train"
    weights: Path | None = Field(None, description="weights to start from; null: new ones")
    data: TrainData = TrainData()
    pairs: PairSettings = PairSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: ExperimentSettings = ExperimentSettings()


class TestSettings(sdsd.TestSettings):
    """Score the first 30 frames of each test clip; average over each clip, then over clips."""

    data: TestData = TestData()
    save_images: bool = Field(False, description="write enhanced and input frames")


_LAYOUTS: dict[str, sdsd.Layout] = {
    "video_samesize": "sdsd",
    "video_samesize1": "sdsd",
    "video_samesize_smid": "smid",
    "video_samesize_smid1": "smid",
}

_DATA: Keys = {"mode": renamed("data.layout", _LAYOUTS), "padding": "data.border"}
_AUGMENTATION: Keys = {
    "GT_size": "data.crop",
    "use_flip": "data.flip_horizontal",
    "use_rot": "data.flip_vertical",
    "N_frames": "network.frames",
}
_IDLE_DATA = (
    "name", "interval_list", "random_reverse", "border_mode", "cache_keys", "cache_data",
    "use_shuffle", "LQ_size", "color",
)  # fmt: skip
# The published network is of this one kind, whose name and two switches do not change.
_SAME_NETWORK: Keys = {
    "model": only("video_base"),
    "network_G.which_model_G": only("denoise_illumination_enhance"),
    "network_G.predeblur": only(True),
    **HAS_FULL_SIZE,
}
_NETWORK: Keys = {
    "network_G.nf": "network.nf",
    "network_G.nframes": "network.frames",
    "network_G.groups": "network.groups",
    "network_G.front_RBs": "network.front_blocks",
    "network_G.back_RBs": "network.back_blocks",
    "network_G.center": "network.center",
    "network_G.w_TSA": "network.attention",
}

TRAIN_OPTIONS = PublishedOptions(
    flags={"--data_path": "data.root", "--model": "weights"},
    file=sdsd.training_options(
        {**_DATA, **_AUGMENTATION},
        {**_SAME_NETWORK, **_NETWORK},
        {"ft_tsa_only": "train.fusion_only", "pixel_weight": "objective.weight"},
        idle_data=_IDLE_DATA,
        left_out={
            "train.fusion_only": 0,
            "train.schedule.restarts": (),
            "train.schedule.restart_weights": (),
            "network.attention": False,
        },
    ),
)
"""The published ``train.py``."""

TEST_OPTIONS = PublishedOptions(
    flags={"--data_path": "data.root"},
    # The weights tell what network they are of.
    file=sdsd.test_options(
        _DATA, _SAME_NETWORK, idle_data=(*_IDLE_DATA, *_AUGMENTATION), idle=tuple(_NETWORK)
    ),
)
"""The published ``quantitative_test.py``, and with ``--save-images`` ``qualitative_test.py``."""

ABOUT = About(
    name="sdsd",
    title="SDSD (Wang et al., ICCV 2021)",
    package="llve_sdsd",
    kind="video",
    bundled="sdsd-photographs.safetensors",
    options={TrainSettings: TRAIN_OPTIONS, TestSettings: TEST_OPTIONS},
)
