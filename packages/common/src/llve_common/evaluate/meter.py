"""One clip through one network and all measures, a frame at a time.

So memory does not grow with the clip's length: of the pictures, those frames are kept that a page
shows, reduced, and one row of pixels over a bounded time.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np

from llve_common.clips.clip import Clip
from llve_common.clips.frames import Frame
from llve_common.enhance.ready import Enhance
from llve_common.errors import ConfigError, DataError
from llve_common.io.images import Image, Pixels, in_8_bits, size_of, to_webp
from llve_common.metrics.quality import Eight, further
from llve_common.metrics.temporal import GuideFlow, Mabd, Mean, Motion, NamedFlow, WarpingError

LONGEST_SIDE = 1280
"""A picture is shown at no more than this many pixels."""
STRIP_FRAMES = 256
"""How many frames, from a clip's start, a strip of pixels over time shows."""

Measure = Callable[[Eight, Eight], float]
"""From a frame and its ground truth, (H, W, 3) RGB, to a score."""
T = TypeVar("T")


def require_truth(asked: Collection[str], *, there: bool) -> None:
    """Refuse what is measured against ground truth alone where there is none.

    Raises:
        ConfigError: so it is.
    """
    if asked and not there:
        what = "without ground truth there is nothing to measure these against"
        raise ConfigError(what, got=", ".join(asked), mend="give the ground truth too")


@dataclass(frozen=True)
class Passed:
    """A frame that went through a network.

    Attributes:
        index: its place in the clip.
        frame: the enhanced one, with its name and place.
        source: its pixels as they were, (H, W, 3) RGB in 8 bits, cropped where that is asked for.
        result: the enhanced ones, likewise.
        target: those of its ground truth, likewise, where there is one.
        seconds: to read and enhance it.
    """

    index: int
    frame: Frame
    source: Eight
    result: Eight
    target: Eight | None
    seconds: float


def put_through(
    clip: Clip, enhance: Enhance, *, multiple: int = 1, first: int = 0
) -> Iterator[Passed]:
    """Enhance a clip's frames in all their bits; of what is scored the upper 8 count.

    Args:
        clip: to read.
        enhance: frames to as many enhanced ones; ``iter`` leaves them as they are.
        multiple: images are cropped at the bottom and right to sides that are multiples of this.
        first: the first frame that ``enhance`` gives, where it leaves out the clip's ends.

    Raises:
        DataError: the ground truth has another size or length, or nothing is left to crop to.
        MediaError: a frame cannot be read, or comes out as not a number.
    """
    waiting: deque[tuple[Eight, tuple[int, ...]]] = deque()
    targets = clip.read_targets(first)

    def sources() -> Iterator[Frame]:
        for index, frame in enumerate(clip.read()):
            cropped = _cropped(frame, multiple)
            if index >= first:
                waiting.append((in_8_bits(cropped), frame.image.pixels.shape))
            yield replace(frame, image=Image(cropped))

    started = time.perf_counter()
    for index, frame in enumerate(enhance(sources()), first):
        seconds = time.perf_counter() - started
        source, size = waiting.popleft()
        target = None
        if clip.targets is not None:
            target = _target(next(targets, None), frame, size, multiple)
        yield Passed(index, frame, source, in_8_bits(frame.image.pixels), target, seconds)
        started = time.perf_counter()
    for beyond in islice(targets, len(waiting), None):
        got = f"more from {beyond.where} on"
        raise DataError("the ground truth has more frames", where=clip.place, got=got)


def _target(target: Frame | None, frame: Frame, size: tuple[int, ...], multiple: int) -> Eight:
    """A frame's ground truth, cropped like the frame, which had that size."""
    if target is None:
        raise DataError("the ground truth ends before this frame", where=frame.where)
    if target.image.pixels.shape != size:
        raise DataError(
            "a frame and its ground truth differ in size",
            where=frame.where,
            got=f"{size[1]}x{size[0]}, and {target.where} {size_of(target.image.pixels)}",
        )
    return in_8_bits(_cropped(target, multiple))


