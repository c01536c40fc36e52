"""Papers side by side on the same images and clips: quality, steadiness over time, and cost.

Frames stream through the networks and the metrics one by one (:mod:`~llve_common.evaluate.meter`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from statistics import fmean

import torch

from llve_common.config import PUBLISHED
from llve_common.data.clip import Clip, clip_files
from llve_common.data.sdsd.layout import is_set, set_clips
from llve_common.enhance.frames import Enhance, frame_enhancer, pad_to_fit
from llve_common.errors import CheckpointError, ConfigError, DataError, UserError
from llve_common.evaluate.meter import (
    Camera,
    Eight,
    Measure,
    Meter,
    View,
    evenly_spread,
    put_through,
)
from llve_common.io.folders import match_by_name, named
from llve_common.io.frames import Frame, sources_in
from llve_common.io.images import Image, in_8_bits, to_tensor
from llve_common.metrics.cost import (
    latency,
    multiply_accumulates,
    peak_memory,
)
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import DIS, NamedFlow
from llve_common.paper.contract import LoadedWeights, Model, Paper
from llve_common.paper.installed import load_paper
from llve_common.weights.network import load_model, used_parameters
from llve_common.weights.published import ways_to_weights

INPUT = "input"
PICTURES = 6
"""How many clips are shown, spread evenly over all."""
_REPEATS = 5
# Torch raises these where memory or a kernel is missing; the others may have enough.
_TOO_LARGE = (RuntimeError, MemoryError)
_MEASURES: Mapping[str, Measure] = {
    "psnr": psnr,
    "ssim_skimage7": partial(ssim, definition="skimage7"),
    "ssim_gaussian11": partial(ssim, definition="gaussian11"),
}

Figures = dict[str, float | None]
"""What a row scored on one clip, by measure; None where there was nothing to compare with."""

Watch = Callable[[int, int | None, str], None]
"""Is told (frames done, frames in all as far as known, whose turn it is)."""


@dataclass(frozen=True)
class Contender:
    """A paper with the weights it is to be shown with; None: the bundled ones."""

    name: str
    entry: EntryPoint
    weights: Path | None = None


@dataclass(frozen=True)
class Cost:
    """What a paper costs at one size.

    Attributes:
        parameters: learnable values that enhancing uses.
        macs: multiply-accumulates of one window of frames.
        seconds: for one frame, the median, once a clip is under way.
        memory: bytes at the peak above the loaded network, for a clip's first frame; None where
            the system does not tell.
    """

    parameters: int
    macs: int
    seconds: float
    memory: int | None


@dataclass(frozen=True)
class Measured:
    """One row's passage through one clip.

    Attributes:
        frames: how many there were.
        figures: the clip's means.
        view: what is shown of the enhanced frames.
        reference: the same of the ground truth, if there is one.
    """

    frames: int
    figures: Figures
    view: View
    reference: View | None


@dataclass(frozen=True)
class Row:
    """One line of the comparison: the input as it is, or a paper with its weights."""

    name: str
    title: str
    figures: Mapping[str, Figures] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    cost: Cost | None = None
    weights: LoadedWeights | None = None
    failure: str | None = None
    without_weights: bool = False

    def mean(self, measure: str) -> float | None:
        """The mean over the clips that have the measure."""
        values = [each[measure] for each in self.figures.values()]
        present = [value for value in values if value is not None]
        return fmean(present) if present else None


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        rows: the input first, then the contenders in their order.
        references: what is shown of the ground truth.
        frames: how many frames each clip has.
        left_out: clips that cannot be read or scored, and why.
        size: height and width at which cost was measured.
        device: where.
        flow: what the flow of warping error is called.
    """

    rows: tuple[Row, ...]
    references: Mapping[str, View]
    frames: Mapping[str, int]
    left_out: Mapping[str, str]
    size: tuple[int, int]
    device: torch.device
    flow: str

    @property
    def failures(self) -> list[str]:
        """Why rows are missing, and clips; that weights are, if no row has any."""
        failed = [row for row in self.rows if row.failure]
        if len(failed) < len(self.rows) - 1:
            failed = [row for row in failed if not row.without_weights]
        rows = [f"{row.name}: {row.failure}" for row in failed]
        return rows + [f"{name}: {reason}" for name, reason in self.left_out.items()]


