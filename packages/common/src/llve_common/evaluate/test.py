"""Enhance clips, score them against their ground truth, and keep the pictures."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from llve_common.data.clip import read_frame
from llve_common.enhance.files import naming_faults
from llve_common.enhance.frames import Enhance, frame_enhancer
from llve_common.enhance.windows import inner_frames
from llve_common.errors import ConfigError, DataError
from llve_common.io.atomic import replacing
from llve_common.io.frames import Frame
from llve_common.io.images import Image, write_image
from llve_common.machine.device import choose_device
from llve_common.metrics.fidelity import fsim, psnr, ssim
from llve_common.metrics.temporal import Mabd, NamedFlow, WarpingError
from llve_common.paper.contract import Clip, Detail, Model, Paper, Pictures, Scoring, Window
from llve_common.weights.network import load_model

Watcher = Callable[[int, int], None]
"""Is told (frames done, frames in all)."""

NO_PICTURES = Pictures()


@dataclass(frozen=True)
class FrameScore:
    """One enhanced frame: what it scored (empty without ground truth), and its time in seconds."""

    clip: str
    frame: str
    values: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Scores:
    """The scores of every frame, and the two means that published tables use.

    Attributes:
        frames: in order.
        temporal: what each clip scored as a whole, where that was asked for.
        flow: what the flow of their warping error is called.
    """

    frames: tuple[FrameScore, ...]
    temporal: dict[str, dict[str, float]] = field(default_factory=dict)
    flow: str | None = None

    @property
    def per_clip(self) -> dict[str, dict[str, float]]:
        """The mean of each clip's frames, and what the clip scored as a whole."""
        clips: dict[str, list[FrameScore]] = {}
        for frame in self.frames:
            clips.setdefault(frame.clip, []).append(frame)
        return {
            clip: _mean([frame.values for frame in frames]) | self.temporal.get(clip, {})
            for clip, frames in clips.items()
        }

    @property
    def mean_of_frames(self) -> dict[str, float]:
        """The mean of all frames, whatever clip they are of."""
        return _mean([frame.values for frame in self.frames])

    @property
    def mean_of_clips(self) -> dict[str, float]:
        """The mean of the clips' means."""
        return _mean(list(self.per_clip.values()))


