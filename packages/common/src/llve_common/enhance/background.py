"""Decoding, network and encoding at the same time, in threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
# How many items may wait: enough that neither side waits for the other, few in memory.
_AHEAD = 2


def in_background(items: Iterable[T]) -> Generator[T]:
    """The same items, made by a thread that runs at most a few of them in front.

    What the thread raises is raised here, after the items before it. Closing the iterator stops the
    thread before its next item and waits for it.
    """
    # Whether it is an item, and the item; or else what the thread ended with, None at the end.
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=_AHEAD)
    stop = threading.Event()

    def put(is_item: bool, value: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put((is_item, value), timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # noqa: BLE001  (raised again by the one who waits)
            put(False, error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True, name="llve-background")
    thread.start()
    try:
        while (entry := waiting.get())[0]:
            yield entry[1]
        if entry[1] is not None:
            raise entry[1]
    finally:
        stop.set()
        thread.join()