def find_clips(source: Path, reference: Path | None, *, clips: bool) -> list[Clip]:
    """What is compared: a file, the images and videos in a folder and its subfolders, or a set.

    Args:
        source: an image, a video, or a folder; without a reference also a data set in SDSD's or
            SMID's layout, whose ground truth is then the reference.
        reference: the same in normal light; in folders matched by name without suffix.
        clips: a folder's images are the frames of a clip, not images by themselves.

    Raises:
        DataError: a folder holds nothing, or names do not match.
        MediaError: there is no such file or folder.
    """
    source = named(source)
    if reference is None and is_set(source):
        return set_clips(source)
    sources = sources_in(source, clips=clips)
    alone = sources == [source]
    targets: Sequence[Path | None] = [reference] * len(sources)
    if reference is not None and not alone:
        targets = [path for _, path in match_by_name(sources, sources_in(reference, clips=clips))]
    root = source.parent if alone else source
    return [
        Clip(
            path.relative_to(root).as_posix(),
            tuple(clip_files(path)),
            None if target is None else tuple(clip_files(target)),
        )
        for path, target in zip(sources, targets, strict=True)
    ]


def find_contenders(
    papers: Mapping[str, EntryPoint], weights: Mapping[str, Sequence[Path]]
) -> list[Contender]:
    """Each paper with its bundled weights, or once with each weights file that is given for it.

    Raises:
        ConfigError: weights for a paper that does not take part, or two files of one name.
    """
    strangers = weights.keys() - papers.keys()
    if strangers:
        raise ConfigError(
            "weights for a paper that does not take part",
            where="--weights",
            got=", ".join(sorted(strangers)),
            expected=", ".join(papers),
        )
    found = []
    for name, entry in papers.items():
        files: Sequence[Path | None] = weights.get(name) or [None]
        stems = [file.stem.removeprefix(PUBLISHED) for file in files if file]
        labels = [name] if len(files) == 1 else [f"{name}-{stem}" for stem in stems]
        if len(set(labels)) < len(labels):
            raise ConfigError(
                "two weights files of one name", where="--weights", got=", ".join(labels)
            )
        found += [Contender(label, entry, file) for label, file in zip(labels, files, strict=True)]
    return found


def compare(
    contenders: Sequence[Contender],
    clips: Sequence[Clip],
    device: torch.device,
    *,
    flow: NamedFlow = DIS,
    watch: Watch = lambda done, total, note: None,
) -> Comparison:
    """Put every contender through every clip.

    A clip that cannot be read or scored is left out for all, so that rows stay comparable. A
    contender that fails is a row with its reason.

    Args:
        contenders: as :func:`find_contenders` makes them.
        clips: as :func:`find_clips` makes them.
        device: to compute on.
        flow: along which warping error is measured.
        watch: follows the frames.

    Raises:
        DataError: no clip is left.
    """
    counter = _Counter(watch)
    measured, left_out = _measure_input(clips, flow, counter)
    left = [clip for clip in clips if clip.name in measured]
    if not left:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in left_out.items())
        raise DataError("nothing can be compared", got=reasons)
    shown = evenly_spread([clip.name for clip in left], PICTURES)
    frames = {name: each.frames for name, each in measured.items()}
    counter.expect(sum(frames.values()), 1 + len(contenders))
    first = in_8_bits(next(left[0].read()).image.pixels)
    rows = [_row(INPUT, "the frames as they are", measured, shown)]
    for contender in contenders:
        counter.name = contender.name
        rows.append(_contend(contender, left, first, shown, device, flow, counter))
    references = {name: view for name in shown if (view := measured[name].reference)}
    size = first.shape[0], first.shape[1]
    return Comparison(tuple(rows), references, frames, left_out, size, device, flow.name)


