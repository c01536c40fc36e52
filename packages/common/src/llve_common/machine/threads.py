"""Threads in each of which torch computes alone.

Torch's own threads wait for each other after every operation, badly so on a busy machine. Work that
can be cut into independent parts is done faster by threads that each take whole parts.
"""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch


def lone_workers(count: int) -> ThreadPoolExecutor:
    """A pool of ``count`` threads, all started; elsewhere torch keeps its number of threads."""
    pool = ThreadPoolExecutor(count, "llve-worker", initializer=_compute_alone)
    # Each waits for all: so none starts later, when other code may be asking for torch's threads.
    together = threading.Barrier(count)
    try:
        for started in as_completed([pool.submit(together.wait) for _ in range(count)]):
            started.result()
    except BaseException:  # the system starts no more; the others would wait for ever
        together.abort()
        pool.shutdown(wait=False)
        raise
    return pool


_starting = threading.Lock()


def _compute_alone() -> None:
    """Let torch compute in this new thread with it alone, and leave all other threads as they are.

    Numbers below the smallest normal one count as zero here: published weights hold many, which
    weight decay has left of unused filters, and processors take a hundred times as long for them.

    ``torch.set_num_threads`` sets the number of the calling thread and the number that threads yet
    to come begin with. The second is put back by a thread made for it, which then ends.
    """
    with _starting:
        inherited = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        restorer = threading.Thread(target=torch.set_num_threads, args=(inherited,))
        restorer.start()
        restorer.join()
