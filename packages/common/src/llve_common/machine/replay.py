"""Functions of tensors replayed from a CUDA graph: all of their kernels are launched as one.

What a small network computes on a GPU takes less time than Python needs to launch its kernels one
by one. A graph launches them at once, with the memory that they had when they were captured.

Tensors come and go in dicts and tuples, whose form is part of what is captured.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from llve_common.errors import in_one_line

# PyTorch's advice: what is set up at first use, such as a choice of kernels, cannot be captured.
_CALLS_BEFORE = 3


class NotCaptured(Exception):  # noqa: N818
    """A function does what a graph cannot hold, or the device's memory is too small for it."""


class Replayed:
    """A function that is replayed from its fourth call on.

    Tensors of other shapes than the first call's go as usual.

    Args:
        function: of tensors on the device. It may change nothing that lies outside the device, for
            its Python code runs no more.
        device: a CUDA device, which need not be the current one.
    """

    def __init__(self, function: Callable[[Any], Any], device: torch.device) -> None:
        self._function, self._device = function, device
        self._beside = torch.cuda.Stream(device)
        self._shapes: list[torch.Size] = []
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: Any = None
        self._made: Any = None

    def __call__(self, given: Any) -> Any:
        """What the function makes; a later call may overwrite its tensors.

        Raises:
            NotCaptured: it cannot be.
        """
        with torch.cuda.device(self._device):
            return self._replayed(given)

    def _replayed(self, given: Any) -> Any:
        shapes = [each.shape for each in tensors(given)]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            return self._function(given)
        self._calls += 1
        if self._calls <= _CALLS_BEFORE:
            return self._as_captured(given)
        if self._graph is None:
            self._graph = self._captured(given)
        for kept, new in zip(tensors(self._given), tensors(given), strict=True):
            kept.copy_(new)
        self._graph.replay()
        return self._made

    def _as_captured(self, given: Any) -> Any:
        """On another stream than the usual, as a graph is captured."""
        usual = torch.cuda.current_stream()
        self._beside.wait_stream(usual)
        with torch.cuda.stream(self._beside):
            made = self._function(given)
        usual.wait_stream(self._beside)
        return made

    def _captured(self, given: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self._given = mapped(given, torch.clone)
        # Autocast keeps weights in half precision: the graph needs its own, and none but the graph.
        torch.clear_autocast_cache()
        try:
            with torch.cuda.graph(graph, stream=self._beside, capture_error_mode="thread_local"):
                self._made = self._function(self._given)
        except RuntimeError as error:
            # What ends the capture complains as well; the cause came before.
            raise NotCaptured(in_one_line(error.__context__ or error)) from error
        finally:
            torch.clear_autocast_cache()
        return graph


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors within dicts and tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | tuple | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors(each)


def mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same dicts and tuples with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(each, change) for key, each in value.items()}
    if isinstance(value, tuple | list):
        made = (mapped(each, change) for each in value)
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor (n) of another's type and device, made on that device.

    ``new_tensor`` would copy them from the host, which a graph cannot hold.
    """
    return torch.stack([like.new_full((), value) for value in values])
