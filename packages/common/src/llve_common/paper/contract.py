"""The contract between the core and a paper.

A paper package says, in plain functions and values, what is its own; from that the core makes
training, testing, enhancing, weights and conformance tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from llve_common.config import Settings
from llve_common.data.clip import Clip as Clip  # part of the contract, kept on a lower floor
from llve_common.data.windows import Border
from llve_common.io.images import Pixels, Rounding
from llve_common.metrics.fidelity import Ssim

Sample = dict[str, Any]
"""One training sample: names to tensors, or to samples where a step uses several data sets."""

Batch = dict[str, Any]
"""Samples stacked along a new first dimension, in the same nesting."""

State = dict[str, Tensor]
"""Weights by name."""

Objective = Callable[[nn.Module, Batch, int], dict[str, Tensor]]
"""(network, batch, iteration from 1) to named losses; their sum is minimised."""


class TrainingSet(Protocol):
    """Samples by index. All chance comes from ``rng``, so that a sample can be drawn again."""

    def __len__(self) -> int: ...

    def sample(self, index: int, rng: random.Random) -> Sample:
        """The sample of this index, augmented by draws from ``rng`` alone."""
        ...


@dataclass(frozen=True)
class Window:
    """Which frames go in and which come out, as offsets from the current frame.

    Attributes:
        inputs: consecutive offsets, such as (-2, -1, 0, 1, 2).
        outputs: the offsets of the enhanced frames, such as (0,).
        multiple: height and width are padded to multiples of this.
        remainders: a side is left as it is where its remainder by ``multiple`` is one of these.
        halo: pixels around an output pixel that can change it; None where there is no bound.
        border: what stands in for frames beyond a clip's ends; where a clip is too short for it,
            the mirrored ones do.
    """

    inputs: tuple[int, ...] = (0,)
    outputs: tuple[int, ...] = (0,)
    multiple: int = 1
    remainders: tuple[int, ...] = (0,)
    halo: int | None = None
    border: Border = "reflection"


@dataclass(frozen=True)
class Stream:
    """A network cut in two, so that what neighbouring windows share is computed once.

    Attributes:
        frames: consecutive offsets of the frames that one part looks at, such as (0,).
        parts: consecutive offsets of the parts that a window combines. Offsets of parts and frames
            added up are the window's inputs.
        part: (network, frames (N, len(frames), 3, H, W)) to whatever is to be kept.
        combine: (network, parts, wanted output offsets) to (N, len(wanted), 3, H, W).
    """

    frames: tuple[int, ...]
    parts: tuple[int, ...]
    part: Callable[[nn.Module, Tensor], Any]
    combine: Callable[[nn.Module, list[Any], tuple[int, ...]], Tensor]


def _nothing(pixels: Pixels) -> None:
    """What is needed of a whole frame where nothing is."""


@dataclass(frozen=True)
class Prepared:
    """A network of single frames made ready for a CPU, which takes a frame in blocks of rows.

    Both functions may be called by several threads at once, and neither change nor keep their
    arguments.

    Attributes:
        run: (block (1, 3, h, W) float32 RGB in [0, 1], channels last in memory; the number of its
            first row in the frame; what ``look`` gave) to the enhanced block of the same size.
            Where blocks meet, the result is that of the whole frame but for rounding.
        halo: rows around an output row that can change it.
        look: a whole frame (H, W, 3) RGB, uint8 or uint16, to what its blocks need to know of it.
    """

    run: Callable[[Tensor, int, Any], Tensor]
    halo: int
    look: Callable[[Pixels], Any] = _nothing


@dataclass(frozen=True)
class Plan:
    """When things happen in a run, counted in iterations; None is never."""

    iterations: int
    weights_every: int
    checkpoint_every: int
    preview_every: int | None = None
    validate_every: int | None = None


@dataclass(frozen=True)
class Progress:
    """Where a run stands: after ``iteration`` updates, ``epoch_length`` of them to one epoch."""

    iteration: int
    epoch_length: int

    @property
    def epoch(self) -> int:
        """The epoch of the last update, from 0."""
        return max(self.iteration - 1, 0) // self.epoch_length

    @property
    def epochs(self) -> int:
        """How many epochs have begun: the number of the last update's epoch, from 1."""
        return self.epoch + 1


def _no_schedule(settings: Any, optimizer: Optimizer, progress: Progress) -> None:
    """Leave the learning rate as it is."""


def _train_mode(settings: Any, network: nn.Module, iteration: int) -> None:
    network.train()


