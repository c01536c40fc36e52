"""Losses and gradients replayed from a CUDA graph: all kernels of a step are launched as one.

A small network's step on a GPU is shorter than what Python needs to launch its kernels one by one.
A graph launches them at once, with the memory that they had when they were captured.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from llve_common.errors import ConfigError
from llve_common.paper.contract import Batch
from llve_common.train.batches import mapped, tensors

# PyTorch's advice: what is set up at first use, such as a choice of kernels, cannot be captured.
_CALLS_BEFORE = 3


class Replayed:
    """A function of a batch that leaves gradients, from its fourth call on by replay.

    A batch of another shape than the first's, such as an epoch's last, goes as usual.

    Args:
        gradients: sets the gradients of the parameters, and gives losses on the device. It may
            change nothing else that lies outside the device, for its Python code runs no more.
        parameters: which it sets the gradients of.
    """

    def __init__(
        self, gradients: Callable[[Batch], dict[str, Tensor]], parameters: Iterable[nn.Parameter]
    ) -> None:
        self._gradients, self._parameters = gradients, list(parameters)
        self._beside = torch.cuda.Stream()
        self._shapes: list[torch.Size] = []
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Any = None
        self._losses: dict[str, Tensor] = {}
        self._found: list[Tensor | None] = []

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The losses; a later call may overwrite them.

        Raises:
            ConfigError: the function does what a graph cannot hold.
        """
        self._shapes = self._shapes or _shapes(batch)
        if _shapes(batch) != self._shapes:
            return self._gradients(batch)
        if self._calls < _CALLS_BEFORE:
            self._calls += 1
            return self._as_captured(batch)
        if self._graph is None:
            self._graph = self._captured(batch)
        for kept, new in zip(tensors(self._batch), tensors(batch), strict=True):
            kept.copy_(new)
        self._graph.replay()
        for parameter, found in zip(self._parameters, self._found, strict=True):
            parameter.grad = found
        return self._losses

    def _as_captured(self, batch: Batch) -> dict[str, Tensor]:
        """On another stream than the usual, as a graph is captured."""
        usual = torch.cuda.current_stream()
        self._beside.wait_stream(usual)
        with torch.cuda.stream(self._beside):
            losses = self._gradients(batch)
        usual.wait_stream(self._beside)
        return losses

    def _captured(self, batch: Batch) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        self._batch = mapped(batch, torch.clone)
        try:
            with torch.cuda.graph(graph, stream=self._beside, capture_error_mode="thread_local"):
                self._losses = self._gradients(self._batch)
        except RuntimeError as error:
            raise ConfigError(
                "the losses of this training cannot be captured in a CUDA graph",
                where="train.graph", got=str(error).partition("\n")[0],
                expected="losses that the device computes alone", mend="use train.graph=false",
            ) from error  # fmt: skip
        self._found = [parameter.grad for parameter in self._parameters]
        return graph


def _shapes(batch: Batch) -> list[torch.Size]:
    return [each.shape for each in tensors(batch)]
