"""Papers side by side on the same images and clips: quality, steadiness over time, and cost.

Frames stream through all networks and the metrics one by one (:mod:`~llve_common.evaluate.meter`).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from llve_common.clips.clip import Clip, frames_in_all
from llve_common.clips.frames import Frame
from llve_common.config import AnyPrecision, Precision
from llve_common.enhance.frames import enhancer_to_8_bits, frame_enhancer, pad_to_fit
from llve_common.enhance.ready import Enhance
from llve_common.errors import DataError, UserError
from llve_common.evaluate.contenders import Contender, NoWeightsError, require_weights
from llve_common.evaluate.meter import (
    Camera,
    Guide,
    Measure,
    Meter,
    View,
    evenly_spread,
    put_through,
    require_truth,
)
from llve_common.evaluate.rows import MEASURES
from llve_common.io.images import Image, in_8_bits, to_tensor
from llve_common.metrics.cost import latency, multiply_accumulates, peak_memory
from llve_common.metrics.fidelity import psnr
from llve_common.metrics.quality import Eight, scaled_to_mean
from llve_common.metrics.temporal import DIS, NamedFlow
from llve_common.paper.contract import LoadedWeights, Model
from llve_common.paper.installed import load_paper
from llve_common.weights.network import load_model, used_parameters

INPUT, GAMMA = "input", "gamma"
PICTURES = 6
"""How many clips are shown, spread evenly over all."""
FRAMES = 32
"""How many frames of clips are shown, of all clips together."""
_REPEATS = 5
# Torch raises the latter two where memory or a kernel is missing; others may have enough.
_FAILURES = (UserError, RuntimeError, MemoryError)
_GT_MEAN: Mapping[str, Measure] = {
    "psnr_gt_mean": lambda image, target: psnr(
        scaled_to_mean(image, target), target.astype(np.float64)
    )
}

Figures = dict[str, float | None]
"""What a row scored on one clip, by measure; None where there was nothing to compare with."""

Watch = Callable[[int, int | None, str], None]
"""Is told (frames done, frames in all as far as known, whose turn it is)."""


@dataclass(frozen=True)
class Cost:
    """What a paper costs at one size.

    Attributes:
        parameters: learnable values that enhancing uses.
        macs: multiply-accumulates of one window of frames.
        precision: the number format that it computes in.
        seconds: for one frame, the median, once a clip is under way.
        memory: bytes at the peak above the loaded network, for a clip's first frame; None where
            the system does not tell.
    """

    parameters: int
    macs: int
    precision: Precision
    seconds: float
    memory: int | None


@dataclass(frozen=True)
class Measured:
    """One row's passage through one clip.

    Attributes:
        frames: how many there were.
        figures: the clip's means.
        view: what is shown of the enhanced frames, if anything is.
        reference: the same of the ground truth, if there is one.
    """

    frames: int
    figures: Figures
    view: View | None
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
        values = [each.get(measure) for each in self.figures.values()]
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


def compare(
    contenders: Sequence[Contender],
    clips: Sequence[Clip],
    device: torch.device,
    *,
    flow: NamedFlow = DIS,
    precision: AnyPrecision = "fp32",
    quality: bool = False,
    distance: Measure | None = None,
    watch: Watch = lambda done, total, note: None,
) -> Comparison:
    """Put every contender through every clip, all of them beside each other, frame by frame.

    A clip that cannot be read or scored is left out for all, so that rows stay comparable. A
    contender that fails is a row with its reason.

    Args:
        contenders: as :func:`~llve_common.evaluate.contenders.find_contenders` makes them.
        clips: as :func:`~llve_common.evaluate.contenders.find_clips` makes them.
        device: to compute on.
        flow: along which warping error is measured; a clip's is estimated once for all rows.
        precision: the number format to compute in.
        quality: add a gamma curve for each image as a row, and measure GT-mean, NIQE, LOE, DE, EME
            and the colour error too.
        distance: LPIPS (:func:`llve_common.weights.pretrained.perceptual_distance`), likewise.
        watch: follows the frames.

    Raises:
        ConfigError: LPIPS was asked for, and no clip has ground truth.
        DataError: no clip is left.
    """
    measures = {**MEASURES, **(_GT_MEAN if quality else {})}
    if distance is not None:
        require_truth(["lpips"], there=any(clip.targets is not None for clip in clips))
        measures["lpips"] = distance
    untouched = [Row(INPUT, "the frames as they are")]
    if quality:
        untouched.append(Row(GAMMA, "each frame under the gamma curve that brings its mean to 0.4"))
    opened = [_open(each, device, precision) for each in contenders]
    running: dict[str, Enhance] = {INPUT: iter, **({GAMMA: gamma_curves} if quality else {})}
    running |= {row.name: enhancer_to_8_bits(model) for row, model in opened if model is not None}
    shown = evenly_spread([clip.name for clip in clips], PICTURES)
    whole = frames_in_all(clips)
    total = None if whole is None else whole * len(running)
    done = itertools.count(1)

    measured: dict[str, dict[str, Measured]] = {name: {} for name in running}
    failures: dict[str, Exception] = {}
    left_out: dict[str, str] = {}
    for clip in clips:
        try:
            found, failed = measure(
                clip,
                running,
                flow,
                measures=measures,
                quality=quality,
                shown=FRAMES // len(shown) if clip.name in shown else 0,
                step=lambda name: watch(next(done), total, name),
            )
        except _FAILURES as error:
            left_out[clip.name] = _said(error, clip.place)
            continue
        failures |= failed
        running = {name: running[name] for name in found}
        for name, each in found.items():
            measured[name][clip.name] = each
    left = [clip for clip in clips if clip.name not in left_out]
    if not left:
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in left_out.items())
        raise DataError("nothing can be compared", got=reasons)
    first = in_8_bits(next(left[0].read()).image.pixels)
    rows = [_row(row, measured[row.name]) for row in untouched]
    for row, model in opened:
        if model is None:
            rows.append(row)
        elif row.name in failures:
            rows.append(replace(row, failure=_said(failures[row.name])))
        else:
            rows.append(_with_cost(_row(row, measured[row.name]), model, first))
    of_input = measured[INPUT]
    references = {name: each.reference for name, each in of_input.items() if each.reference}
    frames = {name: each.frames for name, each in of_input.items()}
    size = first.shape[0], first.shape[1]
    return Comparison(tuple(rows), references, frames, left_out, size, device, flow.name)


def measure(
    clip: Clip,
    running: Mapping[str, Enhance],
    flow: NamedFlow,
    *,
    measures: Mapping[str, Measure],
    quality: bool,
    shown: int,
    step: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Exception]]:
    """Stream a clip through several networks and the metrics, the input first.

    ``running`` is, by row, what makes of frames as many enhanced ones, and ``step`` is told the row
    after each frame.

    Returns:
        What was measured, and the rows that failed.

    Raises:
        UserError: of the input, as :func:`~llve_common.evaluate.meter.put_through`, or frames are
            too small for SSIM.
        RuntimeError: memory or a kernel is missing for the measures.
    """
    guide = Guide(flow)
    passages = {
        name: _Passage(clip, each, Meter(measures, guide, before=False, quality=quality), shown)
        for name, each in running.items()
    }
    failed: dict[str, Exception] = {}
    under_way = True
    while under_way:
        for name, passage in list(passages.items()):
            try:
                under_way = passage.advance()
            except _FAILURES as error:
                if name == INPUT:
                    raise
                failed[name] = error
                del passages[name]
            if under_way:
                step(name)
    return {name: passage.measured() for name, passage in passages.items()}, failed


def measure_cost(model: Model, pixels: Eight) -> Cost:
    """What enhancing a clip costs whose every frame is these pixels, (H, W, 3) uint8."""
    device, network = model.device, model.network
    enhance = frame_enhancer(model)
    frame = Frame(Image(pixels), "", "the frame that cost is measured with")
    under_way = enhance(itertools.repeat(frame))
    seconds = latency(lambda: next(under_way), device=device, repeats=_REPEATS)
    # From a network that is loaded and no more: what is prepared and kept for it counts.
    memory = peak_memory(
        lambda: next(frame_enhancer(model)(itertools.repeat(frame))), device=device
    )
    # The network as it is: what is prepared for a CPU computes the same in parts.
    window = to_tensor(pixels).to(device).expand(1, len(model.window.inputs), -1, -1, -1)
    padded = pad_to_fit(window, model.window)
    macs = multiply_accumulates(lambda: model.paper.enhance(network, padded))
    return Cost(used_parameters(model), macs, model.precision, seconds, memory)


class _Passage:
    """A clip on its way through one network, and what is measured and shown of it."""

    def __init__(self, clip: Clip, enhance: Enhance, meter: Meter, shown: int) -> None:
        self._passing, self._meter = put_through(clip, enhance), meter
        middle = (clip.count or 1) // 2
        self._camera, self._target_camera = Camera(middle, shown), Camera(middle, shown)

    def advance(self) -> bool:
        """Take the next frame; whether there was one."""
        passed = next(self._passing, None)
        if passed is None:
            return False
        self._camera.add(passed.result, passed.frame.name, self._meter.add(passed))
        if passed.target is not None:
            self._target_camera.add(passed.target, passed.frame.name, {})
        return True

    def measured(self) -> Measured:
        """What came of it."""
        missing = dict.fromkeys((*MEASURES, "warping_error", "mabd", "mabd_mse"))
        figures = {**missing, **self._meter.means(), **self._meter.over_time()}
        views = self._camera.view(), self._target_camera.view()
        return Measured(self._camera.count, figures, *views)


def gamma_curves(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Each frame under the gamma curve that brings its mean to 0.4."""
    for frame in frames:
        pixels = in_8_bits(frame.image.pixels)
        counts, levels = np.bincount(pixels.ravel(), minlength=256), np.arange(256) / 255
        low, high = 0.05, 3.0
        for _ in range(30):
            middle = (low + high) / 2
            bright = (counts * levels**middle).sum() / counts.sum() > 0.4
            low, high = (middle, high) if bright else (low, middle)
        curve = np.rint(levels**low * 255).astype(np.uint8)
        yield replace(frame, image=Image(curve[pixels]))


