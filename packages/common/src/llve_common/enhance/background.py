"""Decoding, network and encoding at the same time, in threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()
# How many items may wait: enough that neither side waits for the other, few in memory.
_AHEAD = 2


def in_background(items: Iterable[T]) -> Generator[T]:
    """The same items, made by a thread that runs at most a few of them in front.

    What the thread raises is raised here, after the items before it. Closing the iterator stops the
    thread before its next item and waits for it.

    Args:
        items: iterated in the thread.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=_AHEAD)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # noqa: BLE001  (raised again by the one who waits)
            put(_Failure(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True, name="llve-background")
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join()


class _Failure:
    """An exception on its way from the thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
