"""Output that is either whole or absent."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llve_common.errors import MediaError

_PREFIX = ".llve-"


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
        handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=_PREFIX, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(
            "cannot be written",
            where=path,
            got=error.strerror or str(error),
            mend="choose a folder that you may write to and that has room"
            # Windows lets nobody replace a file that a program has open.
            + (", or close the program that has the file open" if os.name == "nt" else ""),
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all.

    Raises:
        MediaError: as :func:`replacing`.
    """
    with replacing(path) as temporary:
        # Names of files that are not UTF-8 are shown by their bytes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def leftovers(folder: Path) -> list[Path]:
    """The temporary files that lie in a folder, by the exact names that :func:`replacing` gives.

    They are left by processes that were killed, where no live one writes to the folder.
    """
    form = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}(\.[^.]+)?")
    found = (path for path in folder.glob(f"{_PREFIX}*") if form.fullmatch(path.name))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
