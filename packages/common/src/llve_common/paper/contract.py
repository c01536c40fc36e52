"""The contract between the core and a paper.

A paper package says, in plain functions and values, what is its own; from that the core makes
training, testing, enhancing, weights and conformance tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from llve_common.clips.clip import Clip as Clip  # part of the contract, kept on a lower floor
from llve_common.clips.windows import Border
from llve_common.config import Precision, Settings, Ssim, TestSettings
from llve_common.io.images import Pixels, Rounding
from llve_common.metrics.temporal import NamedFlow
from llve_common.ops.kernels import Kernel as Kernel
from llve_common.paper.about import About
from llve_common.paper.about import LoadedWeights as LoadedWeights

Sample = dict[str, Any]
"""One training sample: names to tensors, tuples of them, or samples of several data sets."""

Batch = dict[str, Any]
"""Samples stacked along a new first dimension, in the same nesting."""

State = dict[str, Tensor]
"""Weights by name."""

Objective = Callable[[nn.Module, Batch, int], dict[str, Tensor]]
"""(network, batch, iteration from 1) to named losses; their sum is minimised."""


class TrainingSet(Protocol):
    """Samples by index. All chance comes from ``rng``, so that a sample can be drawn again.

    A set may have a ``turn``: an epoch permutes so many of its samples, then the next ones.
    """

    @property
    def files(self) -> Iterable[Path]:
        """What samples are read from: a run that goes on has to find it as it was."""
        ...

    def __len__(self) -> int: ...

    def file(self, index: int) -> Path:
        """What a message calls the sample of this index by."""
        ...

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

    A window combines as many parts as its inputs have room for.

    Attributes:
        frames: consecutive offsets of the frames that one part looks at, such as (0,).
        part: (network, frames (N, len(frames), 3, H, W)) to whatever is to be kept.
        combine: (network, parts in order, wanted output offsets) to (N, len(wanted), 3, H, W).
    """

    frames: tuple[int, ...]
    part: Callable[[nn.Module, Tensor], Any]
    combine: Callable[[nn.Module, list[Any], tuple[int, ...]], Tensor]


