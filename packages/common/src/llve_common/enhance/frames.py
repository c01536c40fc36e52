"""Frames through a paper's network, at their own size: a window, a frame, a clip."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.clips.frames import Frame, of_one_size
from llve_common.enhance.ready import Enhance, Ready, finished
from llve_common.enhance.row_blocks import RowBlocks
from llve_common.enhance.windows import enhance_clip, enhance_inner_frames, inner_frames, latency
from llve_common.io.images import (
    Image,
    Pixels,
    begin_levels,
    begin_pixels,
    to_levels,
    to_pixels,
    to_tensor,
    white,
)
from llve_common.machine.device import computing_in
from llve_common.paper.contract import Model, Prepared, Window


def enhance_frames(model: Model, frames: Tensor) -> Tensor:
    """Enhance one window of any size.

    Height and width are padded at the bottom and right to what the window takes, by reflection, or
    by replication where a side is too short to reflect, and the result is cropped back.

    Args:
        model: on the frames' device.
        frames: (N, T, 3, H, W) RGB in [0, 1], T as the window's inputs.

    Returns:
        (N, outputs, 3, H, W), not clipped.
    """
    height, width = frames.shape[-2:]
    with torch.inference_mode(), computing_in(model.precision, model.device):
        padded = pad_to_fit(frames, model.window)
        enhanced: Tensor = model.paper.enhance(model.network, padded)[..., :height, :width]
        return enhanced


def pad_to_fit(frames: Tensor, window: Window) -> Tensor:
    """Pad (N, T, 3, H, W) at the bottom and right to sides that a window's network takes."""
    height, width = frames.shape[-2:]
    multiple, remainders = window.multiple, window.remainders
    down, right = (
        0 if side >= multiple and side % multiple in remainders else -side % multiple
        for side in (height, width)
    )
    if down == 0 and right == 0:
        return frames
    mode = "reflect" if down < height and right < width else "replicate"
    padded = F.pad(frames.flatten(0, 1), (0, right, 0, down), mode=mode)
    return padded.reshape(*frames.shape[:2], *padded.shape[1:])


def frame_enhancer(model: Model, *, inner: bool = False, ahead: int = 0) -> Enhance:
    """The way from frames to enhanced frames, prepared once for a network.

    Depth (8 or 16 bits) and transparency are kept, and memory is constant with the clip's length.
    It raises MediaError where a frame comes out as not a number, or where a window has several and
    one has another size than the first.

    Args:
        model: later changes to its weights may go unseen.
        inner: leave out the frames at a clip's ends that no window within the clip gives.
        ahead: frames that a CUDA device may work on beyond the one that is waited for; results come
            as many frames later. A CPU works on one.
    """
    ahead = ahead if model.device.type == "cuda" else 0
    if len(model.window.inputs) == 1:
        begin = deferred_enhancer(model)
        return lambda frames: finished(((each, begin(each.image.pixels)) for each in frames), ahead)
    return lambda frames: finished(_in_windows(model, frames, inner=inner), ahead)


def enhancer_to_8_bits(model: Model, *, inner: bool = False) -> Enhance:
    """What :func:`frame_enhancer` gives, as tests score it: rounded to 8 bits as the paper does.

    The network sees all bits of a frame.
    """
    enhance, rounding = frame_enhancer(model, inner=inner), model.paper.rounding

    def through(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in enhance(map(_not_rounded, frames)):
            pixels = frame.image.pixels
            if pixels.dtype.kind == "f":
                pixels = to_pixels(torch.from_numpy(pixels).movedim(2, 0), rounding)
            yield replace(frame, image=Image(pixels))

    return through


def _not_rounded(frame: Frame) -> Frame:
    """A frame of 16 bits in units of 1, so that what is made of it is not rounded to 16."""
    pixels = frame.image.pixels
    if pixels.dtype != np.uint16:
        return frame
    units: Any = np.divide(pixels, white(pixels.dtype), dtype=np.float32)
    return replace(frame, image=Image(units))


def ready(model: Model) -> Ready:
    """A model for the command ``enhance``; a CUDA device works on a frame ahead."""
    enhance, name, device = frame_enhancer(model, ahead=1), model.paper.name, model.device.type
    return Ready(name, enhance, model.weights, device, model.precision, latency(model.window))


def deferred_enhancer(model: Model) -> Callable[[Pixels], Callable[[], Pixels]]:
    """What begins work on a frame (H, W, 3), RGB, and gives the call that waits for the result.

    Both are uint8, uint16 or floats in units of 1. It is prepared once for the network, and later
    changes to its weights may go unseen. On a CPU in float32, a paper that prepares its network or
    whose halo is finite goes in blocks of rows; on a CUDA device in float32, one that fuses its
    network goes by its kernel.
    """
    paper, device, exact = model.paper, model.device, model.precision == "fp32"
    prepared = _prepared(model) if exact and device.type == "cpu" else None
    if prepared is not None:
        return partial(partial, RowBlocks(prepared, paper.rounding))
    fuse = paper.fuse if exact and device.type == "cuda" else None
    kernel = None if fuse is None else fuse(model.network)

    def begin(pixels: Pixels) -> Callable[[], Pixels]:
        if kernel is not None and pixels.dtype.kind != "f":
            return begin_levels(*kernel(to_levels(pixels, device)))
        enhanced = enhance_frames(model, to_tensor(pixels, device)[None, None])
        return begin_pixels(enhanced[0, 0], paper.rounding, pixels.dtype)

    return begin


def _prepared(model: Model) -> Prepared | None:
    """The network for blocks of rows; None where only whole frames go through it."""
    paper, window = model.paper, model.window
    prepared = None if paper.prepare is None else paper.prepare(model.network)
    if prepared is not None or window.multiple != 1 or window.halo is None:
        return prepared

    def run(block: Tensor, first: int, seen: None) -> Tensor:
        return paper.enhance(model.network, block[:, None])[:, 0]

    return Prepared(run, window.halo)


def _in_windows(
    model: Model, frames: Iterable[Frame], *, inner: bool
) -> Iterator[tuple[Frame, Callable[[], Pixels]]]:
    waiting: deque[Frame] = deque()
    window, device = model.window, model.device

    def padded() -> Iterator[Tensor]:
        for frame in of_one_size(frames):
            waiting.append(frame)
            tensor = to_tensor(frame.image.pixels, device)[None, None]
            yield pad_to_fit(tensor, window)[:, 0]

    streamed = enhance_inner_frames if inner else enhance_clip
    left_out = inner_frames(window, 0).start if inner else 0
    for enhanced in streamed(model, padded()):
        while left_out:
            waiting.popleft()
            left_out -= 1
        frame = waiting.popleft()
        height, width = frame.image.pixels.shape[:2]
        cropped = enhanced[0, :, :height, :width]
        yield frame, begin_pixels(cropped, model.paper.rounding, frame.image.pixels.dtype)
