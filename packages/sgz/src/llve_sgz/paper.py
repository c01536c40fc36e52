"""SGZ bound to the core's contract."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from llve_common.clips.clip import image_clips
from llve_common.clips.folders import below_root, list_images
from llve_common.data.pairs import held_out_pairs, training_images
from llve_common.io.images import WRITTEN
from llve_common.machine.processes import processes
from llve_common.paper.contract import (
    Batch,
    Clip,
    Objective,
    Paper,
    Pictures,
    Plan,
    Procedure,
    Scoring,
    State,
    Test,
    Window,
)
from llve_common.weights.network import start_from
from llve_common.weights.published import weights_file
from llve_sgz.browser import shaders
from llve_sgz.config import ABOUT, TEST_SCALE, SegmentationSettings, TestSettings, TrainSettings
from llve_sgz.data import LowLightImages, fitting_size
from llve_sgz.fast import fuse, prepare
from llve_sgz.network import Enhancer, Segmenter
from llve_sgz.objective import enhancement_losses
from llve_sgz.weights import conv_type_of, load_segmenter

log = logging.getLogger(__name__)


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
    if settings.load_pretrain is not False:
        start_from(network, settings.weights, ABOUT)
    return network


def training_set(settings: TrainSettings) -> LowLightImages:
    """The images directly in the folder, at the multiple of the scale factor nearest to their size.

    Raises:
        ConfigError: the scale factor is larger than the size.
        DataError: the folder is missing or holds no image.
        MediaError: a file is no image.
    """
    wanted, scale = settings.data.size, settings.network.scale_factor
    size = fitting_size(wanted, scale)
    if size != wanted and processes().first:
        log.warning(
            "training images are resized to %dx%d, not %dx%d: the sides have to be multiples of "
            "the scale factor %d", size, size, wanted, wanted, scale,
        )  # fmt: skip
    own = training_images(settings.pairs)
    return LowLightImages(own or list_images(settings.data.train), size)


def objective(settings: TrainSettings, device: torch.device) -> Objective:
    """The sum of all losses; the segmentation network is frozen, and in train mode as published."""
    segmenter = build_segmenter(settings.segmentation, device)
    chosen = settings.objective

    def losses(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        enhanced, factor = network(batch["low"])
        return enhancement_losses(
            batch["low"], enhanced, factor,
            exposure_level=chosen.exp_level, patch_size=chosen.patch_size, segmenter=segmenter,
        )  # fmt: skip

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
        load_segmenter(segmenter, weights_file(chosen.weights, ABOUT))
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
        preview_every=epoch_length,
        validate_every=epoch_length,
    )


def inference_network(state: State, settings: TestSettings | None = None) -> nn.Module:
    """The enhancer of these weights, at the test's scale factor: weights do not tell it."""
    scale = TEST_SCALE if settings is None else settings.scale_factor
    return Enhancer(scale, conv_type_of(state))


def window(network: nn.Module, settings: object = None) -> Window:
    """Sides are multiples of the network's scale factor."""
    scale = network.scale_factor
    assert isinstance(scale, int)
    # Seven convolutions, or the whole reduced frame: corners are aligned when it is enlarged.
    return Window(multiple=scale, halo=7 if scale == 1 else None)


def test_pictures(settings: TestSettings) -> Pictures:
    """The enhanced images, under the names that the images have in their folder.

    What cannot be written in the image's own format becomes a PNG.
    """
    low, folder = settings.data.low, settings.folder

    def name(clip: Clip, frame: Path) -> Path:
        suffix = frame.suffix if frame.suffix.lower() in WRITTEN else ".png"
        return folder / below_root(frame, low).with_suffix(suffix)

    return Pictures(name)


PAPER = Paper(
    **vars(ABOUT),
    network=inference_network,
    enhance=enhance,
    window=window,
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
            validation=lambda settings: held_out_pairs(settings.pairs, "image"),
            scoring=Scoring(fit="crop"),
        )
    },
    test=Test(
        settings=TestSettings,
        clips=lambda settings, window: image_clips(settings.data.low, settings.data.high),
        pictures=test_pictures,
        scoring=lambda settings, device: Scoring(settings.ssim, fit="crop"),
    ),
    prepare=prepare,
    fuse=fuse,
    shaders=shaders,
)
