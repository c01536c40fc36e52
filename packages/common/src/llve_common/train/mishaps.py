"""What ends a training from outside, as one message: memory, the disk, another process."""

import errno
import os
import re
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from llve_common.errors import MediaError, UserError
from llve_common.machine.processes import STOPPING, die_with_parent, processes

# Seconds: a process that waits computes less than this in a minute.
_WAITING = 0.015
_CODES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
_LOADER = re.compile("DataLoader (worker .*(is killed|exited)|timed out)|ancdata|open files")
_SHARED = re.compile(r"shared memory|\bshm\b|/torch_\d+|Bus error|exited.*No space left", re.DOTALL)
_MEMORY = re.compile("[Cc]an(no|')t allocate memory|not enough memory|out of memory")
_GROUP = re.compile("gloo|NCCL|(closed|reset) by peer|Broken pipe|Socket Timeout", re.IGNORECASE)
_FEWER = "use fewer train.workers; with 0 the training process loads its data itself"


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the machine fails at in this block into the user's one message.

    What is none of it, such as a bug, is raised as it is.

    Raises:
        UserError: a loader's process ended or is stuck, another process of the training ended, or
            memory, shared memory or open files ran out.
        MediaError: a file could not be read or written.
    """
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        _let_go_of_loaders(error)
        found = _explanation(error)
        if found is None:
            raise
        raise found from error


def _let_go_of_loaders(error: BaseException) -> None:
    """Spare the user PyTorch's second error when a loader that could not begin is thrown away."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        loader = frame.f_locals.get("self")
        if isinstance(loader, _MultiProcessingDataLoaderIter):
            begun = len(getattr(loader, "_workers", ()))
            loader.__dict__.setdefault("_workers_status", [False] * begun)


def settle_loader(worker: int) -> None:
    """Prepare a process that loads data for what its trainer, or the machine, may meet.

    A terminal and torchrun send it the signals that the trainer ends softly by, while it is still
    needed; it ends with the trainer, however that ends; and a batch that cannot be sent ends it,
    where multiprocessing would let the trainer wait for that batch for ever.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    Queue._on_queue_feeder_error = staticmethod(_exit_by_code)  # type: ignore[attr-defined]


def _exit_by_code(error: Exception, batch: Any) -> None:
    os._exit(next((code for code in _CODES if os.strerror(code) in str(error)), 1))


def with_cause(error: Exception, loaders: Iterable[BaseProcess]) -> Exception:
    """The error of a trainer whose loader's process ended, with why, by its exit code."""
    ended = [each.exitcode for each in loaders if not each.is_alive()]
    if ended or isinstance(error, EOFError | ConnectionError):
        codes = "".join(f" exit code {code}" for code in ended if code in _CODES)
        text = str(error) or type(error).__name__
        head = "" if text.startswith("DataLoader worker") else "DataLoader worker exited: "
        return RuntimeError(head + text + codes)
    return error


Work = list[tuple[float, int]]
"""Of each process, seconds of computing and bytes read since it began."""


def work_of(loaders: Iterable[BaseProcess]) -> Work | None:
    """What processes have done so far; None where the system does not tell, as Linux does."""
    try:
        return [_work_of(Path("/proc", str(each.pid))) for each in loaders]
    except (OSError, ValueError, LookupError):
        return None


def _work_of(process: Path) -> tuple[float, int]:
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    read = (process / "io").read_text().split()[1]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(read)


def has_worked(before: Work, now: Work) -> bool:
    """Whether any process has; one that waits for its next task computes a little."""
    return any(b[0] - a[0] > _WAITING or b[1] > a[1] for a, b in zip(before, now, strict=True))


def end_loaders(loaders: Iterable[BaseProcess]) -> None:
    """End processes that load data, also those that are stuck: Python would wait for them."""
    for process in loaders:
        with suppress(RuntimeError):  # torch reports the first
            process.kill()
            process.join(5)


def _explanation(error: Exception) -> UserError | None:
    text = str(error)
    if (code := re.search(r"exit code (\d+)", text)) and int(code[1]) in _CODES:
        text = f"{text.split(' exit')[0]}: {os.strerror(int(code[1]))}"
    got = ([line for line in text.splitlines() if line.strip()] or [type(error).__name__])[-1]
    if _SHARED.search(text):
        what = "no room in the shared memory of the processes that load data"
        return UserError(what, got=got, mend=f"enlarge /dev/shm, or {_FEWER}")
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(text):
        mend = "use a smaller train.batch_size, or compute it in parts by train.accumulate"
        return UserError("not enough memory", got=got, mend=mend)
    if _LOADER.search(text):
        more = "raise ulimit -n, or " if "open files" in text else ""
        return UserError("loading the data has failed", got=got, mend=more + _FEWER)
    if processes().count > 1 and _GROUP.search(text):
        mend = "look at what that process said, and go on with --resume"
        return UserError("another process of the training has ended", mend=mend)
    if isinstance(error, OSError) and error.strerror:
        return MediaError("cannot be read or written", where=error.filename, got=error.strerror)
    return None
