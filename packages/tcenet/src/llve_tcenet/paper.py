"""TCE-Net bound to the core's contract."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from llve_common.data.pairs import held_out_pairs, training_pairs
from llve_common.errors import CheckpointError, ConfigError
from llve_common.flow.dis import dis_flow
from llve_common.flow.raft import Raft, raft_flow
from llve_common.io.images import to_pixels
from llve_common.machine.processes import processes
from llve_common.nn.vgg import Vgg19Features, imagenet_normalised
from llve_common.paper.contract import (
    Batch,
    Clip,
    Detail,
    Details,
    Model,
    Objective,
    Paper,
    Pictures,
    Plan,
    Procedure,
    Progress,
    Scoring,
    State,
    Stream,
    Test,
    Window,
    files_below,
)
from llve_common.weights.files import read_file
from llve_common.weights.network import start_from
from llve_common.weights.pretrained import load_raft, load_vgg19, warping_flow
from llve_common.weights.published import weights_file
from llve_tcenet.config import (
    ABOUT,
    MULTIPLE,
    REMAINDERS,
    FlowName,
    ObjectiveSettings,
    RaftSettings,
    TestSettings,
    TrainSettings,
)
from llve_tcenet.data import WINDOW, PairedVideos, RealAndSynthetic, require_window, video_clips
from llve_tcenet.fast import combine, part
from llve_tcenet.network import TCENet, initialise
from llve_tcenet.objective import Features, FlowEstimator, spatial_losses, temporal_consistency
from llve_tcenet.pictures import write_pictures
from llve_tcenet.weights import (
    load_optimizer,
    network_arguments,
    published_checkpoint,
    trained_weights,
)

log = logging.getLogger(__name__)

# What six frames give, as offsets from the first output's frame.
INPUTS = (-2, -1, 0, 1, 2, 3)
OUTPUTS = (0, 1)

# The first frame of the window that the published quick validation looks at; it gives frame 4.
_QUICK = 2


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """Six frames (N, 6, 3, H, W) in [0, 1] to the middle two (N, 2, 3, H, W), not bounded."""
    first, second = network(frames)
    return torch.stack([first, second], dim=1)


def inference_network(state: State, settings: object = None) -> nn.Module:
    """The network of the width and depth that the weights have."""
    return TCENet(**network_arguments(state))


def build_network(settings: TrainSettings) -> nn.Module:
    """The network with the published initial weights, or with the ones to start from.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    network = TCENet(**settings.network.model_dump())
    initialise(network)
    start_from(network, settings.weights, ABOUT)
    return network


def training_set(settings: TrainSettings) -> RealAndSynthetic:
    """Real and synthetic pairs, side by side; of your own pairs, the same are both.

    Raises:
        ConfigError: a process gets too little of a batch.
        DataError: a folder is missing, names do not match, or a video is too short.
    """
    chosen, count = settings.train, processes().count
    if chosen.batch_size // count < 2 * chosen.accumulate:
        raise ConfigError(
            "every process needs at least 2 samples of a part of a batch, for batch norm",
            where="train.batch_size",
            got=f"{chosen.batch_size} for {count} processes, in parts: {chosen.accumulate}",
            expected=f"at least {2 * count * chosen.accumulate}",
        )
    scales = (chosen.scale_min, chosen.scale_max)
    own = [clip.at_least(WINDOW) for clip in training_pairs(settings.pairs, "video")]
    real, synthetic = (
        PairedVideos(own or video_clips(each.low, each.normal, each.list), chosen.crop, scales)
        for each in (settings.data.real, settings.data.synthetic)
    )
    return RealAndSynthetic(real, synthetic, chosen.repeat, chosen.batch_size)


