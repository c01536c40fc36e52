"""SGZ bound to the core's contract."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from llve_common.machine.processes import processes
from llve_common.paper.contract import Batch, Objective, Paper, Plan, Procedure, State, Window
from llve_common.weights.files import load_into, read_weights
from llve_sgz.config import SegmentationSettings, TestSettings, TrainSettings
from llve_sgz.data import LowLightImages, fitting_size
from llve_sgz.fast import prepare
from llve_sgz.network import Enhancer, Segmenter
from llve_sgz.objective import enhancement_losses
from llve_sgz.weights import conv_type_of, from_published, load_segmenter, to_published

log = logging.getLogger(__name__)

BUNDLED = "sgz-synthetic.safetensors"
TEST_SCALE = 12


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """Frames (N, 1, 3, H, W) in [0, 1] to the same, enhanced, not clipped."""
    enhanced: Tensor = network(frames[:, 0])[0]
    return enhanced[:, None]


def build_network(settings: TrainSettings) -> nn.Module:
    """A new network, with PyTorch's initial weights as published, or with the weights given.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    network = Enhancer(settings.network.scale_factor, settings.network.conv_type)
    if settings.weights is not None and settings.load_pretrain is not False:
        load_into(network, from_published(read_weights(settings.weights)), settings.weights)
    return network


def training_set(settings: TrainSettings) -> LowLightImages:
    """The folder's images, at the multiple of the scale factor that is nearest to their size.

    Raises:
        ConfigError: the scale factor is larger than the size.
        DataError: the folder is missing or holds no image.
        MediaError: a file is no image.
    """
    size = fitting_size(settings.data.size, settings.network.scale_factor)
    if size != settings.data.size and processes().first:
        log.warning(
            "training images are resized to %dx%d, not %dx%d: the sides have to be multiples of "
            "the scale factor %d",
            *(size, size, settings.data.size, settings.data.size, settings.network.scale_factor),
        )
    return LowLightImages(settings.data.train, size)


def objective(settings: TrainSettings, device: torch.device) -> Objective:
    """The sum of all losses; the segmentation network is frozen, and in train mode as published."""
    segmenter = build_segmenter(settings.segmentation, device)
    chosen = settings.objective

    def losses(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        enhanced, factor = network(batch["low"])
        return enhancement_losses(
            batch["low"],
            enhanced,
            factor,
            exposure_level=chosen.exp_level,
            patch_size=chosen.patch_size,
            segmenter=segmenter,
        )

    return losses


def build_segmenter(chosen: SegmentationSettings, device: torch.device) -> Segmenter | None:
    """The segmentation network, or None where it is not to be used.

    Raises:
        CheckpointError: its weights cannot be read or do not fit.
    """
    if not chosen.use:
        return None
    segmenter = Segmenter(chosen.classes)
    if chosen.weights is not None:
        load_segmenter(segmenter, chosen.weights)
    elif processes().first:
        log.warning(
            "the segmentation network is at random initialisation, so its loss means little; give "
            "an ImageNet ResNet-50 file (--seg-weights), or leave the branch out (--no-seg)"
        )
    # Train mode is the published one: each batch is normalised by its own statistics.
    return segmenter.requires_grad_(False).to(device).train()


def adam(settings: TrainSettings, network: nn.Module) -> torch.optim.Optimizer:
    """Adam with L2 weight decay."""
    chosen = settings.train
    return torch.optim.Adam(network.parameters(), lr=chosen.lr, weight_decay=chosen.weight_decay)


def train_plan(settings: TrainSettings, epoch_length: int) -> Plan:
    """Weights as published, every ten iterations, but in every epoch at least once."""
    return Plan(
        iterations=settings.train.epochs * epoch_length,
        weights_every=min(settings.train.snapshot_every, epoch_length),
        checkpoint_every=epoch_length,
    )


def at_scale(scale_factor: int) -> Paper:
    """The paper with the scale factor that enhancing uses; the published test's is 12."""

    def network(state: State) -> nn.Module:
        return Enhancer(scale_factor, conv_type_of(state))

    # Seven convolutions, or the whole reduced frame: corners are aligned when it is enlarged.
    halo = 7 if scale_factor == 1 else None
    return Paper(
        name="sgz",
        title="SGZ (Zheng and Gupta, WACV 2022)",
        package="llve_sgz",
        network=network,
        enhance=enhance,
        window=Window(inputs=(0,), outputs=(0,), multiple=scale_factor, halo=halo),
        rounding="round",
        procedures={
            "train": Procedure(
                name="Train",
                settings=TrainSettings,
                network=build_network,
                data=training_set,
                objective=objective,
                optimizer=adam,
                plan=train_plan,
                weights_name="Epoch{epoch}.pth",
            )
        },
        test_settings=TestSettings,
        to_published=to_published,
        from_published=from_published,
        bundled=BUNDLED,
        prepare=None if scale_factor == 1 else prepare,
    )


PAPER = at_scale(TEST_SCALE)