def measure(clip: Clip, enhance: Enhance, flow: NamedFlow, step: Callable[[], None]) -> Measured:
    """Stream a clip through a network and the metrics.

    Args:
        clip: what to measure.
        enhance: frames to as many enhanced ones; ``iter`` leaves them as they are.
        flow: of warping error.
        step: is called after each frame.

    Raises:
        UserError: as :func:`~llve_common.evaluate.meter.put_through`, or frames are too small for
            SSIM.
    """
    meter = Meter(_MEASURES, flow, before=False)
    middle = (clip.count or 1) // 2
    camera, target_camera = Camera(middle), Camera(middle)
    for passed in put_through(clip, enhance):
        meter.add(passed)
        camera.add(passed.result, passed.frame.name)
        if passed.target is not None:
            target_camera.add(passed.target, passed.frame.name)
        step()
    missing = dict.fromkeys((*_MEASURES, "warping_error", "mabd", "mabd_mse"))
    figures = {**missing, **meter.means(), **meter.over_time()}
    reference = None if clip.targets is None else target_camera.view()
    return Measured(camera.count, figures, camera.view(), reference)


def measure_cost(model: Model, pixels: Eight) -> Cost:
    """What enhancing frames of this size costs.

    Args:
        model: to enhance with.
        pixels: (H, W, 3), uint8; every frame of the clip that is measured.
    """
    device, network = model.device, model.network
    enhance = frame_enhancer(model)
    frame = Frame(Image(pixels), "", "the frame that cost is measured with")
    under_way = enhance(itertools.repeat(frame))
    seconds = latency(lambda: next(under_way), device=device, repeats=_REPEATS)
    # From a network that is loaded and no more: what is prepared and kept for it counts.
    memory = peak_memory(
        lambda: next(frame_enhancer(model)(itertools.repeat(frame))),
        device=device,
    )
    # The network as it is: what is prepared for a CPU computes the same in parts.
    window = to_tensor(pixels).to(device).expand(1, len(model.window.inputs), -1, -1, -1)
    padded = pad_to_fit(window, model.window)
    macs = multiply_accumulates(lambda: model.paper.enhance(network, padded))
    return Cost(used_parameters(model), macs, seconds, memory)


class _Counter:
    """Counts frames for the progress bar."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._done = watch, 0
        self._total: int | None = None
        self.name = INPUT

    def expect(self, frames: int, turns: int) -> None:
        """So many frames in each turn, the first of which is over."""
        self._done, self._total = frames, frames * turns

    def step(self) -> None:
        """One frame more."""
        self._done += 1
        self._watch(self._done, self._total, self.name)


def _measure_input(
    clips: Sequence[Clip], flow: NamedFlow, counter: _Counter
) -> tuple[dict[str, Measured], dict[str, str]]:
    """The clips as they are, and why the others cannot be measured."""
    measured: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    for clip in clips:
        try:
            measured[clip.name] = measure(clip, iter, flow, counter.step)
        except UserError as error:
            left_out[clip.name] = str(error.at(clip.place))
        except _TOO_LARGE as error:
            left_out[clip.name] = f"{clip.place}: {type(error).__name__}: {error}"
    return measured, left_out


def _contend(
    contender: Contender,
    clips: Sequence[Clip],
    first: Eight,
    shown: Collection[str],
    device: torch.device,
    flow: NamedFlow,
    counter: _Counter,
) -> Row:
    title, weights = contender.entry.name, None
    try:
        paper = load_paper(contender.entry)
        title = paper.title
        _require_weights(paper, contender)
        model = load_model(paper, contender.weights, device)
        weights = model.weights
        enhance = frame_enhancer(model)
        measured = {clip.name: measure(clip, enhance, flow, counter.step) for clip in clips}
        cost = measure_cost(model, first)
    except (UserError, *_TOO_LARGE) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        lacking = isinstance(error, _NoWeightsError)
        said = f"{kind}{error}"
        return Row(contender.name, title, weights=weights, failure=said, without_weights=lacking)
    return _row(contender.name, title, measured, shown, cost, weights)


class _NoWeightsError(CheckpointError):
    """A paper without weights, which is no fault of what is compared."""


def _require_weights(paper: Paper, contender: Contender) -> None:
    if paper.bundled is None and contender.weights is None:
        raise _NoWeightsError(
            "no weights come with this package, and random ones are never shown",
            mend=f"--weights {paper.name}=FILE: {ways_to_weights(paper)}",
        )


def _row(
    name: str,
    title: str,
    measured: Mapping[str, Measured],
    shown: Collection[str],
    cost: Cost | None = None,
    weights: LoadedWeights | None = None,
) -> Row:
    figures = {clip: each.figures for clip, each in measured.items()}
    views = {clip: measured[clip].view for clip in shown}
    return Row(name, title, figures, views, cost, weights)