def _cropped(frame: Frame, multiple: int) -> Pixels:
    pixels = frame.image.pixels
    height, width = (side // multiple * multiple for side in pixels.shape[:2])
    if height == 0 or width == 0:
        raise DataError(
            "the image is too small to be cropped to what the network takes",
            where=frame.where,
            got=size_of(frame.image.pixels),
            expected=f"sides of at least {multiple} pixels",
        )
    return np.ascontiguousarray(pixels[:height, :width])


class Guide:
    """The motion of a clip, along which it and all that networks made of it are measured.

    It is estimated on the ground truth where there is one, else on the input: on what no network
    made. Each frame's is estimated once, whoever asks.
    """

    def __init__(self, flow: NamedFlow) -> None:
        self._flow, self._index = GuideFlow(flow.estimate), -1
        self._motion: Motion | None = None

    def motion(self, passed: Passed) -> Motion | None:
        """The motion up to this frame, the one asked for last or the next; None at the first."""
        if passed.index != self._index:
            guide = passed.source if passed.target is None else passed.target
            self._motion, self._index = self._flow.next(guide), passed.index
        return self._motion


class Meter:
    """All measures of one clip, fed a frame at a time.

    Of a frame against its ground truth: what is given. Of the clip, where a guide is given:
    ``warping_error``, ``mabd`` and, against ground truth, ``mabd_mse``
    (:mod:`llve_common.metrics.temporal`). What the frames as they were score has the same name
    with ``input_`` before it.

    Args:
        measures: name to measure, such as ``psnr``, ``ssim``, ``fsim``.
        guide: of the clip; None: nothing is measured of the clip.
        before: whether frames are measured as they were too.
        quality: whether :func:`llve_common.metrics.quality.further` is measured too.
    """

    def __init__(
        self,
        measures: Mapping[str, Measure],
        guide: Guide | None,
        *,
        before: bool,
        quality: bool = False,
    ) -> None:
        self._measures, self._guide, self._quality = measures, guide, quality
        prefixes = ("", "input_") if before else ("",)
        self._steadiness = [(prefix, WarpingError(), Mabd()) for prefix in prefixes]
        self._means = defaultdict[str, Mean](Mean)

    def add(self, passed: Passed) -> dict[str, float]:
        """The next frame's scores; of those against ground truth none without it.

        Raises:
            DataError: sizes differ, or are too small for SSIM.
            UserError: FSIM's library is not installed.
        """
        values: dict[str, float] = {}
        target, pictures = passed.target, (passed.result, passed.source)
        try:
            motion = None if self._guide is None else self._guide.motion(passed)
            for (prefix, warping, mabd), pixels in zip(self._steadiness, pictures, strict=False):
                own: dict[str, float] = {}
                if target is not None:
                    own = {
                        name: measure(pixels, target) for name, measure in self._measures.items()
                    }
                if self._quality:
                    own |= further(pixels, passed.source, target)
                if self._guide is not None:
                    warping.update(pixels, motion)
                    mabd.update(pixels, target)
                values |= {f"{prefix}{name}": value for name, value in own.items()}
        except DataError as error:
            raise error.at(passed.frame.where) from None
        for name, value in values.items():
            self._means[name].add(value)
        return values

    def means(self) -> dict[str, float]:
        """The means of the frames' scores, each over the frames that have it."""
        found = {name: mean.value for name, mean in self._means.items()}
        return {name: value for name, value in found.items() if value is not None}

    def over_time(self) -> dict[str, float]:
        """What the clip scored as a whole, as far as it could be measured."""
        found: dict[str, float | None] = {}
        for prefix, warping, mabd in self._steadiness:
            brightness = mabd.compute()
            found[f"{prefix}warping_error"] = warping.compute()
            found[f"{prefix}mabd"] = brightness.mean
            found[f"{prefix}mabd_mse"] = brightness.mse
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class View:
    """What is shown of a clip: frames from its middle, and the middle row of its first frames.

    Attributes:
        frames: the pictures' names or numbers.
        pictures: WebP files, which need less memory.
        scores: what each frame scored.
        strip: (frames, W, 3) RGB; None where there is one frame only.
    """

    frames: tuple[str, ...]
    pictures: tuple[bytes, ...]
    scores: tuple[Mapping[str, float], ...]
    strip: Eight | None


class Camera:
    """Keeps of a clip what is shown of it.

    Args:
        middle: the number of the frame around which frames are kept, as far as there are so many.
        frames: how many; 0: there is nothing to show.
    """

    def __init__(self, middle: int, frames: int) -> None:
        self._end, self._strip = max(middle - frames // 2, 0) + frames, list[Eight]()
        self._kept: deque[tuple[str, Eight, Mapping[str, float]]] = deque(maxlen=frames)
        self.count = 0

    def add(self, pixels: Eight, name: str, scores: Mapping[str, float]) -> None:
        """The next frame, and what it scored."""
        if self._kept.maxlen and self.count < self._end:
            self._kept.append((name or f"frame {self.count}", reduced(pixels), scores))
        if self._kept.maxlen and self.count < STRIP_FRAMES:
            self._strip.append(pixels[pixels.shape[0] // 2].copy())
        self.count += 1

    def view(self) -> View | None:
        """What was kept, if anything."""
        if not self._kept:
            return None
        names, pictures, scores = zip(*self._kept, strict=True)
        strip = np.stack(self._strip) if self.count > 1 else None
        return View(names, tuple(map(to_webp, pictures)), scores, strip)


def reduced(pixels: Eight) -> Eight:
    """Pixels (H, W, 3) as a page shows them, of :data:`LONGEST_SIDE` at most."""
    factor = LONGEST_SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    smaller = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)


def evenly_spread(items: Sequence[T], count: int) -> list[T]:
    """What is shown of many items: the middle ones of that many equal parts, or all."""
    count = min(count, len(items))
    return [items[(2 * part + 1) * len(items) // (2 * count)] for part in range(count)]
