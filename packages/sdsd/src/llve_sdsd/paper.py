"""SDSD bound to the core's contract."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from llve_common.data.sdsd.windows import Windows
from llve_common.enhance.frames import pad_to_fit
from llve_common.paper.contract import (
    Batch,
    Clip,
    Objective,
    Paper,
    Pictures,
    Procedure,
    Progress,
    Scoring,
    State,
    Stream,
    Test,
    Window,
    files_below,
)
from llve_common.train.schedule import plan_by_iterations, set_rates
from llve_common.weights.network import start_from
from llve_sdsd.config import ABOUT, Data, TestSettings, TrainSettings
from llve_sdsd.data import test_clips, training_set, validation_clips
from llve_sdsd.fast import combine, part
from llve_sdsd.network import MULTIPLE, Decomposition, RetinexNet
from llve_sdsd.objective import LOSSES, supervised_losses
from llve_sdsd.pixels import begin_with_pixels
from llve_sdsd.weights import network_arguments

_FUSION = "tsa_fusion."


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """Windows (N, T, 3, H, W) in [0, 1] to (N, 1, 3, H, W), enhanced, not clipped."""
    decomposed: Decomposition = network(frames)
    return decomposed.enhanced[:, None]


def inference_network(state: State, settings: object = None) -> nn.Module:
    """The network that weights are of."""
    return RetinexNet(**network_arguments(state))


def window(network: nn.Module, settings: TrainSettings | TestSettings | None = None) -> Window:
    """The network's frames around the middle one, and the data's border."""
    assert isinstance(network, RetinexNet)
    half = network.center
    # The attention sees ever larger surroundings, and alignment reaches as far as it likes.
    return Window(
        inputs=tuple(range(-half, half + 1)),
        multiple=MULTIPLE,
        border=Data().border if settings is None else settings.data.border,
    )


def build_network(settings: TrainSettings) -> nn.Module:
    """A new network, with the weights to start from where there are any.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    chosen = settings.network.model_dump()
    begin = chosen.pop("begin")
    network = RetinexNet(nframes=chosen.pop("frames"), **chosen)
    if begin == "pixels":
        begin_with_pixels(network, settings.objective.exposure)
    start_from(network, settings.weights, ABOUT)
    return network


def objective(settings: TrainSettings, device: torch.device) -> Objective:
    """Eq. 3 to 6 on the window and on its noisier copy."""

    def losses(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        chosen = settings.objective
        return supervised_losses(
            network, batch["frames"], batch["target"],
            criterion=chosen.criterion, pixel_weight=chosen.weight,
            exposure=chosen.exposure, denoised_weight=chosen.denoised,
        )  # fmt: skip

    return losses


def adam(settings: TrainSettings, network: nn.Module) -> torch.optim.Optimizer:
    """Adam; where the fusion learns alone first, it is a second group of parameters."""
    groups: list[list[nn.Parameter]] = [[], []] if settings.train.fusion_only else [[]]
    for name, parameter in network.named_parameters():
        groups[-1 if name.startswith(_FUSION) else 0].append(parameter)
    return torch.optim.Adam([{"params": group} for group in groups], **settings.train.adam)


def schedule(settings: TrainSettings, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """The schedule's rates; all but the fusion's are 0 at first, while Adam's moments gather."""
    set_rates(settings.train.schedule, optimizer, progress.iteration)
    if progress.iteration < settings.train.fusion_only:
        optimizer.param_groups[0]["lr"] = 0.0


def previews(
    settings: TrainSettings, network: nn.Module, progress: Progress, clips: Sequence[Clip]
) -> Iterator[tuple[str, Tensor]]:
    """Of a frame of the first test clip: input, enhanced, illumination and target, stacked."""
    for clip in clips[:1]:
        frames = settings.network.frames
        data = Windows([clip.at_least(frames)], frames=frames, border=settings.data.border)
        sample = data.sample(len(data) // 2, random.Random(0))  # noqa: S311  (draws nothing)
        device = next(network.parameters()).device
        window, target = sample["frames"][None].to(device), sample["target"].to(device)
        height, width = target.shape[-2:]
        found: Decomposition = network(pad_to_fit(window, Window(multiple=MULTIPLE)))
        made = [each[0, :, :height, :width] for each in (found.enhanced, found.illumination)]
        centre = window[0, frames // 2]
        yield f"val_images/{progress.iteration:06d}.png", torch.cat([centre, *made, target], 1)


def test_pictures(settings: TestSettings) -> Pictures:
    """Enhanced and input frames."""
    images = settings.folder / "images"
    return Pictures(files_below(images / "output"), files_below(images / "input"))


PAPER = Paper(
    **vars(ABOUT),
    network=inference_network,
    enhance=enhance,
    window=window,
    rounding="half-even",
    procedures={
        "train": Procedure(
            name="Train",
            settings=TrainSettings,
            network=build_network,
            data=training_set,
            objective=objective,
            optimizer=adam,
            plan=plan_by_iterations,
            schedule=schedule,
            previews=previews,
            validation=validation_clips,
            scoring=Scoring("gaussian11"),
            weights_name="models/{iteration}_G.pth",
            sums=lambda settings: LOSSES,
            latest_name="models/latest_G.pth",
            enlarge=200,
        )
    },
    test=Test(
        settings=TestSettings,
        clips=test_clips,
        pictures=test_pictures,
        root=lambda settings: settings.data.root,
    ),
    stream=Stream(frames=(0,), part=part, combine=combine),
)
