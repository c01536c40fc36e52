"""How much memory is left to this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def memory_left() -> int | None:
    """Bytes that can still be allocated, by the machine, the container and the process's limit.

    None where the system does not tell, as outside Linux.
    """
    left = []
    with suppress(OSError, KeyError):
        left.append(_sizes("/proc/meminfo")["MemAvailable:"] << 10)
    with suppress(OSError, ValueError, KeyError):
        group = Path("/sys/fs/cgroup")
        cached = _sizes(group / "memory.stat")["inactive_file"]  # given back when it is needed
        used = int((group / "memory.current").read_text()) - cached
        left.append(int((group / "memory.max").read_text()) - used)
    with suppress(ImportError, OSError, KeyError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(limit - (_sizes("/proc/self/status")["VmSize:"] << 10))
    return min(left, default=None)


def _sizes(path: str | Path) -> dict[str, int]:
    """The numbers in a file of the kernel's by their names."""
    lines = (line.split() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return {each[0]: int(each[1]) for each in lines if len(each) > 1 and each[1].isdecimal()}
