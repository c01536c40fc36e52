"""Output that is either whole or absent."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from llve_common.errors import MediaError

_TEMPORARY = re.compile(r"\.llve-[0-9a-f]{16}(\.\w+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place only if the block succeeds.

    The temporary file has the same suffix, because encoders choose the format by it. What stood at
    ``path`` before is untouched until the new file is complete, and nothing is left behind by a
    failure.

    Raises:
        MediaError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_temporary(path) as held:
            try:
                yield Path(held.name)
                move_into_place(held, path)
            finally:
                _let_go(held)
                Path(held.name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


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
        file = path.with_name(f".llve-{secrets.token_hex(8)}{path.suffix}").open("xb")
        # Another process may take a file for a leftover before it is locked.
        if _lock(file) is not False and Path(file.name).exists():
            return file
        file.close()


def move_into_place(temporary: BinaryIO, path: Path) -> None:
    """Let a file of :func:`open_temporary` that is complete become ``path``."""
    temporary.flush()
    _let_go(temporary)
    Path(temporary.name).replace(path)


def _let_go(file: BinaryIO) -> None:
    # Windows neither moves nor removes an open file; it has no such locks.
    if os.name == "nt":
        file.close()


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
            _let_go(file)
            Path(file.name).unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder that killed processes left, and no other file."""
    for path in folder.glob(".llve-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError), path.open("rb") as file:
                if _lock(file):
                    path.unlink()


_clean_once = cache(remove_leftovers)


def _lock(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed: whether that was free; None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all.

    Raises:
        MediaError: as :func:`replacing`.
    """
    with replacing(path) as temporary:
        # Names of files that are not UTF-8 are shown by their bytes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
