"""Folders of images, in an order that does not depend on the file system."""

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from llve_common.errors import DataError
from llve_common.io.images import IMAGE_SUFFIXES
from llve_common.machine.shell import COMMAND
from llve_common.video import is_image, is_video

log = logging.getLogger(__name__)


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The images in a folder, sorted by their path as a plain string.

    What :func:`walk_without_results` leaves out, and files that are not images by their suffix, are
    named in the log.

    Raises:
        DataError: the folder is missing, is a file, may not be read, or holds no image.
    """
    files, left_out = walk_without_results(folder, recursive=recursive)
    images = [file for file in files if is_image(file)]
    if not images:
        raise holds_no_image(folder, len(files) + len(left_out))
    left_out += [file.relative_to(folder).as_posix() for file in files if not is_image(file)]
    name_left_out(folder, left_out, "not images")
    return images


def holds_no_image(folder: Path, others: int) -> DataError:
    """To raise where a folder holds so many other files alone."""
    below = [each.name for each in entries(folder) if each.is_dir()]
    alone = f"the folders {some_of(below)}" if below else "an empty folder"
    return DataError(
        "the folder holds no image",
        where=folder,
        got=f"{others} other files" if others else alone,
        expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
    )


def walk_without_results(folder: Path, *, recursive: bool) -> tuple[list[Path], list[str]]:
    """As :func:`walk`, without results of ours beside other images or videos.

    A run's previews would be its own data from then on. A folder of results alone is meant.

    Raises:
        DataError: as :func:`walk`.
    """
    files, left_out = walk(folder, recursive=recursive)
    ours = {file.parent for file in files if file.name == COMMAND} - {folder}
    if ours:
        others = [file for file in files if ours.isdisjoint(file.parents)]
        if any(is_image(file) or is_video(file) for file in others):
            names = [f"{each.relative_to(folder).as_posix()}/ (results)" for each in ours]
            return others, left_out + names
    return files, left_out


def walk(folder: Path, *, recursive: bool) -> tuple[list[Path], list[str]]:
    """The files in a folder, sorted by their path as a plain string, and the names left out.

    Left out are hidden files and folders, what may not be read, and links that lead nowhere.
    Linked folders are followed, but not back into a folder that they lie in.

    Raises:
        DataError: the folder is missing, is a file, or may not be read.
    """
    found: set[Path] = set()
    left_out: list[str] = []
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        place, above = waiting.pop()
        try:
            inside, state = entries(place), place.stat()
        except (DataError, OSError):
            if place == folder:
                raise
            left_out.append(f"{place.relative_to(folder).as_posix()}/ (may not be read)")
            continue
        here = above | {(state.st_dev, state.st_ino)}
        if here == above:
            continue
        shown = {entry for entry in inside if not entry.name.startswith(".")}
        # Unlike a path's methods, these say no where they may not ask.
        folders = {entry for entry in inside if os.path.isdir(entry)}  # noqa: PTH112
        files = {entry for entry in shown if os.path.isfile(entry)}  # noqa: PTH113
        found |= files
        if recursive:
            waiting += [(entry, here) for entry in folders & shown]
            folders &= shown
        odd = set(inside) - files - folders
        left_out += [entry.relative_to(folder).as_posix() for entry in odd]
    return sorted(found, key=lambda file: file.as_posix()), left_out


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name as a plain string.

    Raises:
        DataError: it is missing, is a file, or may not be read.
    """
    try:
        if folder.is_dir():
            return sorted(folder.iterdir())
        what = "is a file, not a folder" if folder.exists() else "no such folder"
    except OSError as error:
        raise DataError("the folder may not be read", where=folder, got=error.strerror) from error
    raise DataError(what, where=folder, expected="a folder of images", mend="check the path")


def name_left_out(folder: Path, names: Sequence[str], why: str) -> None:
    """Say in the log what of a folder is not used."""
    if names:
        log.warning("%s: left out, %s: %s", folder, why, some_of(sorted(names)))


def in_natural_order(path: Path) -> tuple[str, str]:
    """A key that sorts frames by the numbers in their names: 2.png before 10.png.

    Where the numbers have equally many digits, the order is that of the plain names.
    """

    def number(digits: re.Match[str]) -> str:
        value = digits[0].lstrip("0")
        return f"{len(value):03}{value}"

    return re.sub("[0-9]+", number, path.as_posix()), path.as_posix()


def named(path: Path) -> Path:
    """The path, or where it ends in ``.`` or ``..``, that folder by its own name."""
    return path if path.name not in ("", "..") else path.resolve()


def below_root(file: Path, root: Path) -> Path:
    """A file's path in a folder, or its name where the file itself was given for the folder."""
    return file.relative_to(root.parent if file == root else root)


def match_by_name(
    inputs: list[Path], targets: list[Path], below: tuple[Path, Path] | None = None
) -> list[tuple[Path, Path]]:
    """Pair each input with the target of the same stem, or folders of the same name.

    Where the folders of the two are given, ``below`` them their subfolders have to be the same.

    Raises:
        DataError: an input has no target, a target has no input, or a stem appears twice on one
            side; every offender is named.
    """
    names = [
        [path.name if path.is_dir() else path.stem for path in side] for side in (inputs, targets)
    ]
    if below is not None:
        names = [
            [below_root(path, root).with_suffix("").as_posix() for path in side]
            for side, root in zip((inputs, targets), below, strict=True)
        ]
    by_name = dict(zip(names[1], targets, strict=True))
    faults = without_partner(dict(zip(names[0], inputs, strict=True)), by_name)
    for side, named_so in zip((inputs, targets), names, strict=True):
        count = Counter(named_so)
        twins = [path for path, name in zip(side, named_so, strict=True) if count[name] > 1]
        faults += [f"{path} shares its stem" for path in twins]
    if faults:
        raise DataError(
            "inputs and ground truth do not match by file name",
            where=targets[0].parent if targets else None,
            got=some_of(faults),
            expected="one file of the same stem on each side",
        )
    return [(path, by_name[name]) for path, name in zip(inputs, names[0], strict=True)]


def without_partner(inputs: Mapping[str, Path], targets: Mapping[str, Path]) -> list[str]:
    """A sentence for each of two sides' files or folders whose name the other side lacks."""
    faults = [f"{path} has no ground truth" for name, path in inputs.items() if name not in targets]
    return faults + [f"{path} has no input" for name, path in targets.items() if name not in inputs]


def some_of(faults: Sequence[str]) -> str:
    """The first ten of many faults, and how many more there are."""
    more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
    return "; ".join(faults[:10]) + more
