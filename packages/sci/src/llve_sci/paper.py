"""SCI bound to the core's contract."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from llve_common.clips.clip import image_clips
from llve_common.clips.folders import below_root, list_images
from llve_common.data.pairs import held_out_pairs, training_images
from llve_common.io.images import image_size, read_image, to_tensor
from llve_common.paper.contract import (
    Batch,
    Clip,
    Objective,
    Paper,
    Pictures,
    Plan,
    Procedure,
    Progress,
    State,
    Test,
    Window,
)
from llve_common.weights.files import load_into, read_weights
from llve_common.weights.network import bundled_weights
from llve_common.weights.published import weights_file
from llve_sci.browser import shaders
from llve_sci.config import ABOUT, FinetuneSettings, TestSettings, TrainSettings
from llve_sci.data import LowLightImages
from llve_sci.fast import fuse, prepare
from llve_sci.network import Cascade, Enhancer, divide, initialise
from llve_sci.objective import illumination_loss
from llve_sci.weights import from_published, to_published


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """One pass of the estimator: frames (N, 1, 3, H, W) in [0, 1] to the same, enhanced."""
    image = frames[:, 0]
    return divide(image, network.enhance(image))[:, None]  # type: ignore[operator]


def inference_network(state: State, settings: object = None) -> nn.Module:
    """The estimator alone, or the whole cascade where the weights hold its calibration."""
    return Cascade() if any(key.startswith("calibrate.") for key in state) else Enhancer()


def build_cascade(settings: TrainSettings) -> nn.Module:
    """The cascade with the published initial weights."""
    network = Cascade(settings.network.stages)
    initialise(network)
    return network


def build_finetuned(settings: FinetuneSettings) -> nn.Module:
    """The estimator with the weights to start from.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    path = weights_file(settings.weights or bundled_weights(ABOUT), ABOUT)
    state = from_published(read_weights(path))
    network = Enhancer()
    load_into(network, {k: v for k, v in state.items() if k.startswith("enhance.")}, path)
    return network


def cascade_objective(settings: TrainSettings, device: torch.device) -> Objective:
    """The sum of the stages' losses, each stage on its own input."""

    def objective(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        stages = network.unroll(batch["low"])  # type: ignore[operator]
        form = settings.objective.ycbcr
        losses = [illumination_loss(each.input, each.illumination, form) for each in stages]
        return {name: torch.stack([each[name] for each in losses]).sum() for name in losses[0]}

    return objective


def finetune_objective(settings: FinetuneSettings, device: torch.device) -> Objective:
    """The loss of the estimator alone."""
    freeze_after = settings.train.freeze_after

    def objective(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        # Evaluation mode from the first preview on, where the published script stays in it.
        network.train(freeze_after is None or iteration <= freeze_after)
        illumination, _ = network(batch["low"])
        return illumination_loss(batch["low"], illumination, settings.objective.ycbcr)

    return objective


def adam(settings: TrainSettings | FinetuneSettings, network: nn.Module) -> torch.optim.Optimizer:
    """Adam with L2 weight decay."""
    chosen = settings.train
    return torch.optim.Adam(
        network.parameters(), lr=chosen.lr, betas=chosen.betas, weight_decay=chosen.weight_decay
    )


def train_plan(settings: TrainSettings, epoch_length: int) -> Plan:
    """Weights, previews and validation after every epoch."""
    data = settings.data
    validate_every = data.validation.every * epoch_length
    return Plan(
        iterations=settings.train.epochs * epoch_length,
        weights_every=epoch_length,
        checkpoint_every=epoch_length,
        preview_every=epoch_length if data.preview else validate_every,
        validate_every=validate_every,
    )


def finetune_plan(settings: FinetuneSettings, epoch_length: int) -> Plan:
    """Previews every ten iterations; weights, which the published script never kept, with them."""
    every = settings.train.preview_every
    return Plan(settings.train.epochs * epoch_length, every, every, preview_every=every)


def training_set(settings: TrainSettings) -> LowLightImages:
    """The images of the folder and its subfolders, in the order of their paths as plain strings.

    Raises:
        DataError: the folder is missing or empty, or an image is too small for the objective.
        MediaError: a file is no image.
    """
    own = training_images(settings.pairs)
    return LowLightImages(own or list_images(settings.data.train, recursive=True))


def train_previews(
    settings: TrainSettings, network: nn.Module, progress: Progress, clips: Sequence[Clip]
) -> Iterator[tuple[str, Tensor]]:
    """The first stage's reflectance of every preview image."""
    if settings.data.preview is not None:
        for path, image in _enhanced(settings.data.preview, network):
            yield f"image_epochs/{path.stem}_{progress.epoch}.png", image


def finetune_previews(
    settings: FinetuneSettings, network: nn.Module, progress: Progress, clips: Sequence[Clip]
) -> Iterator[tuple[str, Tensor]]:
    """Every image of the folder, enhanced."""
    for path, image in _enhanced(settings.data.train, network):
        yield f"image_steps/{path.stem}_{progress.iteration}_ref_.png", image


def validation_clips(settings: TrainSettings) -> list[Clip]:
    """The validation pairs as one clip, or none; the preview's images are looked at too."""
    chosen, preview = settings.data.validation, settings.data.preview
    for path in [] if preview is None else list_images(preview, recursive=True):
        image_size(path)
    if settings.pairs.low is not None:
        return held_out_pairs(settings.pairs, "image")
    return [] if chosen.low is None else image_clips(chosen.low, chosen.high)


def test_pictures(settings: TestSettings) -> Pictures:
    """The enhanced images, under the names that the images have in their folder."""
    low, folder = settings.data.low, settings.folder
    return Pictures(lambda clip, frame: folder / below_root(frame, low).with_suffix(".png"))


def _enhanced(folder: Path, network: nn.Module) -> Iterator[tuple[Path, Tensor]]:
    device = next(network.parameters()).device
    for path in list_images(folder, recursive=True):
        image = to_tensor(read_image(path).pixels).to(device)
        yield path, enhance(network, image[None, None])[0, 0]


PAPER = Paper(
    **vars(ABOUT),
    network=inference_network,
    enhance=enhance,
    window=lambda network, settings: Window(halo=3),
    rounding="truncate",
    procedures={
        "train": Procedure(
            name="Train",
            settings=TrainSettings,
            network=build_cascade,
            data=training_set,
            objective=cascade_objective,
            optimizer=adam,
            plan=train_plan,
            weights_name="model_epochs/weights_{epoch}.pt",
            previews=train_previews,
            validation=validation_clips,
        ),
        "finetune": Procedure(
            name="Finetune",
            settings=FinetuneSettings,
            network=build_finetuned,
            data=lambda settings: LowLightImages(list_images(settings.data.train, recursive=True)),
            objective=finetune_objective,
            optimizer=adam,
            plan=finetune_plan,
            weights_name="model_steps/weights_{iteration}.pt",
            previews=finetune_previews,
        ),
    },
    test=Test(
        settings=TestSettings,
        clips=lambda settings, window: image_clips(settings.data.low, settings.data.high),
        pictures=test_pictures,
    ),
    to_published=to_published,
    from_published=from_published,
    prepare=prepare,
    fuse=fuse,
    shaders=shaders,
)