DeviceKernel = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A frame (H, W, 3) RGB, uint8 or uint16, contiguous on a CUDA device, to (one like it, enhanced
and rounded as the paper does; one value, which is 0 if all values were numbers). It works on the
device's current stream, waits for nothing, and may be called by several threads at once."""


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
        look: a whole frame (H, W, 3) RGB, uint8 or uint16, to what its blocks need to know of it;
            by default nothing.
        kernel: does all of it for integers without torch, where that can be had.
    """

    run: Callable[[Tensor, int, Any], Tensor]
    halo: int
    look: Callable[[Pixels], Any] = lambda pixels: None
    kernel: Kernel | None = None


@dataclass(frozen=True)
class Pass:
    """One drawing of a network by WebGL2: a shader makes a texture of others.

    A texture's pixel holds four channels; more channels are groups of four, one below the other.
    Its size is the picture's over ``scale``, rounded up.

    Attributes:
        shader: GLSL that follows ``common.glsl`` of :mod:`llve_common.report`.
        inputs: the shader's samplers, each with the texture that it reads: ``frame``, which is the
            picture, or what an earlier pass drew.
        output: the texture's name. The last is ``enhanced``, of 8 bits; the others are float16.
        weights: (n, 4) float32, which the shader finds in ``weights``.
        defines: names that the shader finds as ``#define``.
    """

    shader: str
    inputs: Mapping[str, str]
    output: str
    weights: Tensor | None = None
    defines: Mapping[str, int] = field(default_factory=dict)
    scale: int = 1
    groups: int = 1


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


P = TypeVar("P", bound=Settings)
T = TypeVar("T", bound=TestSettings)

Previews = Callable[[P, nn.Module, Progress, Sequence[Clip]], Iterator[tuple[str, Tensor]]]
"""(settings, network, progress, validation's clips) to file names and pictures."""

Fit = Literal["pad", "crop"]
"""How an image whose sides are no multiples of the window's gets through the network: padded and
cut back to its size, or cropped at the bottom and right, its ground truth alike."""


@dataclass(frozen=True)
class Scoring:
    """How enhanced frames are compared with their ground truth.

    Attributes:
        inner: leave out the frames at a clip's ends that no window within the clip gives.
        fsim: score by FSIM too.
        quality: measure NIQE, LOE, DE, EME and the colour error too.
        distance: LPIPS (:func:`llve_common.weights.pretrained.perceptual_distance`); None: none.
        flow: measure warping error and MABD too, motion by this flow; None: neither.
    """

    ssim: Ssim = "skimage7"
    fit: Fit = "pad"
    inner: bool = False
    fsim: bool = False
    quality: bool = False
    distance: Callable[[Any, Any], float] | None = None
    flow: NamedFlow | None = None


@dataclass(frozen=True)
class Procedure(Generic[P]):
    """One way of training that a paper publishes.

    Attributes:
        name: as in the run's folder, ``Train``, ``Finetune``.
        settings: the settings class; of its sections the
            trainer reads ``train``, a :class:`~llve_common.config.TrainerSettings`, and ``run``, a
            :class:`~llve_common.config.RunSettings`.
        network: builds the network to optimise; called once the seed is set. A run that goes on
            has ``settings.weights`` None here and for ``optimizer``: its checkpoint holds them.
        data: the training set; a paper that mixes several gives samples that hold one of each.
        objective: the losses; frozen auxiliary networks live inside it, on the device given.
        optimizer: one or several parameter groups.
        plan: the run's timetable from the number of iterations in an epoch.
        weights_name: the file name of published weights, with ``{epoch}`` from 0, ``{epochs}``
            from 1, ``{iteration}``, and ``{settings.<name>}``.
        sums: the names of the losses that are sums over a batch's samples; all others are means
            over them. A batch that is computed in parts, or by several processes, needs it.
        schedule: sets the optimizer's rates before the update of ``progress.iteration``; by
            default they stay as they are.
        previews: file name and picture (3, H, W) in [0, 1] to save, from the clips of
            ``validation`` or from elsewhere; called in evaluation mode. Where it gives none, a
            frame of the first clip is shown.
        validation: clips with ground truth to score during training; looked for once in a run, and
            where there is none, nothing is scored, whatever the plan says.
        scoring: how they are scored.
        latest_name: a second file name for the weights of the last iteration.
        enlarge: how often an epoch goes through the set, in one permutation, as the published
            sampler of several papers does.
        published: what a file of weights holds, where it is more than the weights by themselves.
    """

    name: str
    settings: type[P]
    network: Callable[[P], nn.Module]
    data: Callable[[P], TrainingSet]
    objective: Callable[[P, torch.device], Objective]
    optimizer: Callable[[P, nn.Module], Optimizer]
    plan: Callable[[P, int], Plan]
    weights_name: str
    sums: Callable[[P], Collection[str]] = lambda settings: ()
    schedule: Callable[[P, Optimizer, Progress], None] = lambda *_: None
    previews: Previews[P] = lambda *_: iter(())
    validation: Callable[[P], list[Clip]] = lambda settings: []
    scoring: Scoring = Scoring()
    latest_name: str | None = None
    enlarge: int = 1
    published: Callable[[P, nn.Module, Optimizer, Progress], Mapping[str, Any]] | None = None


FileOf = Callable[[Clip, Path], Path]
"""The file to write for a frame of a clip."""


@dataclass(frozen=True)
class Pictures:
    """Where a test writes each result, its input at that size, and its ground truth; None: not."""

    enhanced: FileOf | None = None
    input: FileOf | None = None
    target: FileOf | None = None


def files_below(folder: Path) -> FileOf:
    """The files ``<folder>/<clip>/<frame>.png``."""
    return lambda clip, frame: folder / clip.name / f"{frame.stem}.png"


@dataclass(frozen=True)
class Detail:
    """What else a test shows: a line of text, and pictures of one size, (H, W, 3) uint8 RGB.

    They stand under their labels; the first is the frame that the others are laid over.
    """

    text: str
    pictures: Mapping[str, Pixels] = field(default_factory=dict)


Details = Callable[["Model", Sequence[Clip]], list[Detail]]
"""(the model tested, the clips) to what else is shown; it may write files of its own."""


@dataclass(frozen=True)
class Test(Generic[T]):
    """The protocol of a paper's test.

    Attributes:
        settings: the settings class.
        clips: the clips to test on, for a network of that window.
        weights: the weights file; None is the bundled one.
        pictures: what is written of every frame, where ``settings.save_images`` asks for it.
        scoring: how frames are scored; called before anything is computed.
        details: gives what shows more of a tested network; it is called before anything is
            computed, and None where the settings ask for nothing.
        root: the data's folder, in which ``settings.protocol`` finds its own.
    """

    __test__: ClassVar[bool] = False  # no test of pytest's

    settings: type[T]
    clips: Callable[[T, Window], list[Clip]]
    weights: Callable[[T], Path | None] = lambda settings: settings.weights
    pictures: Callable[[T], Pictures] = lambda settings: Pictures(
        files_below(settings.folder / "images")
    )
    scoring: Callable[[T, torch.device], Scoring] = lambda settings, device: Scoring(settings.ssim)
    details: Callable[[T, torch.device], Details | None] | None = None
    root: Callable[[Any], Path] = lambda settings: settings.data.low


@dataclass(frozen=True, kw_only=True)
class Paper(About):
    """All that the core knows of a paper.

    Attributes:
        network: builds the inference network that weights fit, from their shapes and the settings
            of a test or a training; None stands for the settings that enhancing uses.
        enhance: (network, frames (N, T, 3, H, W) RGB in [0, 1]) to (N, outputs, 3, H, W).
        window: what ``enhance`` takes and gives, of a network under such settings.
        rounding: how the paper's test turns [0, 1] into 8 bits.
        procedures: the ways of training by command name, ``train`` first.
        test: the protocol of the test.
        to_published: what a published file holds, of weights of one of our networks; by default
            these, under our key names.
        from_published: published key names to ours; ours pass unchanged.
        stream: the network cut in two, where windows share work.
        prepare: makes a network in evaluation mode ready for frames of any size on a CPU, equal to
            padding, ``enhance`` and cropping but for rounding; later changes to its weights may go
            unseen. None, or a result of None, where ``enhance`` serves.
        fuse: likewise for frames of integers on a CUDA device.
        shaders: the network as passes of WebGL2, for a page that enhances; it raises a ConfigError
            for a network that has none.
    """

    network: Callable[[State, Any], nn.Module]
    enhance: Callable[[nn.Module, Tensor], Tensor]
    window: Callable[[nn.Module, Any], Window]
    rounding: Rounding
    procedures: Mapping[str, Procedure[Any]]
    test: Test[Any]
    to_published: Callable[[State], Mapping[str, Any]] = dict
    from_published: Callable[[State], State] = dict
    stream: Stream | None = None
    prepare: Callable[[nn.Module], Prepared | None] | None = None
    fuse: Callable[[nn.Module], DeviceKernel | None] | None = None
    shaders: Callable[[nn.Module], Sequence[Pass]] | None = None

    def paper(self) -> Paper:
        """The paper itself."""
        return self


@dataclass(frozen=True)
class Model:
    """A paper's network, ready to enhance.

    Attributes:
        paper: how to call the network, and to round what it gives.
        network: on its device; in evaluation mode.
        settings: of a test or a training, which the window may follow from; None: enhancing's.
        weights: where the network's weights come from, where that is a file.
        precision: the number format that it enhances in.
    """

    paper: Paper
    network: nn.Module
    settings: Any = None
    weights: LoadedWeights | None = None
    precision: Precision = "fp32"

    @property
    def window(self) -> Window:
        """Which frames the network takes and gives."""
        return self.paper.window(self.network, self.settings)

    @property
    def device(self) -> torch.device:
        """Where the network's weights are; the CPU for a network without any."""
        tensors = chain(self.network.parameters(), self.network.buffers())
        return next((each.device for each in tensors), torch.device("cpu"))
