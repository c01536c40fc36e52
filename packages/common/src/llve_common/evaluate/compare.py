"""Papers side by side on the same images and clips: quality, steadiness over time, and cost.

Frames stream through the networks and the metrics one by one
(:mod:`~llve_common.evaluate.meter`), so memory does not grow with a clip's length; of each clip one
frame is kept, and one row of pixels over a bounded time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from statistics import fmean

import torch

from llve_common.enhance.files import sources_in
from llve_common.enhance.frames import frame_enhancer, pad_to_fit
from llve_common.errors import CheckpointError, ConfigError, DataError, UserError
from llve_common.evaluate.meter import Eight, Figures, Item, Measured, View, first_frame, measure
from llve_common.io.folders import match_by_name
from llve_common.io.frames import Frame
from llve_common.io.images import Image, to_tensor
from llve_common.metrics.cost import (
    latency,
    multiply_accumulates,
    parameter_count,
    peak_memory,
)
from llve_common.metrics.temporal import DIS, NamedFlow
from llve_common.paper.contract import LoadedWeights, Model, Paper
from llve_common.paper.installed import load_paper
from llve_common.report.page import evenly_spread
from llve_common.weights.network import load_model

INPUT = "input"
PICTURES = 6
"""How many items are shown, spread evenly over all."""
_REPEATS = 5

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
    flow: NamedFlow = DIS,
    watch: Watch = lambda done, total, note: None,
) -> Comparison:
    """Put every contender through every item.

    An item that cannot be read or scored is left out for all, so that rows stay comparable. A
    contender that fails is a row with its reason.

    Args:
        contenders: as :func:`find_contenders` makes them.
        items: as :func:`find_items` makes them.
        device: to compute on.
        flow: along which warping error is measured.
        watch: follows the frames.

    Raises:
        DataError: no item is left.
    """
    counter = _Counter(watch)
    measured, left_out = _measure_input(items, flow, counter)
    left = [item for item in items if item.name in measured]
    if not left:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in left_out.items())
        raise DataError("nothing can be compared", got=reasons)
    shown = evenly_spread([item.name for item in left], PICTURES)
    frames = {name: each.frames for name, each in measured.items()}
    counter.expect(sum(frames.values()), 1 + len(contenders))
    first = first_frame(left[0])
    rows = [_row(INPUT, "the frames as they are", measured, shown)]
    for contender in contenders:
        counter.name = contender.name
        rows.append(_contend(contender, left, first, shown, device, flow, counter))
    references = {name: view for name in shown if (view := measured[name].reference)}
    size = first.shape[0], first.shape[1]
    return Comparison(tuple(rows), references, frames, left_out, size, device, flow.name)


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


def _measure_input(
    items: Sequence[Item], flow: NamedFlow, counter: _Counter
) -> tuple[dict[str, Measured], dict[str, str]]:
    """The items as they are, and why the others cannot be measured."""
    measured: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    for item in items:
        try:
            measured[item.name] = measure(item, iter, flow.estimate, counter.step)
        except UserError as error:
            left_out[item.name] = str(error.at(item.source))
        except (RuntimeError, MemoryError) as error:
            # RAFT's memory grows with the square of the pixels; the other items may fit.
            left_out[item.name] = f"{item.source}: {type(error).__name__}: {error}"
    return measured, left_out


def _contend(
    contender: Contender,
    items: Sequence[Item],
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
        measured = {
            item.name: measure(item, enhance, flow.estimate, counter.step) for item in items
        }
        cost = measure_cost(model, first)
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
    measured: Mapping[str, Measured],
    shown: Collection[str],
    cost: Cost | None = None,
    weights: LoadedWeights | None = None,
) -> Row:
    figures = {item: each.figures for item, each in measured.items()}
    views = {item: measured[item].view for item in shown}
    return Row(name, title, figures, views, cost, weights)
