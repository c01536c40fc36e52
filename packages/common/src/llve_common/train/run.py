"""A training run between two iterations, and the signals that end it."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from llve_common.machine.processes import STOPPING, Processes
from llve_common.machine.replay import Replayed
from llve_common.paper.contract import Clip, Paper, Plan, Procedure, Progress, TrainingSet


@dataclass
class Run:
    """A training run between two iterations.

    Attributes:
        paper, procedure, settings: whose network is trained, and how.
        data: the training set.
        network: that is trained.
        step: (batch, iteration from 1) to the named losses; shared by the processes.
        optimizer: of the network's weights.
        scaler: of fp16's gradients; disabled in other precisions.
        plan: when things happen.
        epoch_length: iterations in an epoch.
        device: what it computes on.
        me: which process this is.
        replayed: a batch to losses and gradients by a CUDA graph, where that is asked for.
        clips: to validate with and to draw previews from; the first process alone has them.
        folder: where it writes.
        iteration: how many updates were made.
        seconds: how long they took, those before a resume included.
        recent: the losses since they were logged last, by name.
        validations: the lines of the losses' file that hold a validation's scores.
        writer: TensorBoard's, in the first process of a run that wants it.
        stopped: whether a signal asks for an end.
    """

    paper: Paper
    procedure: Procedure[Any]
    settings: Any
    data: TrainingSet
    network: nn.Module
    step: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    plan: Plan
    epoch_length: int
    device: torch.device
    me: Processes
    clips: Sequence[Clip]
    replayed: Replayed | None = None
    folder: Path = Path()
    iteration: int = 0
    seconds: float = 0.0
    recent: dict[str, list[float]] = field(default_factory=dict)
    validations: list[dict[str, Any]] = field(default_factory=list)
    writer: Any = None
    stopped: bool = False

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(self.iteration, self.epoch_length)


@contextmanager
def stopping_softly(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP end the iteration; the second acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in STOPPING}
    # What is ignored stays so, as nohup wants it.
    usual = {number: each for number, each in usual.items() if each != signal.SIG_IGN}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def stop(number: int, frame: Any) -> None:
        run.stopped = True
        restore()

    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
