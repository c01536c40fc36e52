"""Several processes, started by torchrun, that train one network.

torchrun tells each process its rank by environment variables, on one machine or on several; without
them there is one process and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Validation runs on the first process while the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """Which process this is among all.

    Attributes:
        rank: from 0; the first one writes.
        count: of all processes on all machines.
        local_rank: on this machine, the number of its GPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0


ALONE = Processes()


def processes() -> Processes:
    """What torchrun says of this process; one alone without torchrun."""
    read = {name: int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK")}
    return Processes(read["RANK"], int(os.environ.get("WORLD_SIZE", "1")), read["LOCAL_RANK"])


@contextmanager
def process_group(device: torch.device) -> Iterator[Processes]:
    """Join the other processes, if there are any, by nccl on GPUs and gloo on CPUs."""
    me = processes()
    if me.count == 1:
        yield me
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield me
    finally:
        dist.destroy_process_group()


def from_first(value: Any, me: Processes) -> Any:
    """The first process's value, in every process."""
    if me.count == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def from_all(value: Any, me: Processes) -> list[Any]:
    """Every process's value by rank, in every process."""
    if me.count == 1:
        return [value]
    box: list[Any] = [None] * me.count
    dist.all_gather_object(box, value)
    return box