def _open(
    contender: Contender, device: torch.device, precision: AnyPrecision
) -> tuple[Row, Model | None]:
    """A contender's row without figures, and its model; None where the row says why not."""
    row = Row(contender.name, contender.entry.name)
    try:
        paper = load_paper(contender.entry)
        row = replace(row, title=paper.title)
        require_weights(paper, contender)
        model = load_model(paper, contender.weights, device, precision=precision)
    except _FAILURES as error:
        lacking = isinstance(error, NoWeightsError)
        return replace(row, failure=_said(error), without_weights=lacking), None
    return replace(row, weights=model.weights), model


def _row(row: Row, measured: Mapping[str, Measured]) -> Row:
    figures = {clip: each.figures for clip, each in measured.items()}
    views = {clip: each.view for clip, each in measured.items() if each.view is not None}
    return replace(row, figures=figures, views=views)


def _with_cost(row: Row, model: Model, pixels: Eight) -> Row:
    try:
        return replace(row, cost=measure_cost(model, pixels))
    except _FAILURES as error:
        return replace(row, figures={}, views={}, failure=_said(error))


def _said(error: Exception, place: Path | None = None) -> str:
    if isinstance(error, UserError):
        return str(error if place is None else error.at(place))
    return f"{'' if place is None else f'{place}: '}{type(error).__name__}: {error}"
