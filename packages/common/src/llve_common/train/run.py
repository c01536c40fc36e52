"""A training run between two iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from llve_common.machine.processes import Processes
from llve_common.paper.contract import Clip, Paper, Plan, Procedure, Progress


@dataclass
class Run:
    """A training run between two iterations.

    Attributes:
        paper: whose network.
        procedure: one of the paper's.
        settings: of the procedure's settings class.
        folder: where it writes.
        network: the network that is trained.
        step: (batch, iteration from 1) to the named losses; shared by the processes.
        optimizer: of the network's weights.
        scaler: of fp16's gradients; disabled in other precisions.
        plan: when things happen.
        epoch_length: iterations in an epoch.
        device: what it computes on.
        me: which process this is.
        clips: to validate with and to draw previews from; the first process alone has them.
        iteration: how many updates were made.
        seconds: how long they took, those before a resume included.
        recent: the losses since they were logged last, by name.
        writer: TensorBoard's, in the first process of a run that wants it.
        stopped: whether a signal asks for an end.
    """

    paper: Paper
    procedure: Procedure[Any]
    settings: Any
    folder: Path
    network: nn.Module
    step: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    plan: Plan
    epoch_length: int
    device: torch.device
    me: Processes
    clips: Sequence[Clip] = ()
    iteration: int = 0
    seconds: float = 0.0
    recent: dict[str, list[float]] = field(default_factory=dict)
    writer: Any = None
    stopped: bool = False

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(self.iteration, self.epoch_length)