def _no_previews(
    settings: Any, network: nn.Module, progress: Progress, clips: Sequence[Clip]
) -> Iterator[tuple[str, Tensor]]:
    return iter(())


def _no_validation(settings: Any) -> list[Clip]:
    return []


P = TypeVar("P", bound=Settings)

Previews = Callable[[P, nn.Module, Progress, Sequence[Clip]], Iterator[tuple[str, Tensor]]]
"""(settings, network, progress, validation's clips) to file names and pictures."""


@dataclass(frozen=True)
class Procedure(Generic[P]):
    """One way of training that a paper publishes.

    Attributes:
        name: as in the run's folder, ``Train``, ``Finetune``.
        settings: the settings class; of its sections the trainer reads ``train``, a
            :class:`~llve_common.config.TrainerSettings`, and ``run``, a
            :class:`~llve_common.config.RunSettings`.
        network: builds the network to optimise; called once the seed is set.
        data: the training set; a paper that mixes several gives samples that hold one of each.
        objective: the losses; frozen auxiliary networks live inside it, on the device given.
        optimizer: one or several parameter groups.
        plan: the run's timetable from the number of iterations in an epoch.
        schedule: sets the optimizer's rates before the update of ``progress.iteration``.
        before_step: sets the network's mode before the step of an iteration, counted from 1. It
            may depend on nothing else, so that a resumed run does the same.
        previews: file name and picture (3, H, W) in [0, 1] to save, from the clips of
            ``validation`` or from elsewhere; called in evaluation mode.
        validation: clips with ground truth to score during training; looked for once in a run, and
            where there is none, nothing is scored, whatever the plan says.
        weights_name: the file name of published weights, with ``{epoch}`` from 0, ``{epochs}``
            from 1, ``{iteration}``, and ``{settings.<name>}``.
        latest_name: a second file name for the weights of the last iteration.
        ssim: the definition that validation uses.
        inner: validation leaves out a clip's ends, where no window within the clip reaches.
        enlarge: how often an epoch goes through the set, in one permutation, as the published
            sampler of several papers does.
        published: what such a file holds, where it is more than the weights by themselves.
    """

    name: str
    settings: type[P]
    network: Callable[[P], nn.Module]
    data: Callable[[P], TrainingSet]
    objective: Callable[[P, torch.device], Objective]
    optimizer: Callable[[P, nn.Module], Optimizer]
    plan: Callable[[P, int], Plan]
    weights_name: str
    schedule: Callable[[P, Optimizer, Progress], None] = _no_schedule
    before_step: Callable[[P, nn.Module, int], None] = _train_mode
    previews: Previews[P] = _no_previews
    validation: Callable[[P], list[Clip]] = _no_validation
    latest_name: str | None = None
    ssim: Ssim = "skimage7"
    inner: bool = False
    enlarge: int = 1
    published: Callable[[P, nn.Module, Optimizer, Progress], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Paper:
    """All that the core knows of a paper.

    Attributes:
        name: the package's and the command's name, such as ``sci``.
        title: the method, its authors' venue and year.
        package: the import name, whose ``configs`` and ``bundled`` folders hold data files.
        network: builds the inference network that a weights file fits, from the weights' shapes.
        enhance: (network, frames (N, T, 3, H, W) RGB in [0, 1]) to (N, outputs, 3, H, W).
        window: what ``enhance`` takes and gives.
        rounding: how the paper's test turns [0, 1] into 8 bits.
        procedures: the ways of training by command name, ``train`` first.
        test_settings: the settings class of ``test``.
        to_published: weights of one of our networks in the published key names.
        from_published: published key names to ours; ours pass unchanged.
        bundled: file name of our own weights in the package, or None.
        stream: the network cut in two, where windows share work.
        prepare: makes a network in evaluation mode ready for frames of any size on a CPU, equal to
            padding, ``enhance`` and cropping but for rounding; later changes to its weights may go
            unseen. None where ``enhance`` serves.
    """

    name: str
    title: str
    package: str
    network: Callable[[State], nn.Module]
    enhance: Callable[[nn.Module, Tensor], Tensor]
    window: Window
    rounding: Rounding
    procedures: Mapping[str, Procedure[Any]]
    test_settings: type[Settings]
    to_published: Callable[[State], State]
    from_published: Callable[[State], State]
    bundled: str | None = None
    stream: Stream | None = None
    prepare: Callable[[nn.Module], Prepared] | None = None
