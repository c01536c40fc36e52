"""What one process at a time may write to."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llve_common.errors import MediaError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LOCK = "lock"
"""The file in a folder by whose lock a process holds the folder."""


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes.

    The lock is a POSIX record lock: it ends with its process, however that ends, forked processes
    do not inherit it, and NFS keeps it over machines where its lock service runs. Where the file
    system has no locks, a warning says so; on Windows nothing is locked.

    Raises:
        MediaError: a live process holds the folder, or the lock's file cannot be written.
    """
    path = folder / LOCK
    try:
        # Never removed: another process could lock the new file of that name beside the old one.
        file = path.open("r+" if path.exists() else "w+", encoding="utf-8")
    except OSError as error:
        raise MediaError("cannot be written", where=path, got=error.strerror) from error
    with file:
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning("%s: this file system has no locks: %s", folder, error.strerror)
            else:
                raise _held(folder, file.read().strip() or None) from error
        with suppress(OSError):  # a full disk is said by what has to be written
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder of results against this machine's other processes, and leave nothing in it.

    It is made where it is missing, and removed if it is empty then. On Windows nothing is locked.

    Raises:
        MediaError: a live process holds the folder, or it cannot be made.
    """
    if fcntl is None:
        yield
        return
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise MediaError("cannot be written", where=folder, got=error.strerror) from error
    try:
        if lock(held) is False:
            raise _held(folder)
        yield
    finally:
        os.close(held)
        with suppress(OSError):
            for each in made:
                each.rmdir()


def lock(file: BinaryIO | int) -> bool | None:
    """Lock a file until it is closed: whether that was free; None where there are no locks."""
    try:
        if fcntl is None:
            return None
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _held(folder: Path, by: str | None = None) -> MediaError:
    return MediaError(
        "another process writes to this folder",
        where=folder,
        got=by,
        mend="wait until it ends, or stop it; or choose another name",
    )
