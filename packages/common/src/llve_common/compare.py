"""Papers side by side on the same images and clips: quality, steadiness over time, and cost.

Frames stream through the networks and the metrics one by one, so memory does not grow with a clip's
length; of each clip one frame is kept, and one row of pixels over a bounded time.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from llve_common.engine.enhancer import frame_enhancer, pad_to_fit, sources_in
from llve_common.engine.network import LoadedWeights, load_network
from llve_common.errors import CheckpointError, ConfigError, DataError, UserError
from llve_common.installed import load_paper
from llve_common.io.folders import match_by_name
from llve_common.io.frames import Frame, open_source
from llve_common.io.images import Image, in_8_bits, to_tensor
from llve_common.metrics.cost import (
    latency,
    multiply_accumulates,
    parameter_count,
    peak_memory,
)
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import Mabd, WarpingError
from llve_common.paper import Paper

INPUT = "input"
PICTURES = 6
"""How many items are shown, spread evenly over all."""
LONGEST_SIDE = 1280
"""A picture is shown at no more than this many pixels."""
STRIP_FRAMES = 256
"""How many frames, from a clip's start, a strip of pixels over time shows."""
_REPEATS = 5

Eight = NDArray[np.uint8]
Figures = dict[str, float | None]
"""What a row scored on one item, by measure; None where there was nothing to compare with."""

Enhance = Callable[[Iterable[Frame]], Iterator[Frame]]
Watch = Callable[[int, int | None, str], None]
"""Is told (frames done, frames in all as far as known, whose turn it is)."""


@dataclass(frozen=True)
class Item:
    """An image, a video or a folder of a clip's frames, with its ground truth if there is one."""

    name: str
    source: Path
    reference: Path | None = None


@dataclass(frozen=True)
class Contender:
    """A paper with the weights it is to be shown with; None: the bundled ones."""

    name: str
    entry: EntryPoint
    weights: Path | None = None


@dataclass(frozen=True)
class View:
    """What is shown of an item: its middle frame, and the middle row of its first frames.

    Attributes:
        frame: the picture's name or number.
        picture: (H, W, 3) RGB.
        strip: (frames, W, 3) RGB; None where there is one frame only.
    """

    frame: str
    picture: Eight
    strip: Eight | None


@dataclass(frozen=True)
class Cost:
    """What a paper costs at one size.

    Attributes:
        parameters: learnable values.
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
class Row:
    """One line of the comparison: the input as it is, or a paper with its weights."""

    name: str
    title: str
    figures: Mapping[str, Figures] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    cost: Cost | None = None
    weights: LoadedWeights | None = None
    failure: str | None = None

    def mean(self, measure: str) -> float | None:
        """The mean over the items that have the measure."""
        values = [each[measure] for each in self.figures.values()]
        present = [value for value in values if value is not None]
        return fmean(present) if present else None


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        rows: the input first, then the contenders in their order.
        references: what is shown of the ground truth.
        frames: how many frames each item has.
        left_out: items that cannot be read or scored, and why.
        size: height and width at which cost was measured.
        device: where.
    """

    rows: tuple[Row, ...]
    references: Mapping[str, View]
    frames: Mapping[str, int]
    left_out: Mapping[str, str]
    size: tuple[int, int]
    device: torch.device

    @property
    def failures(self) -> list[str]:
        """Why rows are missing, and items."""
        rows = [f"{row.name}: {row.failure}" for row in self.rows if row.failure]
        return rows + [f"{name}: {reason}" for name, reason in self.left_out.items()]


def find_items(source: Path, reference: Path | None, *, clips: bool) -> list[Item]:
    """What is compared: a file, or the images and videos in a folder and its subfolders.

    Args:
        source: an image, a video, or a folder.
        reference: the same in normal light; in folders matched by name without suffix.
        clips: a folder's images are the frames of a clip, not images by themselves.

    Raises:
        DataError: a folder holds nothing, or names do not match.
    """
    sources = sources_in(source, clips=clips) if source.is_dir() else [source]
    root = source if source.is_dir() and sources != [source] else source.parent
    names = [path.relative_to(root).as_posix() for path in sources]
    targets: list[Path | None] = [None] * len(sources)
    if reference is not None and root == source:
        pairs = match_by_name(sources, sources_in(reference, clips=clips))
        targets = [target for _, target in pairs]
    elif reference is not None:
        targets = [reference]
    return [Item(*each) for each in zip(names, sources, targets, strict=True)]


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
        labels = [name] if len(files) == 1 else [f"{name}-{file.stem}" for file in files if file]
        if len(set(labels)) < len(labels):
            raise ConfigError(
                "two weights files of one name", where="--weights", got=", ".join(labels)
            )
        found += [Contender(label, entry, file) for label, file in zip(labels, files, strict=True)]
    return found


