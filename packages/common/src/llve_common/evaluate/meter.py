"""One image or clip through one network and all measures, a frame at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from llve_common.errors import DataError
from llve_common.io.frames import Frame, open_source
from llve_common.io.images import Image, in_8_bits
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import FlowEstimator, Mabd, WarpingError

LONGEST_SIDE = 1280
"""A picture is shown at no more than this many pixels."""
STRIP_FRAMES = 256
"""How many frames, from a clip's start, a strip of pixels over time shows."""

Eight = NDArray[np.uint8]
Figures = dict[str, float | None]
"""What a row scored on one item, by measure; None where there was nothing to compare with."""

Enhance = Callable[[Iterable[Frame]], Iterator[Frame]]


@dataclass(frozen=True)
class Item:
    """An image, a video or a folder of a clip's frames, with its ground truth if there is one."""

    name: str
    source: Path
    reference: Path | None = None


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
class Measured:
    """One row's passage through one item.

    Attributes:
        frames: how many there were.
        figures: the item's means.
        view: what is shown of the enhanced frames.
        reference: the same of the ground truth, if there is one.
    """

    frames: int
    figures: Figures
    view: View
    reference: View | None


def measure(
    item: Item, enhance: Enhance, estimate: FlowEstimator, step: Callable[[], None]
) -> Measured:
    """Stream an item through a network and the metrics.

    Args:
        item: what to measure.
        enhance: frames to as many enhanced ones; ``iter`` leaves them as they are.
        estimate: the flow of warping error.
        step: is called after each frame.

    Raises:
        DataError: the ground truth has another size or length, or frames are too small for SSIM.
        MediaError: a frame cannot be read, or comes out as not a number.
    """
    meter = _Meter(estimate)
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
            step()
        _require_end(targets, item)
    reference = None if targets is None else target_camera.view()
    return Measured(camera.count, meter.figures(), camera.view(), reference)


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


def first_frame(item: Item) -> Eight:
    """The first frame, (H, W, 3) RGB, in 8 bits.

    Raises:
        MediaError: it cannot be read.
    """
    with open_source(item.source) as source:
        return in_8_bits(next(source.frames).image.pixels)


class _Meter:
    """All measures of one clip, fed a frame at a time."""

    def __init__(self, estimate: FlowEstimator) -> None:
        self._frames = 0
        self._totals: dict[str, float] = {}
        self._warping, self._mabd = WarpingError(estimate), Mabd()

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
