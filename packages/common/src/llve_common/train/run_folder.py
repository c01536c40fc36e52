"""A fresh folder for every run, never one that holds something."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from logging.handlers import MemoryHandler
from pathlib import Path

from llve_common.errors import MediaError

log = logging.getLogger(__name__)


def fresh_folder(parent: Path, name: str) -> Path:
    """Make ``<parent>/<name>-<timestamp>``, numbered where that exists already.

    Raises:
        MediaError: the folder cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = parent / (f"{name}-{stamp}" + (f"-{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if not parent.is_dir():
                raise _cannot_make(folder, error) from error
        except OSError as error:
            raise _cannot_make(folder, error) from error
        else:
            return folder
    raise MediaError("a thousand runs started within this second", where=parent)


def named_folder(parent: Path, name: str) -> Path:
    """Make ``<parent>/<name>``; one that is there already becomes ``<name>_archived_<timestamp>``.

    Raises:
        MediaError: the folder cannot be made, or the old one not renamed.
    """
    folder = parent / name
    try:
        if folder.exists():
            archived = _archived(folder)
            folder.rename(archived)
            log.warning("%s is there already: renamed to %s", folder, archived)
        folder.mkdir(parents=True)
    except OSError as error:
        raise _cannot_make(folder, error) from error
    return folder


def _archived(folder: Path) -> Path:
    stamp = datetime.now().strftime("%y%m%d-%H%M%S")
    names = (f"{folder.name}_archived_{stamp}" + (f"-{n}" if n else "") for n in range(1000))
    return next(each for each in map(folder.with_name, names) if not each.exists())


@contextmanager
def log_file(package: str = "llve_common") -> Iterator[Callable[[Path], None]]:
    """Write the log of this project's packages to a file as well, while the block runs.

    Args:
        package: besides the core, what is to be in it from the level INFO on.

    Yields:
        What begins the file. What was logged in the block before that stands in it too, so that
        warnings from before there was a run folder are not lost.
    """
    kept = MemoryHandler(capacity=1000, flushLevel=logging.CRITICAL + 1)
    kept.addFilter(lambda record: record.name.startswith("llve_"))
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in {"llve_common", package}]
    levels = [each.level for each in loggers]

    def begin(file: Path) -> None:
        handler = logging.FileHandler(file, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        kept.setTarget(handler)
        kept.flush()
        kept.flushLevel = logging.NOTSET

    root.addHandler(kept)
    for each in loggers:
        if not each.isEnabledFor(logging.INFO):
            # A program that never set up its logging still gets the whole file.
            each.setLevel(logging.INFO)
    try:
        yield begin
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
        root.removeHandler(kept)
        handler = kept.target
        kept.close()
        if handler is not None:
            handler.close()


def _cannot_make(folder: Path, error: OSError) -> MediaError:
    return MediaError(
        "the run's folder cannot be made",
        where=folder,
        got=error.strerror,
        mend="choose a folder that you may write to",
    )
