"""What a network costs: parameters, multiply-accumulates, time and memory."""

import ctypes
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from llve_common.machine.memory import sizes

_STATUS = Path("/proc/self/status")


def parameter_count(network: nn.Module, run: Callable[[], Tensor] | None = None) -> int:
    """The number of learnable values, shared ones counted once.

    Given ``run``, only those count that its result depends on.
    """
    parameters = list(network.parameters())
    if run is None or not parameters:
        return sum(parameter.numel() for parameter in parameters)
    with torch.enable_grad():
        total = run().sum()
    if not total.requires_grad:
        return 0
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return sum(each.numel() for each, gradient in pairs if gradient is not None)


def multiply_accumulates(run: Callable[[], Any]) -> int:
    """Multiply-accumulates of all convolutions, matrix products and attention in ``run()``.

    A multiplication with its addition counts as one. A deformable convolution counts as a
    convolution. Biases, normalisation, activations and resampling do not count; papers that count
    them report some per cent more.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops()) // 2


def latency(run: Callable[[], Any], *, device: torch.device, repeats: int = 7) -> float:
    """Seconds that ``run()`` takes: the median of ``repeats`` calls, after one that warms up.

    On a GPU, a call ends when the device has finished.
    """
    _finish(run, device)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        _finish(run, device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def peak_memory(run: Callable[[], Any], *, device: torch.device) -> int | None:
    """Bytes that one ``run()`` needs at its peak above what is held before, after a warm-up.

    On a GPU: memory in tensors, exactly. On a CPU: the process's resident set, read every
    millisecond, so a shorter peak may be missed; what earlier calls freed is handed back to the
    system before, where the C library can, so that it counts when it is used again. None where the
    system does not tell (Linux does).
    """
    _finish(run, device)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _finish(run, device)
        return torch.cuda.max_memory_allocated(device) - before
    return _resident_peak(run) if _STATUS.is_file() else None


def _finish(run: Callable[[], Any], device: torch.device) -> None:
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident_peak(run: Callable[[], Any]) -> int:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    before = _resident()
    highest = before
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.001):
            highest = max(highest, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = run()
        at_the_end = _resident()
        del result
    finally:
        done.set()
        watcher.join()
    return max(highest, at_the_end) - before


def _resident() -> int:
    """Bytes of this process in physical memory."""
    return sizes(_STATUS)["VmRSS:"] << 10