def objective(settings: TrainSettings, device: torch.device) -> Objective:
    """The spatial losses of the real pair and the temporal one of the synthetic clip.

    Raises:
        CheckpointError: the weights of RAFT or VGG-19 cannot be read or do not fit.
    """
    chosen, features = settings.objective, None
    if chosen.perceptual:
        vgg = load_vgg19(weights_file(chosen.vgg, ABOUT)).to(device)
        features = partial(perceptual_features, vgg)
    flow = build_flow(chosen.flow, chosen.raft, device)
    if processes().first:
        for notice in notices(chosen):
            log.warning(notice)
    return stcl(features, flow)


def notices(chosen: ObjectiveSettings) -> list[str]:
    """What this objective lacks of the published one."""
    said = []
    if not chosen.perceptual:
        said.append("training without the perceptual loss (objective.perceptual=off)")
    if chosen.flow == "dis":
        said.append("the temporal loss uses DIS flow, not RAFT (objective.flow=dis): no gradient")
    return said


def stcl(features: Features | None, flow: FlowEstimator) -> Objective:
    """The objective with its auxiliary networks given."""

    def losses(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        # In this order, which batch norm's running statistics depend on.
        first, second = network(batch["synthetic"]["low"])
        still = network(batch["real"]["low"])
        return {
            **spatial_losses(still, batch["real"]["target"].unbind(1), features),
            "temporal": temporal_consistency(first, second, flow),
        }

    return losses


def perceptual_features(vgg: Vgg19Features, image: Tensor) -> list[Tensor]:
    """What the perceptual loss compares: the normalised image, and VGG-19's features of it."""
    normalised = imagenet_normalised(image)
    return [normalised, *vgg(normalised)]


def build_flow(name: FlowName, chosen: RaftSettings, device: torch.device) -> FlowEstimator:
    """RAFT, or dense inverse search where it is chosen.

    Raises:
        CheckpointError: RAFT's weights are missing or do not fit: it never runs without.
    """
    if name == "dis":
        return dis_flow_of
    raft: Raft = load_raft(chosen.weights, statistics=chosen.statistics).to(device)
    return partial(raft_flow, raft, image_range=chosen.image_range, iterations=chosen.iterations)


def dis_flow_of(first: Tensor, second: Tensor) -> Tensor:
    """Dense inverse search on the 8-bit images of two batches (N, 3, H, W); no gradient."""
    flows = [
        torch.from_numpy(dis_flow(_pixels(one), _pixels(other)))
        for one, other in zip(first.detach(), second.detach(), strict=True)
    ]
    return torch.stack(flows).movedim(-1, 1).to(first.device)


def adam(settings: TrainSettings, network: nn.Module) -> Optimizer:
    """Adam with L2 weight decay, its state as the weights' file has it where that is wanted.

    Raises:
        CheckpointError: it is wanted, and the file has none that fits.
    """
    chosen = settings.train
    optimizer = torch.optim.Adam(
        network.parameters(),
        chosen.lr,
        (chosen.beta1, chosen.beta2),
        weight_decay=chosen.weight_decay,
    )
    if settings.weights is not None and settings.optimizer_state:
        path = weights_file(settings.weights, ABOUT)
        load_optimizer(optimizer, read_file(path), path)
    return optimizer


def set_rate(settings: TrainSettings, optimizer: Optimizer, progress: Progress) -> None:
    """The full rate, then by equal steps an epoch to zero in the last one."""
    chosen = settings.train
    late = max(0, progress.epochs - chosen.decay_after) if chosen.decay else 0
    for group in optimizer.param_groups:
        group["lr"] = chosen.lr * max(0.0, 1 - late / chosen.decay_epochs)


def train_plan(settings: TrainSettings, epoch_length: int) -> Plan:
    """Weights, a checkpoint and a quick validation after every epoch."""
    return Plan(
        iterations=settings.train.epochs * epoch_length,
        weights_every=settings.train.save_every * epoch_length,
        checkpoint_every=epoch_length,
        preview_every=settings.data.validation.every * epoch_length,
        validate_every=settings.data.validation.every * epoch_length,
    )


def validation_clips(settings: TrainSettings) -> list[Clip]:
    """The test videos, cut to the window that the published quick validation looks at.

    They are those given, or the real ones of ``test_list.txt`` beside the real ones' list, as far
    as they are there.
    """
    chosen, real = settings.data.validation, settings.data.real
    if settings.pairs.low is not None:
        return [_quick(clip.at_least(WINDOW)) for clip in held_out_pairs(settings.pairs, "video")]
    if chosen.low is not None:
        return [_quick(clip) for clip in video_clips(chosen.low, chosen.normal, chosen.list)]
    if real.list is None or not (listed := real.list.parent / "test_list.txt").is_file():
        return []
    return [_quick(clip) for clip in video_clips(real.low, real.normal, listed, as_far=True)]


def _quick(clip: Clip) -> Clip:
    """Frames 2 to 7 of a clip, or the last six where it has fewer."""
    require_window(clip)
    start = min(_QUICK, len(clip.frames) - WINDOW)
    part = slice(start, start + WINDOW)
    return Clip(clip.name, clip.frames[part], clip.targets and clip.targets[part])


def test_videos(settings: TestSettings, window: Window) -> list[Clip]:
    """The videos of the settings' folder, those on the list or all."""
    return video_clips(settings.data.low, settings.data.normal, settings.data.list)


def test_weights(settings: TestSettings) -> Path | None:
    """The file given, or that of a training by its version; None is the bundled one.

    Raises:
        CheckpointError: a training is named, and it left none.
    """
    if settings.weights is not None:
        return settings.weights
    try:
        return trained_weights(settings.version, settings.epoch, settings.runs, settings.models)
    except CheckpointError:
        if settings.model_fields_set & {"version", "epoch", "runs", "models"}:
            raise
        return None


def scoring(settings: TestSettings, device: torch.device) -> Scoring:
    """Without a clip's ends, as published, and with the temporal scores.

    Raises:
        CheckpointError: RAFT's weights are given but cannot be read, or do not fit.
    """
    flow = warping_flow(settings.metric_raft, device)
    return Scoring(settings.ssim, inner=not settings.pad, fsim=settings.fsim, flow=flow)


def flow_pictures(settings: TestSettings, device: torch.device) -> Details | None:
    """Flow, warped frame and mask of every window, where they are asked for.

    Raises:
        CheckpointError: RAFT's weights are missing or do not fit.
    """
    if not settings.pictures:
        return None
    flow = build_flow(settings.flow, settings.raft, device)
    name = "DIS" if settings.flow == "dis" else f"RAFT, {settings.raft.weights}"

    def details(model: Model, clips: Sequence[Clip]) -> list[Detail]:
        count = sum(write_pictures(model, flow, clip, settings.folder) for clip in clips)
        return [Detail(f"flow, warped frame and mask of {count} windows, by {name}")]

    return details


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    return np.asarray(to_pixels(image, "round"), np.uint8)


PAPER = Paper(
    **vars(ABOUT),
    network=inference_network,
    enhance=enhance,
    # Layer norms over the whole frame: every pixel can change every other one.
    window=lambda network, settings: Window(INPUTS, OUTPUTS, MULTIPLE, REMAINDERS),
    rounding="truncate",
    procedures={
        "train": Procedure(
            name="Train",
            settings=TrainSettings,
            network=build_network,
            data=training_set,
            objective=objective,
            optimizer=adam,
            plan=train_plan,
            schedule=set_rate,
            weights_name="models/{settings.version}_epoch_{epochs}.pth",
            validation=validation_clips,
            scoring=Scoring(inner=True),
            published=lambda settings, network, optimizer, progress: published_checkpoint(
                network, optimizer, progress.epochs, settings.train.lr
            ),
        )
    },
    test=Test(
        settings=TestSettings,
        clips=test_videos,
        weights=test_weights,
        pictures=lambda settings: Pictures(files_below(settings.folder / "frames")),
        scoring=scoring,
        details=flow_pictures,
    ),
    to_published=lambda state: {"G_net": dict(state)},
    stream=Stream(frames=(-2, -1, 0, 1, 2), part=part, combine=combine),
)
