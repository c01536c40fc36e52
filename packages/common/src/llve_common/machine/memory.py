"""How much memory is left to this process, and what becomes of what it frees."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def memory_left() -> int | None:
    """Bytes that can still be allocated, by the machine, the container and the process's limit.

    None where the system does not tell, as outside Linux.
    """
    left = []
    with suppress(OSError, KeyError):
        left.append(sizes("/proc/meminfo")["MemAvailable:"] << 10)
    with suppress(OSError, ValueError, KeyError):
        group = Path("/sys/fs/cgroup")
        cached = sizes(group / "memory.stat")["inactive_file"]  # given back when it is needed
        used = int((group / "memory.current").read_text()) - cached
        left.append(int((group / "memory.max").read_text()) - used)
    with suppress(ImportError, OSError, KeyError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(limit - (sizes("/proc/self/status")["VmSize:"] << 10))
    return min(left, default=None)


def keep_freed_memory() -> None:
    """Keep what is freed for what is allocated next.

    GNU's allocator gives memory back as soon as much of it is free, and pieces above 32 MiB at
    once. A network asks for all of it again, page by page: 70 % of a training step of SGZ. The
    large pieces are kept only where 12 GiB are left: their gaps take up to half as much memory
    again. Threads share one heap, for those of their own are given back whatever is set. Nothing
    happens with other allocators, or where the variable ``MALLOC_TRIM_THRESHOLD_`` has a value.
    """
    import ctypes

    options = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if options is not None and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        trim_threshold, mmap_threshold, mmap_max, arena_max = -1, -3, -4, -8
        options(trim_threshold, -1)
        options(arena_max, 1)
        options(mmap_threshold, 32 << 20)  # the largest that there can be
        if (memory_left() or 0) > 12 << 30:
            options(mmap_max, 0)


@contextmanager
def lasting_objects() -> Iterator[None]:
    """Keep what is made in here, and all before it, from the garbage collector, if it is the first.

    Importing PyTorch makes 160 000 objects that last as long as the process. Looking through them,
    once more at its end, takes a quarter of the processor time of a command that enhances an image.
    """
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        gc.enable()


def sizes(path: str | Path) -> dict[str, int]:
    """The numbers in a file of the kernel's by their names."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    lines = map(str.split, text.splitlines())
    return {each[0]: int(each[1]) for each in lines if len(each) > 1 and each[1].isdecimal()}
