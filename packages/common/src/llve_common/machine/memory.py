"""How much memory is left to this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def memory_left() -> int | None:
    """Bytes that can still be allocated, by the machine, the container and the process's limit.

    None where the system does not tell, as outside Linux.
    """
    left = []
    with suppress(OSError, ValueError, KeyError):
        left.append(_sizes("/proc/meminfo")["MemAvailable"])
    with suppress(OSError, ValueError, KeyError):
        # What files are cached in is given back.
        lines = (_CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        cached = dict(line.split() for line in lines)["inactive_file"]
        used = int((_CGROUP / "memory.current").read_text()) - int(cached)
        left.append(int((_CGROUP / "memory.max").read_text()) - used)
    with suppress(ImportError, OSError, KeyError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(limit - _sizes("/proc/self/status")["VmSize"])
    return min(left, default=None)


def _sizes(path: str) -> dict[str, int]:
    """The lines ``name: N kB`` of a file of the kernel's, in bytes."""
    lines = (line.split() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return {each[0][:-1]: int(each[1]) << 10 for each in lines if each[2:] == ["kB"]}
