"""Decoding, network and encoding at the same time, in threads of their own."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")
# How many items are made ahead: enough that neither side waits for the other, few in memory.
_AHEAD = 3
_END = object()


def in_background(items: Iterable[T]) -> Generator[T]:
    """The same items, made by a thread that runs at most a few of them in front.

    What the thread raises is raised here, after the items before it. Closing the iterator stops the
    thread before its next item and waits for it.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "llve-background") as pool:
        coming = deque(pool.submit(next, iterator, _END) for _ in range(_AHEAD))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(pool.submit(next, iterator, _END))
                yield cast("T", item)
        finally:
            for each in coming:
                each.cancel()
            if isinstance(iterator, Generator):
                pool.submit(iterator.close).result()
