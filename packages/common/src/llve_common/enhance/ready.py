"""What enhances frames. A paper's kernel needs no PyTorch, whose import takes over a second."""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import groupby
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from llve_common.clips.frames import Frame
from llve_common.config import Precision
from llve_common.errors import MediaError, UserError
from llve_common.io.images import NOT_A_NUMBER, Pixels
from llve_common.ops.kernels import Kernel
from llve_common.paper.about import About, LoadedWeights

Enhance = Callable[[Iterable[Frame]], Iterator[Frame]]
"""A clip's frames, or images one by one where the window is one frame, to the enhanced ones."""


@dataclass(frozen=True)
class Ready:
    """A paper's network with weights, ready for frames, and what a report says of it.

    Attributes:
        paper: its name.
        latency: as :func:`llve_common.enhance.windows.latency` tells.
    """

    paper: str
    enhance: Enhance
    weights: LoadedWeights | None
    device: str = "cpu"
    precision: Precision = "fp32"
    latency: tuple[int, int] = (0, 0)


def ready_without_torch(
    paper: About, weights: Path | None, device: str, precision: str
) -> Ready | None:
    """A paper's kernel, or None where PyTorch is needed, or tells what is wrong with the weights.

    Raises:
        ConfigError: ``LLVE_KERNELS`` names what does not exist or cannot be had.
    """
    path, state = weights or paper.bundled_file or Path(), {}
    on_cpu = device == "cpu" or (device == "auto" and not _may_have_a_gpu())
    if not (paper.has_kernel and on_cpu and precision in ("auto", "fp32")):
        return None
    with suppress(Exception):  # whatever a damaged file raises
        state = load_file(path) if path.suffix == ".safetensors" else {}
    kernel = import_module(f"{paper.package}.kernel").kernel_of(state)
    if kernel is None:
        return None
    workers = _threads()
    run = partial(enhance_by, kernel, ThreadPoolExecutor(workers, "llve-worker"), workers)

    def enhance(frames: Iterable[Frame]) -> Iterator[Frame]:
        return finished((each, partial(run, each.image.pixels)) for each in frames)

    return Ready(paper.name, enhance, LoadedWeights.of(path, bundled=weights is None))


def _may_have_a_gpu() -> bool:
    """Whether PyTorch might find one: a driver of NVIDIA's or AMD's shows, or nothing is known."""
    with suppress(OSError):
        return bool(ctypes.CDLL("libcuda.so.1"))
    devices = map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
    return any(devices) or sys.platform not in ("linux", "darwin")


def _threads() -> int:
    """As many as PyTorch would compute with."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return int(given) if given.isdecimal() and int(given) else cores


def enhance_by(kernel: Kernel, pool: ThreadPoolExecutor, workers: int, pixels: Pixels) -> Pixels:
    """Enhance one frame (H, W, 3) RGB, uint8 or uint16, in blocks of rows.

    Raises:
        MediaError: the kernel met values that are not a number.
    """
    pixels = np.ascontiguousarray(pixels)
    result, height = np.empty_like(pixels), len(pixels)
    # A kernel keeps little of a block at a time: so two for a thread, in case one is late. It may
    # compute two rows together, and which ones must not depend on the number of threads.
    rows = 2 * -(-height // (4 * workers))
    blocks = (range(start, min(start + rows, height)) for start in range(0, height, rows))
    begun = [pool.submit(kernel, pixels, result, block) for block in blocks]
    if not all(each.result() for each in begun):
        raise MediaError(NOT_A_NUMBER)
    return result


def as_wished(enhance: Enhance, strength: float = 1) -> Enhance:
    """The same for people: grey frames stay grey, and the strength is theirs.

    Tests do without it: a published score holds for what the network gives.

    Args:
        enhance: what the network does.
        strength: 1 is the enhanced frame, 0 exactly the source's.
    """

    def through(frames: Iterable[Frame]) -> Iterator[Frame]:
        waiting: deque[Pixels] = deque()
        kept = (waiting.append(frame.image.pixels) or frame for frame in frames)  # type: ignore[func-returns-value]
        for frame in enhance(kept):
            source = waiting.popleft()
            pixels = without_tint(frame.image.pixels, source)
            if strength != 1:
                change = strength * (pixels.astype(np.float32) - source)
                top = np.iinfo(source.dtype).max
                pixels = np.rint(source + change).clip(0, top).astype(source.dtype)
            yield _with(frame, pixels)

    return through


def previewed(enhance: Enhance, every: int) -> Enhance:
    """One second of a video in so many, each enhanced by itself, and shown one after the other."""

    def through(frames: Iterable[Frame]) -> Iterator[Frame]:
        seconds = groupby(frames, key=lambda frame: int(frame.time or 0))
        for second, within in seconds:
            if second % every == 0:
                for frame in enhance(within):
                    assert frame.time is not None
                    yield replace(frame, time=frame.time - second + second // every)

    return through


def without_tint(enhanced: Pixels, source: Pixels) -> Pixels:
    """The enhanced frame, turned to grey where its source is grey, so that no tint appears.

    A source is grey if its three channels are equal in every pixel, as those of a grey image or of
    an infrared camera's video are. Grey is the luma of BT.601.

    Args:
        enhanced: (H, W, 3) RGB, uint8 or uint16.
        source: (H, W, 3) RGB, what it was made of.
    """
    # A few pixels tell of nearly every picture in colour.
    for some in (source[::16, ::16], source):
        if not (np.array_equal(some[..., 0], some[..., 1])
                and np.array_equal(some[..., 0], some[..., 2])):  # fmt: skip
            return enhanced
    import cv2

    return np.asarray(cv2.merge([cv2.cvtColor(enhanced, cv2.COLOR_RGB2GRAY)] * 3), enhanced.dtype)


def finished(
    begun: Iterable[tuple[Frame, Callable[[], Pixels]]], ahead: int = 0
) -> Iterator[Frame]:
    """Each frame with its enhanced pixels, waited for when so many others are begun."""
    waiting: deque[tuple[Frame, Callable[[], Pixels]]] = deque()
    for each in begun:
        waiting.append(each)
        if len(waiting) > ahead:
            yield _with_result(*waiting.popleft())
    yield from (_with_result(*each) for each in waiting)


def _with_result(frame: Frame, finish: Callable[[], Pixels]) -> Frame:
    try:
        return _with(frame, finish())
    except UserError as error:
        raise error.at(frame.where) from None


def _with(frame: Frame, pixels: Pixels) -> Frame:
    return replace(frame, image=replace(frame.image, pixels=pixels))