def compare(
    contenders: Sequence[Contender],
    items: Sequence[Item],
    device: torch.device,
    *,
    watch: Watch = lambda done, total, note: None,
) -> Comparison:
    """Put every contender through every item.

    An item that cannot be read or scored is left out for all, so that rows stay comparable. A
    contender that fails is a row with its reason.

    Args:
        contenders: as :func:`find_contenders` makes them.
        items: as :func:`find_items` makes them.
        device: to compute on.
        watch: follows the frames.

    Raises:
        DataError: no item is left.
    """
    counter = _Counter(watch)
    measured, left_out = _measure_input(items, counter)
    left = [item for item in items if item.name in measured]
    if not left:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in left_out.items())
        raise DataError("nothing can be compared", got=reasons)
    shown = _spread([item.name for item in left], PICTURES)
    frames = {name: each.frames for name, each in measured.items()}
    counter.expect(sum(frames.values()), 1 + len(contenders))
    first = _first_frame(left[0])
    rows = [_row(INPUT, "the frames as they are", measured, shown)]
    for contender in contenders:
        counter.name = contender.name
        rows.append(_contend(contender, left, first, shown, device, counter))
    references = {name: view for name in shown if (view := measured[name].reference)}
    size = first.shape[0], first.shape[1]
    return Comparison(tuple(rows), references, frames, left_out, size, device)


def measure_cost(paper: Paper, network: nn.Module, device: torch.device, pixels: Eight) -> Cost:
    """What enhancing frames of this size costs.

    Args:
        paper: how to enhance.
        network: on ``device``, in evaluation mode.
        device: to compute on.
        pixels: (H, W, 3), uint8; every frame of the clip that is measured.
    """
    enhance = frame_enhancer(paper, network, device)
    frame = Frame(Image(pixels), "", "the frame that cost is measured with")
    under_way = enhance(itertools.repeat(frame))
    seconds = latency(lambda: next(under_way), device=device, repeats=_REPEATS)
    # From a network that is loaded and no more: what is prepared and kept for it counts.
    memory = peak_memory(
        lambda: next(frame_enhancer(paper, network, device)(itertools.repeat(frame))),
        device=device,
    )
    # The network as it is: what is prepared for a CPU computes the same in parts.
    window = to_tensor(pixels).to(device).expand(1, len(paper.window.inputs), -1, -1, -1)
    padded = pad_to_fit(window, paper.window)
    macs = multiply_accumulates(lambda: paper.enhance(network, padded))
    return Cost(parameter_count(network), macs, seconds, memory)


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


@dataclass(frozen=True)
class _Measured:
    """One row's passage through one item."""

    frames: int
    figures: Figures
    view: View
    reference: View | None


def _measure_input(
    items: Sequence[Item], counter: _Counter
) -> tuple[dict[str, _Measured], dict[str, str]]:
    """The items as they are, and why the others cannot be measured."""
    measured: dict[str, _Measured] = {}
    left_out: dict[str, str] = {}
    for item in items:
        try:
            measured[item.name] = _measure(item, iter, counter)
        except UserError as error:
            left_out[item.name] = str(error.at(item.source))
    return measured, left_out


def _contend(
    contender: Contender,
    items: Sequence[Item],
    first: Eight,
    shown: Collection[str],
    device: torch.device,
    counter: _Counter,
) -> Row:
    title, weights = contender.entry.name, None
    try:
        paper = load_paper(contender.entry)
        title = paper.title
        _require_weights(paper, contender)
        network, weights = load_network(paper, contender.weights, device)
        enhance = frame_enhancer(paper, network, device)
        measured = {item.name: _measure(item, enhance, counter) for item in items}
        cost = measure_cost(paper, network, device, first)
    except UserError as error:
        return Row(contender.name, title, weights=weights, failure=str(error))
    except (RuntimeError, MemoryError) as error:
        # What torch raises where memory or a kernel is missing; the other papers may have enough.
        reason = f"{type(error).__name__}: {error}"
        return Row(contender.name, title, weights=weights, failure=reason)
    return _row(contender.name, title, measured, shown, cost, weights)


def _require_weights(paper: Paper, contender: Contender) -> None:
    if paper.bundled is None and contender.weights is None:
        raise CheckpointError(
            "no weights come with this package, and random ones are never shown",
            mend=f"--weights {paper.name}=FILE: a published file, or one of your own training",
        )


def _row(
    name: str,
    title: str,
    measured: Mapping[str, _Measured],
    shown: Collection[str],
    cost: Cost | None = None,
    weights: LoadedWeights | None = None,
) -> Row:
    figures = {item: each.figures for item, each in measured.items()}
    views = {item: measured[item].view for item in shown}
    return Row(name, title, figures, views, cost, weights)


