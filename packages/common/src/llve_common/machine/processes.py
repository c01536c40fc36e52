"""Several processes, started by torchrun, that train one network.

torchrun tells each process its rank by environment variables, on one machine or on several; without
them there is one process and nothing here does anything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from llve_common.errors import UserError

if TYPE_CHECKING:
    import torch

STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that ask a program to end; Windows knows no SIGHUP, which a terminal's end sends."""

# Validation runs on the first process while the others wait for it.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """Which process this is among all on all machines.

    ``rank`` counts from 0, and the first one writes; ``local_rank`` is the number of its GPU.
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
    import torch
    from torch import distributed as dist

    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield me
    finally:
        dist.destroy_process_group()


@contextmanager
def raise_in_all_processes(me: Processes) -> Iterator[None]:
    """A user's mistake that one process meets in this block is raised in all of them.

    Otherwise the others would wait for ever for the one that has left. All processes have to come
    here, and the block may hold no exchange between them.
    """
    fault: UserError | None = None
    try:
        yield
    except UserError as error:
        if me.count == 1:
            raise
        # Its traceback may hold what is to be freed before the process group.
        fault = error.with_traceback(None)
    if me.count > 1 and any_process(fault is not None, me):
        found = next(each for each in gather(fault, me) if each is not None)
        found.everywhere = True
        raise found


def any_process(flag: bool, me: Processes) -> bool:
    """Whether the flag is set in any process; cheap enough for every iteration."""
    if me.count == 1:
        return flag
    import torch
    from torch import distributed as dist

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    box = torch.tensor(int(flag), device=device)
    dist.all_reduce(box, dist.ReduceOp.MAX)
    return bool(box.item())


def broadcast(value: Any, me: Processes) -> Any:
    """The first process's value, in every process."""
    return gather(value, me)[0]


def gather(value: Any, me: Processes) -> list[Any]:
    """Every process's value by rank, in every process."""
    if me.count == 1:
        return [value]
    from torch import distributed as dist

    box: list[Any] = [None] * me.count
    dist.all_gather_object(box, value)
    return box


def die_with_parent() -> None:
    """Let Linux kill this process when the one that started it ends, however that ends."""
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
