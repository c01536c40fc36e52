"""The settings of TCE-Net; the defaults are the published values."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from llve_common import config as common
from llve_common.config import (
    Beta,
    FileName,
    ImageRange,
    PairSettings,
    PositiveInt,
    RunSettings,
    Settings,
    Statistics,
    TrainerSettings,
    Workers,
)
from llve_common.paper.about import About
from llve_common.published_options import Convert, PublishedOptions, below, only

MULTIPLE = 16
REMAINDERS = (0, 4)
"""The network takes a side whose remainder by ``MULTIPLE`` is one of these."""

FlowName = Literal["raft", "dis"]


class PairedSet(Settings):
    """Videos in low and in normal light: a folder of frames each, matched by name."""

    low: Path = Field(description="folder of videos in low light")
    normal: Path = Field(description="folder of ground truth, under the same names")
    list: Path | None = Field(None, description="file of the videos' names; null: all videos")


class ValidationSettings(Settings):
    """Videos to score during training."""

    low: Path | None = Field(
        None, description="folder of videos in low light; null: of test_list.txt beside real.list"
    )
    normal: Path | None = Field(None, description="folder of ground truth")
    list: Path | None = Field(None, description="file of the videos' names; null: all videos")
    every: PositiveInt = Field(1, description="epochs between two validations")


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

    @model_validator(mode="before")
    @classmethod
    def _keep_the_published_lists_with_their_sets(cls, values: Any) -> Any:
        """Of other videos all are taken, unless a list is given."""
        if not isinstance(values, dict):
            return values
        return {
            name: {"list": None, **each} if isinstance(each, dict) and "low" in each else each
            for name, each in values.items()
        }


class NetworkSettings(Settings):
    """The network."""

    features: PositiveInt = Field(32, description="channels at the frame's size")
    blocks: PositiveInt = Field(16, description="residual blocks")


class RaftSettings(Settings):
    """The optical flow network."""

    weights: Path = Field(
        Path("Pretrained_RAFT/raft-things.pth"), description="RAFT's weights, large or small"
    )
    iterations: PositiveInt = Field(12, le=1000, description="RAFT's iterations")
    image_range: ImageRange = Field(
        "unit", description="RAFT's input: unit, [0, 1], as published; signed, [-1, 1], as trained"
    )
    statistics: Statistics = Field(
        "batch", description="RAFT's batch norm: batch, as published; running, as trained"
    )


class ObjectiveSettings(Settings):
    """The objective, and the trained networks that it looks through."""

    perceptual: bool = Field(True, description="use the perceptual loss, by VGG-19")
    vgg: Path = Field(Path("vgg19-dcbb9e9d.pth"), description="VGG-19's weights")
    flow: FlowName = Field("raft", description="optical flow; dis has no weights and no gradient")
    raft: RaftSettings = RaftSettings()


class OptimizerSettings(TrainerSettings):
    """Adam, the augmentation, and the length of the run."""

    seed: int = Field(19960101, ge=0, lt=2**32, description="seed of all random numbers")
    batch_size: PositiveInt = Field(
        4, ge=2, description="pairs in a batch, over all processes; at least 2, for batch norm"
    )
    workers: Workers = 8
    epochs: PositiveInt = Field(300, description="epochs, passes over the real videos")
    save_every: PositiveInt = Field(1, description="epochs between two weights files")
    repeat: PositiveInt = Field(10, description="samples of each video in an epoch")
    lr: PositiveFloat = Field(1e-4, description="learning rate")
    beta1: Beta = Field(0.9, description="decay of Adam's first moment")
    beta2: Beta = Field(0.999, description="decay of Adam's second moment")
    weight_decay: NonNegativeFloat = Field(1e-4, description="weight decay")
    decay: bool = Field(True, description="lower the rate to zero at the end")
    decay_after: PositiveInt = Field(150, description="epochs at the full rate")
    decay_epochs: PositiveInt = Field(150, description="epochs from the full rate to zero")
    crop: PositiveInt = Field(256, le=8192, description="side of a training crop, in pixels")
    scale_min: PositiveFloat = Field(0.5, description="smallest factor of random resizing")
    scale_max: PositiveFloat = Field(2.0, le=16, description="largest factor of random resizing")

    @model_validator(mode="after")
    def _legal(self) -> Self:
        if self.crop < MULTIPLE or self.crop % MULTIPLE not in REMAINDERS:
            raise ValueError("crop has to be a multiple of 16, or 4 more than one")
        if self.scale_min > self.scale_max:
            raise ValueError("scale_min is larger than scale_max")
        if self.accumulate * 2 > self.batch_size:
            raise ValueError("every part of a batch needs at least 2 samples, for batch norm")
        return self


class TrainSettings(Settings):
    """Train on real pairs and synthetic clips together (STCL)."""

    procedure: Literal["train"] = "train"
    version: FileName = Field("Enhance-Video", description="version; begins the weights' names")
    weights: Path | None = Field(None, description="weights to start from; default: new ones")
    optimizer_state: bool = Field(
        False, description="load Adam's state too, from weights of the published trainer"
    )
    data: TrainData = TrainData()
    pairs: PairSettings = PairSettings()
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings(save=Path("results"))


class TestData(Settings):
    """Where the videos are."""

    low: Path = Field(Path("data/SDSD_CUHK/videoSDSD_low"), description="folder of videos")
    normal: Path | None = Field(None, description="folder of ground truth, for scores")
    list: Path | None = Field(None, description="file of the videos' names; null: all videos")

    @model_validator(mode="before")
    @classmethod
    def _keep_the_published_set_together(cls, values: Any) -> Any:
        """The published videos come with their ground truth and list, others without."""
        if isinstance(values, dict) and "low" not in values:
            folder = Path("data/SDSD_CUHK")
            beside = {"normal": folder / "videoSDSD_normal", "list": folder / "test_list.txt"}
            return {**beside, **values}
        return values


class TestSettings(common.TestSettings):
    """Enhance videos as the paper's test does, and score them if ground truth is given."""

    weights: Path | None = Field(
        None, description="weights file; default: by version and epoch, or the bundled weights"
    )
    version: FileName = Field("Enhance-Video", description="version of the weights to find")
    epoch: PositiveInt | None = Field(None, description="epoch of the weights; null: the last")
    runs: Path = Field(Path("results"), description="folder of runs to find weights in")
    models: Path = Field(Path("models"), description="folder of weights, in a run or elsewhere")
    data: TestData = Field(default_factory=lambda: TestData.model_validate({}))
    save: Path = Field(Path("results/test"), description="folder for the results")
    pad: bool = Field(
        False, description="enhance a clip's first two and last two frames too, by reflection"
    )
    fsim: bool = Field(False, description="score FSIM too; needs the extra fsim")
    pictures: bool = Field(
        False, description="write flow, warped frames and masks too, in twice the time"
    )
    flow: FlowName = Field("raft", description="optical flow of the pictures; dis needs no weights")
    raft: RaftSettings = RaftSettings()
    metric_raft: Path | None = Field(
        None, description="RAFT's weights for the warping error; default: DIS flow"
    )