@dataclass(frozen=True)
class Tested:
    """A test that was run.

    Attributes:
        scores: of every frame.
        model: that was tested.
        scoring: how frames were scored.
        clips: that were tested.
        pictures: that were written.
        details: what else there is to show.
    """

    scores: Scores
    model: Model
    scoring: Scoring
    clips: Sequence[Clip]
    pictures: Pictures
    details: Sequence[Detail] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What the scores hold for."""
        weights, flow = self.model.weights, self.scoring.flow
        assert weights is not None
        return {
            "paper": self.model.paper.name,
            "weights": str(weights.path),
            "weights_sha256": weights.sha256,
            "ssim": self.scoring.ssim,
            "rounding": self.model.paper.rounding,
            **({} if flow is None else {"warping_error_flow": flow.name}),
            "torch": str(torch.__version__),
            "device": str(self.model.device),
        }


def run_test(paper: Paper, settings: Any, watch: Watcher | None = None) -> Tested:
    """Test a paper's weights by its protocol: the published score, from Python.

    Pictures are written as the settings say; scores are returned, and written by
    :func:`write_scores`.

    Args:
        paper: whose test.
        settings: of the class ``paper.test.settings``.
        watch: is told (frames done, frames in all).

    Raises:
        ConfigError: there is neither ground truth nor a picture to write.
        UserError: data or weights are missing or do not fit, and as :func:`evaluate`.
    """
    protocol, device = paper.test, choose_device(settings.device)
    model = load_model(paper, protocol.weights(settings), device, settings)
    clips = protocol.clips(settings, model.window)
    pictures = protocol.pictures(settings) if settings.save_images else NO_PICTURES
    if clips[0].targets is None and pictures.enhanced is None:
        raise ConfigError(
            "there is no ground truth, so there is nothing to score",
            where=clips[0].frames[0].parent.parent,
            mend="give --save-images to write the enhanced frames",
        )
    scoring = protocol.scoring(settings, device)
    more = None if protocol.details is None else protocol.details(settings, device)
    scores = evaluate(model, clips, scoring, pictures=pictures, watch=watch)
    details = [] if more is None else more(model, clips)
    return Tested(scores, model, scoring, clips, pictures, details)


def evaluate(
    model: Model,
    clips: Sequence[Clip],
    scoring: Scoring,
    *,
    pictures: Pictures = NO_PICTURES,
    watch: Watcher | None = None,
) -> Scores:
    """Enhance every frame of every clip and score it on the 8-bit images, as the paper rounds them.

    Args:
        model: to enhance with.
        clips: with ground truth where scores are wanted.
        scoring: how.
        pictures: what to write.
        watch: is told (frames done, frames in all).

    Returns:
        Scores with ``psnr`` and ``ssim`` of the enhanced frames, and ``input_psnr`` and
        ``input_ssim`` of the frames as they were.

    Raises:
        DataError: two clips have one name, or two frames would be written to one file, or one over
            a file that is read; ground truth has another size, or nothing is left to crop to; a
            clip is shorter than a window, where only inner frames are scored.
        MediaError: an image cannot be read or written.
        UserError: FSIM's library is not installed.
    """
    _require_own_names(clips)
    for naming in (pictures.enhanced, pictures.input, pictures.target):
        if naming is not None:
            naming_faults(
                [(frame, naming(clip, frame)) for clip in clips for frame in clip.frames],
                kept=[target for clip in clips for target in clip.targets or ()],
            )
    places = [_places(model.window, clip, inner=scoring.inner) for clip in clips]
    total = sum(len(each) for each in places)
    results: list[FrameScore] = []
    steady: dict[str, dict[str, float]] = {}
    enhance = frame_enhancer(model, inner=scoring.inner)
    multiple = model.window.multiple if scoring.fit == "crop" else 1
    for clip, wanted in zip(clips, places, strict=True):
        steadiness = None if scoring.flow is None else Steadiness(scoring.flow)
        enhanced = _enhanced(enhance, clip, multiple, wanted.start)
        for index, made in zip(wanted, enhanced, strict=True):
            path, target = clip.frames[index], _target(clip, index, made.size, multiple)
            values = {} if target is None else _score(path, made, target, scoring)
            for naming, picture in (
                (pictures.enhanced, made.result),
                (pictures.input, made.source),
                (pictures.target, target),
            ):
                if naming is not None and picture is not None:
                    write_image(naming(clip, path), picture)
            if steadiness is not None:
                steadiness.update(made.result, made.source, target)
            results.append(FrameScore(clip.name, path.name, values, made.seconds))
            if watch is not None:
                watch(len(results), total)
        if steadiness is not None:
            steady[clip.name] = steadiness.compute()
    return Scores(tuple(results), steady, None if scoring.flow is None else scoring.flow.name)


class Steadiness:
    """How steady a clip is before and after, fed a frame at a time.

    ``warping_error`` and ``mabd`` of the enhanced clip (:mod:`llve_common.metrics.temporal`) and,
    with ``input_`` before the name, of the input; with ground truth, ``mabd_mse`` against it too.
    Motion is estimated on the ground truth where there is one, else on the input.
    """

    def __init__(self, flow: NamedFlow) -> None:
        self._warping = {prefix: WarpingError(flow.estimate) for prefix in ("", "input_")}
        self._mabd = {"": Mabd(), "input_": Mabd()}

    def update(
        self,
        result: NDArray[np.uint8],
        source: NDArray[np.uint8],
        target: NDArray[np.uint8] | None,
    ) -> None:
        """Add the next frame, (H, W, 3) uint8 RGB each."""
        for prefix, frame in (("", result), ("input_", source)):
            self._warping[prefix].update(frame, source if target is None else target)
            self._mabd[prefix].update(frame, target)

    def compute(self) -> dict[str, float]:
        """What could be measured."""
        found: dict[str, float | None] = {}
        for prefix in ("", "input_"):
            brightness = self._mabd[prefix].compute()
            found[f"{prefix}warping_error"] = self._warping[prefix].compute()
            found[f"{prefix}mabd"] = brightness.mean
            found[f"{prefix}mabd_mse"] = brightness.mse
        return {name: value for name, value in found.items() if value is not None}


def _places(window: Window, clip: Clip, *, inner: bool) -> range:
    """Which of a clip's frames are enhanced."""
    everything = range(len(clip.frames))
    if not inner or len(window.inputs) == 1:
        return everything
    found = inner_frames(window, len(everything))
    if len(everything) < len(window.inputs):
        raise DataError(
            "the clip is shorter than the network's window",
            where=clip.frames[0].parent,
            got=f"{len(everything)} frames",
            expected=f"at least {len(window.inputs)}",
            mend="pad the clips, or leave this one out",
        )
    return found


