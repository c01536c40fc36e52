"""STCD bound to the core's contract."""

import logging
import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from llve_common.data.pairs import held_out_pairs, training_pairs
from llve_common.data.sdsd.layout import test_clips, training_clips, validation_clips
from llve_common.data.sdsd.windows import require_whole_batch
from llve_common.enhance.frames import pad_to_fit
from llve_common.io.images import to_tensor
from llve_common.machine.processes import processes
from llve_common.paper.contract import (
    Batch,
    Clip,
    Detail,
    Details,
    Model,
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
from llve_stcd.config import ABOUT, TestSettings, TrainSettings
from llve_stcd.data import FramePairs
from llve_stcd.fast import combine, part
from llve_stcd.matchers import CachedMatcher, dis_matches, make_matcher, match_frames
from llve_stcd.network import MULTIPLE, STCD, Decomposition
from llve_stcd.objective import decomposition_loss, summed
from llve_stcd.picture import decomposition_pictures

log = logging.getLogger(__name__)


def inference_network(state: State, settings: object = None) -> nn.Module:
    """The network of the width and depth that the weights, whose published names are ours, have.

    Where the weights are foreign, its width is the published one.
    """
    first = state.get("conv_first_1.weight")
    blocks = {key.split(".")[1] for key in state if key.startswith("feature_extraction.")}
    return STCD(64 if first is None else len(first), len(blocks))


def enhance(network: nn.Module, frames: Tensor) -> Tensor:
    """The first of two frames (N, 2, 3, H, W) in [0, 1], enhanced: (N, 1, 3, H, W)."""
    found: Decomposition = network(frames[:, 0], frames[:, 1])
    return found.enhanced1[:, None]


def decomposed(network: nn.Module, first: Tensor, second: Tensor) -> Decomposition:
    """Two frames of any size, (N, 3, H, W) in [0, 1], taken apart; each part has their size."""
    height, width = first.shape[-2:]
    pair = pad_to_fit(torch.stack([first, second], 1), WINDOW)
    found: Decomposition = network(pair[:, 0], pair[:, 1])
    return Decomposition(*(part[..., :height, :width] for part in found))


def build_network(settings: TrainSettings) -> nn.Module:
    """A new network, with the weights to start from where there are any.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    network = STCD(settings.network.nf, settings.network.front_blocks)
    start_from(network, settings.weights, ABOUT)
    return network


def training_set(settings: TrainSettings) -> FramePairs:
    """Pairs of frames of the training clips, and what the processor can match without a cache.

    Raises:
        ConfigError: the batch is larger than the set.
        DataError: a folder is missing, or clips or frames do not match.
    """
    own = training_pairs(settings.pairs, "video")
    chosen = settings.objective.matcher
    by_loader = chosen.kind == "dis" and chosen.cache is None
    match = partial(match_frames, dis_matches, chosen.size) if by_loader else None
    data = FramePairs(own or training_clips(settings.data), match)
    require_whole_batch(len(data), settings.train.batch_size)
    return data


def validation_set(settings: TrainSettings) -> list[Clip]:
    """The clips to validate with.

    Raises:
        DataError: a folder is missing, or clips or frames do not match.
    """
    if settings.pairs.low is not None:
        return held_out_pairs(settings.pairs, "video")
    return validation_clips(settings.data)


def objective(settings: TrainSettings, device: torch.device) -> Objective:
    """All terms on a pair; the matcher sees its ground truth, unless it was matched with the data.

    Raises:
        CheckpointError: the matcher's weights are missing or do not fit.
        ConfigError: the matcher's package is missing, or another one has its name.
    """
    chosen = settings.objective
    matcher, name = make_matcher(
        chosen.matcher.kind, chosen.matcher.weights, chosen.matcher.place, device
    )
    if chosen.matcher.kind == "dis" and processes().first:
        log.warning("training by dense inverse search (dis), not by DKM as published: %s", name)
    log.info("matcher: %s", name)
    cached = None
    if chosen.matcher.cache is not None:
        matcher = cached = CachedMatcher(matcher, name, chosen.matcher.cache)

    def losses(network: nn.Module, batch: Batch, iteration: int) -> dict[str, Tensor]:
        highs = batch["high1"], batch["high2"]
        matches = batch.get("matches") or match_frames(matcher, chosen.matcher.size, *highs)
        if cached is not None and iteration % settings.run.log_every == 0:
            log.info("%s", cached.summary())
        return decomposition_loss(
            network(batch["low1"], batch["low2"]), *highs, *matches,
            criterion=chosen.criterion, pixel_weight=chosen.pixel_weight,
        )  # fmt: skip

    return losses


def adam(settings: TrainSettings, network: nn.Module) -> torch.optim.Optimizer:
    """Adam."""
    return torch.optim.Adam(network.parameters(), **settings.train.adam)


def schedule(settings: TrainSettings, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """One cosine period, then its last rate."""
    set_rates(settings.train.schedule, optimizer, progress.iteration)


def previews(
    settings: TrainSettings, network: nn.Module, progress: Progress, clips: Sequence[Clip]
) -> Iterator[tuple[str, Tensor]]:
    """Of a frame of the first test clip: input, its two parts, enhanced and target, stacked."""
    for clip in clips[:1]:
        sample = FramePairs([clip]).sample(0, random.Random(0))  # noqa: S311
        device = next(network.parameters()).device
        low, high, other = (sample[name][None].to(device) for name in ("low1", "high1", "low2"))
        found = decomposed(network, low, other)
        stacked = torch.cat([low, found.rgb1, found.ill1, found.enhanced1, high], 2)
        yield f"val_images/{progress.iteration:06d}.png", stacked[0]


# As published, the last frame is paired with itself. Attention is over all pixels: no halo.
WINDOW = Window(inputs=(0, 1), outputs=(0,), multiple=MULTIPLE, border="replicate")


def test_pictures(settings: TestSettings) -> Pictures:
    """Enhanced frames, input and ground truth."""
    images = settings.folder / "images"
    return Pictures(
        files_below(images / "output"), files_below(images / "input"), files_below(images / "GT")
    )


def test_details(settings: TestSettings, device: torch.device) -> Details:
    """What the first clip's middle frame is taken apart into."""

    def details(model: Model, clips: Sequence[Clip]) -> list[Detail]:
        clip = clips[0]
        middle = (clip.count or 1) // 2
        # The last frame is paired with itself.
        found = [to_tensor(frame.image.pixels)[None] for frame in islice(clip.read(middle), 2)]
        pair = [frame.to(device) for frame in (found[0], found[-1])]
        with torch.inference_mode():
            parts = decomposed(model.network, *pair)
        text = "is its view-independent part times its shading"
        name = f"{clip.name}, {clip.file(middle).name}"
        return [Detail(f"{name}: a frame {text}", decomposition_pictures(pair[0], parts))]

    return details


PAPER = Paper(
    **vars(ABOUT),
    network=inference_network,
    enhance=enhance,
    window=lambda network, settings: WINDOW,
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
            validation=validation_set,
            scoring=Scoring("gaussian11"),
            weights_name="models/{iteration}_G.pth",
            sums=lambda settings: summed(settings.objective.criterion),
            latest_name="models/latest_G.pth",
            enlarge=200,
        )
    },
    test=Test(
        settings=TestSettings,
        clips=lambda settings, window: test_clips(settings.data),
        pictures=test_pictures,
        root=lambda settings: settings.data.root,
        details=test_details,
    ),
    stream=Stream(frames=(0,), part=part, combine=combine),
)