def _measure(item: Item, enhance: Enhance, counter: _Counter) -> _Measured:
    """Stream an item through ``enhance`` and the metrics."""
    meter = _Meter()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(item.source))
        targets = _open_targets(item, stack)
        middle = (source.count or 1) // 2
        camera, target_camera = _Camera(middle), _Camera(middle)
        waiting: deque[Eight] = deque()
        for frame in enhance(_noting(source.frames, waiting)):
            pixels, original = in_8_bits(frame.image.pixels), waiting.popleft()
            target = _next_target(targets, frame)
            meter.add(pixels, original, target, frame.where)
            camera.add(pixels, frame.name)
            if target is not None:
                target_camera.add(target, frame.name)
            counter.step()
        _require_end(targets, item)
    reference = None if targets is None else target_camera.view()
    return _Measured(camera.count, meter.figures(), camera.view(), reference)


def _open_targets(item: Item, stack: ExitStack) -> Iterator[Frame] | None:
    if item.reference is None:
        return None
    return stack.enter_context(open_source(item.reference)).frames


def _noting(frames: Iterable[Frame], waiting: deque[Eight]) -> Iterator[Frame]:
    """Frames in 8 bits, as the papers' tests read them, each noted until it comes out enhanced."""
    for frame in frames:
        pixels = in_8_bits(frame.image.pixels)
        waiting.append(pixels)
        yield replace(frame, image=Image(pixels))


def _next_target(targets: Iterator[Frame] | None, frame: Frame) -> Eight | None:
    if targets is None:
        return None
    target = next(targets, None)
    if target is None:
        raise DataError("the ground truth ends before this frame", where=frame.where)
    return in_8_bits(target.image.pixels)


def _require_end(targets: Iterator[Frame] | None, item: Item) -> None:
    if targets is not None and next(targets, None) is not None:
        raise DataError(
            "the ground truth has more frames", where=item.source, got=f"more in {item.reference}"
        )


def _first_frame(item: Item) -> Eight:
    with open_source(item.source) as source:
        return in_8_bits(next(source.frames).image.pixels)


def _spread(names: Sequence[str], count: int) -> list[str]:
    """At most so many of the names, evenly spread."""
    step = max(len(names) / count, 1)
    return [names[int(step * number)] for number in range(min(count, len(names)))]


class _Meter:
    """All measures of one clip, fed a frame at a time."""

    def __init__(self) -> None:
        self._frames = 0
        self._totals: dict[str, float] = {}
        self._warping, self._mabd = WarpingError(), Mabd()

    def add(self, frame: Eight, original: Eight, target: Eight | None, where: object) -> None:
        """The next frame, as it was before, and its ground truth.

        Raises:
            DataError: sizes differ, or are too small for SSIM.
        """
        try:
            if target is not None:
                self._score(frame, target)
            # A guide that no paper made, so that all are measured along the same motion.
            self._warping.update(frame, original if target is None else target)
            self._mabd.update(frame, target)
        except DataError as error:
            raise error.at(where) from None
        self._frames += 1

    def figures(self) -> Figures:
        """The clip's means."""
        steadiness = self._mabd.compute()
        fidelity = {name: total / self._frames for name, total in self._totals.items()}
        return {
            **dict.fromkeys(("psnr", "ssim_skimage7", "ssim_gaussian11")),
            **fidelity,
            "warping_error": self._warping.compute(),
            "mabd": steadiness.mean,
            "mabd_mse": steadiness.mse,
        }

    def _score(self, frame: Eight, target: Eight) -> None:
        scores = {
            "psnr": psnr(frame, target),
            "ssim_skimage7": ssim(frame, target, "skimage7"),
            "ssim_gaussian11": ssim(frame, target, "gaussian11"),
        }
        for name, score in scores.items():
            self._totals[name] = self._totals.get(name, 0.0) + score


class _Camera:
    """Keeps of a clip what the page shows of it."""

    def __init__(self, middle: int) -> None:
        self._middle, self._strip = middle, list[Eight]()
        self._picture: tuple[str, Eight] | None = None
        self.count = 0

    def add(self, pixels: Eight, name: str) -> None:
        """The next frame."""
        if self.count <= self._middle:
            self._picture = name or f"frame {self.count}", pixels
        if self.count < STRIP_FRAMES:
            self._strip.append(pixels[pixels.shape[0] // 2].copy())
        self.count += 1

    def view(self) -> View:
        """What was kept."""
        assert self._picture is not None
        name, pixels = self._picture
        strip = np.stack(self._strip) if self.count > 1 else None
        return View(name, _reduced(pixels), strip)


def _reduced(pixels: Eight) -> Eight:
    factor = LONGEST_SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    reduced = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, np.uint8)