def write_scores(scores: Scores, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``scores.jsonl``, a line for each frame, and ``summary.json``, the means and facts.

    Raises:
        MediaError: the files cannot be written.
    """
    with replacing(folder / "scores.jsonl") as temporary:
        lines = [
            {"clip": one.clip, "frame": one.frame, **one.values, "seconds": round(one.seconds, 6)}
            for one in scores.frames
        ]
        temporary.write_text(
            "".join(json.dumps(plain(line)) + "\n" for line in lines), encoding="utf-8"
        )
    summary = {
        **facts,
        "frames": len(scores.frames),
        "mean_of_frames": scores.mean_of_frames,
        "mean_of_clips": scores.mean_of_clips,
        "per_clip": scores.per_clip,
    }
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(plain(summary), indent=2) + "\n", encoding="utf-8")


def _require_own_names(clips: Sequence[Clip]) -> None:
    """Scores are told apart by their clips' names."""
    for name, count in Counter(clip.name for clip in clips).items():
        if count > 1:
            raise DataError("several clips have one name", where=name, got=f"{count} of them")


class _Made(NamedTuple):
    """A frame as it was and enhanced, cropped where that is asked for; its size before; seconds."""

    source: NDArray[np.uint8]
    result: NDArray[np.uint8]
    size: tuple[int, ...]
    seconds: float


def _enhanced(enhance: Enhance, clip: Clip, multiple: int, first: int) -> Iterator[_Made]:
    """The frames from ``first`` on."""
    sources: deque[tuple[NDArray[np.uint8], tuple[int, ...]]] = deque()

    def frames() -> Iterator[Frame]:
        for path in clip.frames:
            pixels = read_frame(path, clip.size)
            cropped = _cropped(path, pixels, multiple)
            sources.append((cropped, pixels.shape))
            yield Frame(Image(cropped), path.name, path)

    stream = enhance(frames())
    started = time.perf_counter()
    for frame in stream:
        seconds = time.perf_counter() - started
        while first:
            sources.popleft()
            first -= 1
        source, size = sources.popleft()
        yield _Made(source, frame.image.pixels.astype(np.uint8, copy=False), size, seconds)
        started = time.perf_counter()


def _target(
    clip: Clip, index: int, size: tuple[int, ...], multiple: int
) -> NDArray[np.uint8] | None:
    """A frame's ground truth, cropped like the frame; None where there is none."""
    if clip.targets is None:
        return None
    path = clip.targets[index]
    pixels = read_frame(path, clip.size)
    if pixels.shape != size:
        raise DataError(
            "a frame and its ground truth differ in size",
            where=clip.frames[index],
            got=f"{size[1]}x{size[0]}, and {path} {_size(pixels)}",
        )
    return _cropped(path, pixels, multiple)


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _score(
    path: Path, made: _Made, target: NDArray[np.uint8], scoring: Scoring
) -> dict[str, float]:
    values = {}
    try:
        for prefix, pixels in (("", made.result), ("input_", made.source)):
            values[f"{prefix}psnr"] = psnr(pixels, target)
            values[f"{prefix}ssim"] = ssim(pixels, target, scoring.ssim)
            if scoring.fsim:
                values[f"{prefix}fsim"] = fsim(pixels, target)
    except DataError as error:
        raise error.at(path) from None
    return values


def _cropped(path: Path, pixels: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """An image cut at the bottom and right to sides that are multiples."""
    height, width = (side // multiple * multiple for side in pixels.shape[:2])
    if height == 0 or width == 0:
        raise DataError(
            "the image is too small to be cropped to what the network takes",
            where=path,
            got=_size(pixels),
            expected=f"sides of at least {multiple} pixels",
        )
    return np.ascontiguousarray(pixels[:height, :width])


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    # A clip without ground truth, or of a single frame, lacks some scores.
    names = {name: None for row in rows for name in row}
    return {name: fmean(row[name] for row in rows if name in row) for name in names}


def plain(value: Any) -> Any:
    """The same with infinite numbers, the PSNR of equal images, as text: JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
