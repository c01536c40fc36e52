"""Output that is either whole or absent."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from llve_common.errors import MediaError
from llve_common.machine.locks import lock

_TEMPORARY = re.compile(r"\.llve-[0-9a-f]{16}(\.\w+)?")
_FOLDER = ".folder"
# Seconds within which what is being written changes.
_AT_WORK = 3600
# By whose they are: a signal may end a process before a block removes them, or within. One that is
# forked off has its parent's too.
_made: dict[Path, int] = {}


@contextmanager
def replacing(path: Path, *, synced: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place only if the block succeeds.

    The temporary file has the same suffix, because encoders choose the format by it. What stood at
    ``path`` before is untouched until the new file is complete, and nothing is left behind by a
    failure. If ``synced``, a power cut leaves the old file or the new one too, never an empty one.

    Raises:
        MediaError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_temporary(path) as held:
            try:
                yield Path(held.name)
                move_into_place(held, path, synced=synced)
            finally:
                remove_temporary(held)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def temporary_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield a folder for this process alone; None: where the system keeps temporary files.

    A temporary file beside it, of its name, holds it, and both are removed as such.

    Raises:
        MediaError: the place cannot be written to.
    """
    try:
        held = open_temporary((place or Path(tempfile.gettempdir())) / f"any{_FOLDER}")
    except OSError as error:
        raise _unwritable(place or Path("the folder for temporary files"), error) from error
    try:
        folder = Path(held.name).with_suffix("")
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remove_temporary(held)


def _unwritable(path: Path, error: OSError) -> MediaError:
    return MediaError(
        "cannot be written",
        where=path,
        got=error.strerror or str(error),
        mend="choose a folder that you may write to and that has room"
        # Windows lets nobody replace a file that a program has open.
        + (", or close the program that has the file open" if os.name == "nt" else ""),
    )


def open_temporary(path: Path) -> BinaryIO:
    """A new hidden file beside ``path``, of its suffix and a name of fixed length, to be written.

    It is locked until it is closed, or until the process is killed: the next one that writes into
    the folder then removes it (:func:`remove_leftovers`).

    Raises:
        OSError: the folder cannot be written to.
    """
    _clean_once(path.parent.absolute())
    while True:
        temporary = path.with_name(f"{_of_this_machine()}{secrets.token_hex(5)}{path.suffix}")
        _made[temporary] = os.getpid()
        file = temporary.open("xb")
        # Another process may take a file for a leftover before it is locked.
        if lock(file) is not False and temporary.exists():
            return file
        remove_temporary(file)


def move_into_place(temporary: BinaryIO, path: Path, *, synced: bool) -> None:
    """Let a file of :func:`open_temporary` that is complete become ``path``.

    ``synced`` as of :func:`replacing`.
    """
    temporary.flush()
    if synced:
        os.fsync(temporary)
    # Windows does not move an open file; it has no such locks.
    if os.name == "nt":
        temporary.close()
    Path(temporary.name).replace(path)


def remove_temporary(file: BinaryIO) -> None:
    """Close a file of :func:`open_temporary`, and remove it if it is there still."""
    file.close()
    _remove(Path(file.name))
    _made.pop(Path(file.name), None)


def remove_temporaries() -> None:
    """Remove all temporary files of this process, which ends."""
    for path, process in list(_made.items()):
        if process == os.getpid():
            with suppress(OSError):
                _remove(path)


def _remove(path: Path) -> None:
    if path.suffix == _FOLDER:
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    path.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before there is anything to write.

    Raises:
        MediaError: it is a folder, or in its folder, which may be missing, no file can be made.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        there = next(each for each in path.parents if each.exists())
        with open_temporary(there / path.name) as file:
            remove_temporary(file)
    except OSError as error:
        raise _unwritable(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder that killed processes left, and no other file.

    Some file systems show a lock to its own machine alone: what another one left is spared for an
    hour.
    """
    for path in folder.glob(".llve-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError), path.open("rb") as file:
                if (path.name.startswith(_of_this_machine()) or _rests(path)) and lock(file):
                    _remove(path)


def _rests(temporary: Path) -> bool:
    """Whether nothing was written for an hour to a temporary file or in the folder of its name."""
    written = (temporary, *temporary.with_suffix("").rglob("*"))
    return time.time() - max(each.stat().st_mtime for each in written) > _AT_WORK


def _of_this_machine() -> str:
    """What names of this machine's temporary files begin with."""
    return f".llve-{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]}"


_clean_once = cache(remove_leftovers)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all.

    Raises:
        MediaError: as :func:`replacing`.
    """
    with replacing(path, synced=True) as temporary:
        # Names of files that are not UTF-8 are shown by their bytes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