def _beside(prefix: str, normal: str, names: str) -> Convert:
    """Low-light videos, whose ground truth and list lie beside them under the published names."""

    def convert(value: Any) -> dict[str, Any]:
        low = Path(value)
        listed = low.parent / names
        return {
            f"{prefix}.low": low,
            f"{prefix}.normal": low.parent / normal,
            f"{prefix}.list": listed if listed.is_file() else None,
        }

    convert.__doc__ = "Folder of videos in low light, beside their ground truth and list."
    return convert


def _no_other_weights(value: Any) -> dict[str, Any]:
    """Only 0, a new training; --resume continues a run."""
    if value != "0":
        raise ValueError("give --resume RUN, or --model FILE with optimizer_state=true")
    return {}


def _epoch(value: Any) -> dict[str, Any]:
    """Epoch of the weights; 0: the last."""
    return {} if value == "0" else {"epoch": value}


def _with_trained_raft(value: Any) -> dict[str, Any]:
    """Only True: RAFT runs with its weights."""
    if not _true(value):
        raise ValueError("RAFT never runs without its weights; give --flow dis to do without it")
    return {}


def _scored(value: Any) -> dict[str, Any]:
    """False: enhance without scores."""
    return {} if _true(value) else {"data.normal": None}


def _true(value: Any) -> bool:
    """Whether a text says yes or no; a ValueError where it says neither."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        raise ValueError("input should be True or False") from None


_TRAINING: dict[str, str | Convert] = {
    "--version": "version",
    "--DRV_dir": _beside("data.real", "long", "train_list.txt"),
    "--DRV_ref_dir": "data.real.normal",
    "--DRV_list_dir": below("data.real.list", "train_list.txt"),
    "--SDSD_dir": _beside("data.real", "videoSDSD_normal", "train_list.txt"),
    "--SDSD_ref_dir": "data.real.normal",
    "--SDSD_list_dir": below("data.real.list", "train_list.txt"),
    "--syn_dir": _beside("data.synthetic", "normal", "train_list.txt"),
    "--syn_ref_dir": "data.synthetic.normal",
    "--syn_list_dir": below("data.synthetic.list", "train_list.txt"),
    "--use_pretrained_raft": _with_trained_raft,
    "--raft_model_path": "objective.raft.weights",
    "--iters": "objective.raft.iterations",
    "--total_epochs": "train.epochs",
    "--repeat_times": "train.repeat",
    "--train_batch_size": "train.batch_size",
    "--threads": "train.workers",
    "--seed": "train.seed",
    "--use_tensorboard": "run.tensorboard",
    "--save_root_dir": "run.save",
    "--pretrained_model": _no_other_weights,
    "--log_step": "run.log_every",
    "--model_save_epoch": "train.save_every",
    "--scale_min": "train.scale_min",
    "--scale_max": "train.scale_max",
    "--geometry_aug": only("1"),
    "--crop_size": "train.crop",
    "--sample_frames": only("6"),
    "--input_channels": only("3"),
    "--base_dim": "network.features",
    "--lr_init": "train.lr",
    "--lr_decay": "train.decay",
    "--lr_num_epochs_decay": "train.decay_after",
    "--lr_decay_ratio": "train.decay_epochs",
    "--optimizer_type": only("adam"),
    "--beta1": "train.beta1",
    "--beta2": "train.beta2",
    "--weight_decay": "train.weight_decay",
}
_TEST: dict[str, str | Convert] = {
    "--version": "version",
    "--pretrained_model": _epoch,
    "--save_root_dir": "runs",
    "--model_save_path": "models",
    "--DRV_dir": _beside("data", "long", "test_list.txt"),
    "--DRV_ref_dir": "data.normal",
    "--DRV_list_dir": below("data.list", "test_list.txt"),
    "--syn_dir": _beside("data", "normal", "test_list.txt"),
    "--syn_ref_dir": "data.normal",
    "--syn_list_dir": below("data.list", "test_list.txt"),
    "--SDSD_dir": _beside("data", "videoSDSD_normal", "test_list.txt"),
    "--SDSD_ref_dir": "data.normal",
    "--SDSD_list_dir": below("data.list", "test_list.txt"),
    "--is_test_psnr_ssim": _scored,
    "--use_pretrained_raft": _with_trained_raft,
    "--raft_model_path": "raft.weights",
    "--iters": "raft.iterations",
}
_IDLE = (
    "--adv_loss_type", "--init_type", "--parallel", "--gpu_ids", "--is_test_nima",
    "--is_print_network", "--sample_path", "--log_path", "--val_SDSD", "--val_syn", "--test_SDSD",
    "--test_syn", "--res_block_num", "--d_conv_dim", "--d_use_sn", "--d_act_fun", "--d_norm_fun",
    "--info_step", "--sample_step", "--alpha", "--small/--no-small",
    "--mixed_precision/--no-mixed_precision", "--wdecay", "--epsilon", "--dropout", "--raft_lr",
)  # fmt: skip

TRAIN_OPTIONS = PublishedOptions(
    flags={
        **_TRAINING,
        "--data_path": "data.real.low",
        "--target_path": "data.real.normal",
        "--vgg": "objective.vgg",
        "--flow": "objective.flow",
        "--perceptual/--no-perceptual": "objective.perceptual",
        "--epochs": "train.epochs",
        "--batch_size": "train.batch_size",
        "--lr": "train.lr",
        "--model": "weights",
    },
    # One parser serves the published training and its test.
    without_effect=(*_IDLE, *(_TEST.keys() - _TRAINING.keys())),
)
"""The published ``main.py --mode train``."""

TEST_OPTIONS = PublishedOptions(
    flags={
        **_TEST,
        "--data_path": "data.low",
        "--target_path": "data.normal",
        "--pad/--no-pad": "pad",
        "--fsim/--no-fsim": "fsim",
        "--pictures/--no-pictures": "pictures",
        "--flow": "flow",
        "--raft": "metric_raft",
    },
    without_effect=(*_IDLE, *(_TRAINING.keys() - _TEST.keys())),
)
"""The published ``main.py --mode test``."""

ABOUT = About(
    name="tcenet",
    title="TCE-Net (Zhu et al., IJCV 2024)",
    package="llve_tcenet",
    kind="video",
    bundled="tcenet-photographs.safetensors",
    options={TrainSettings: TRAIN_OPTIONS, TestSettings: TEST_OPTIONS},
)
