"""What Ctrl-C and SIGTERM do to a training run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llve_common.train.run import Run

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_softly(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the iteration; the second acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in _STOPPING}

    def stop(number: int, frame: Any) -> None:
        run.stopped = True
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for each, handler in usual.items():
            signal.signal(each, handler)


def leave_signals_to_trainer(worker: int) -> None:
    """A terminal and torchrun send signals to loader processes too, which are still needed."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
