"""The window engine: a clip of any length through a network, each shared part computed once.

Consecutive windows share frames. A paper whose network is cut in two (:class:`Stream`)
has its parts kept while a later window needs them; memory stays constant with the clip's
length, and the result is that of the whole windows one by one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llve_common.clips.windows import index_in_clip
from llve_common.machine.device import computing_in
from llve_common.machine.replay import NotCaptured, Replayed, mapped
from llve_common.paper.contract import Model, Stream, Window

log = logging.getLogger(__name__)


def enhance_clip(model: Model, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Enhance every frame of a clip, in order.

    Frames beyond the clip's ends are others of its own, as the window's border mode says. Frame t
    comes out of the window that has it as its first output.

    Args:
        model: on the frames' device.
        frames: (N, 3, H, W) RGB in [0, 1], of one size that the network takes.

    Yields:
        (N, 3, H, W), not clipped, one for each frame.
    """
    window, keeper = model.window, _Keeper(model)
    reach, far = latency(window)
    source = iter(frames)
    last: int | None = None
    index = 0
    while last is None or index <= last:
        while last is None and keeper.count <= max(index + reach, far):
            frame = next(source, None)
            if frame is None:
                last = keeper.count - 1
            else:
                keeper.add(frame)
        if last is not None and index > last:
            return
        centre = index - window.outputs[0]
        end = keeper.count - 1 if last is None else last
        yield keeper.combine(centre, end, window.outputs[:1])[:, 0]
        index += 1
        keeper.forget(before=index - far)


def latency(window: Window) -> tuple[int, int]:
    """How many frames after a frame are read before it comes out: of any, and of a clip's first."""
    # At the clip's start a window reaches as far on as it would have reached back.
    reach = max(max(window.inputs) - window.outputs[0], window.outputs[0] - min(window.inputs))
    # Two border modes look beyond the window's other end instead: twice as far.
    return reach, 2 * reach if window.border in ("new_info", "circle") else reach


def enhance_inner_frames(model: Model, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Enhance the frames that windows within a clip give, and no other.

    A frame comes out of the window that has it as its first output; only the last window gives its
    further ones too. The first is frame :func:`inner_frames` ``.start``. A clip shorter than a
    window gives nothing; all else is as for :func:`enhance_clip`.
    """
    window, keeper = model.window, _Keeper(model)
    size, start = len(window.inputs), 0
    for frame in frames:
        if keeper.count == start + size:
            centre, last = start - window.inputs[0], keeper.count - 1
            yield keeper.combine(centre, last, window.outputs[:1])[:, 0]
            start += 1
            keeper.forget(before=start)
        keeper.add(frame)
    if keeper.count == start + size:
        centre, last = start - window.inputs[0], keeper.count - 1
        yield from keeper.combine(centre, last, window.outputs).unbind(1)


def inner_frames(window: Window, count: int) -> range:
    """Which frames of a clip of ``count`` frames :func:`enhance_inner_frames` gives."""
    first = window.outputs[0] - window.inputs[0]
    windows = max(0, count - len(window.inputs) + 1)
    return range(first, first + windows + len(window.outputs) - 1 if windows else first)


def whole_windows(model: Model) -> Stream:
    """The trivial cut of a network: a part is a frame, and a window goes through all of it."""
    paper, given = model.paper, model.window.outputs

    def combine(network: nn.Module, parts: list[Any], outputs: tuple[int, ...]) -> Tensor:
        enhanced = paper.enhance(network, torch.stack(parts, dim=1))
        return enhanced[:, [given.index(output) for output in outputs]]

    return Stream(frames=(0,), part=lambda network, frames: frames[:, 0], combine=combine)


def _quick(device: torch.device, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, on a CUDA device replayed from a graph where that can be, with the same result.

    What it makes is the caller's.
    """
    if device.type != "cuda":
        return function
    replayed: Replayed | None = Replayed(function, device)

    def call(given: Any) -> Any:
        nonlocal replayed
        try:
            return function(given) if replayed is None else mapped(replayed(given), torch.clone)
        except NotCaptured as error:
            log.info("the network runs as usual, without a CUDA graph: %s", error)
            replayed = None
            return function(given)

    return call


class _Keeper:
    """The frames and parts that windows still need, parts by the frames they were made of."""

    def __init__(self, model: Model) -> None:
        window, self.network = model.window, model.network
        self.precision, self.device = model.precision, model.device
        self.stream = stream = model.paper.stream or whole_windows(model)
        self.first = first = window.outputs[:1]
        part = partial(stream.part, self.network)
        whole = lambda parts: stream.combine(model.network, parts, first)  # noqa: E731
        # A frame that is its own part is nothing to compute, which makes no graph.
        self.part = _quick(self.device, part) if model.paper.stream else part
        self.whole = _quick(self.device, whole)
        self.size, self.border = len(window.inputs), window.border
        frames = self.stream.frames
        # Offsets of parts and frames added up are the window's inputs.
        self.offsets = range(window.inputs[0] - frames[0], window.inputs[-1] - frames[-1] + 1)
        self.frames: dict[int, Tensor] = {}
        self.parts: dict[tuple[int, ...], Any] = {}
        self.count = 0

    def add(self, frame: Tensor) -> None:
        self.frames[self.count] = frame
        self.count += 1

    def combine(self, centre: int, last: int, outputs: tuple[int, ...]) -> Tensor:
        keys = [
            tuple(
                index_in_clip(centre + part + frame, centre, last, self.size, self.border)
                for frame in self.stream.frames
            )
            for part in self.offsets
        ]
        with torch.inference_mode(), computing_in(self.precision, self.device):
            parts = [self._part(key) for key in keys]
            # Where parts stand in for others, a paper may spare itself work.
            if outputs == self.first and len(set(keys)) == len(keys):
                made: Tensor = self.whole(parts)
                return made
            return self.stream.combine(self.network, parts, outputs)

    def forget(self, before: int) -> None:
        self.frames = {key: value for key, value in self.frames.items() if key >= before}
        self.parts = {key: value for key, value in self.parts.items() if min(key) >= before}

    def _part(self, key: tuple[int, ...]) -> Any:
        if key not in self.parts:
            frames = torch.stack([self.frames[index] for index in key], dim=1)
            self.parts[key] = self.part(frames)
        return self.parts[key]
