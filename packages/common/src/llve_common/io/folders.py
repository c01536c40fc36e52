"""Folders of images, in an order that does not depend on the file system."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from llve_common.errors import DataError
from llve_common.io.images import IMAGE_SUFFIXES
from llve_common.io.video import is_video

log = logging.getLogger(__name__)


def list_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The images in a folder, sorted by their path as a plain string.

    Files that are not images by their suffix, and hidden ones, are left out and named in the log.

    Raises:
        DataError: the folder is missing, is a file, or holds no image.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.is_file() else "no such folder"
        raise DataError(what, where=folder, expected="a folder of images", mend="check the path")
    files = []
    for entry in folder.rglob("*") if recursive else folder.glob("*"):
        hidden = any(part.startswith(".") for part in entry.relative_to(folder).parts[:-1])
        if entry.is_file() and not hidden:
            files.append(entry)
    files.sort(key=lambda file: file.as_posix())
    images = [file for file in files if is_image(file)]
    if not images:
        raise DataError(
            "the folder holds no image",
            where=folder,
            got=f"{len(files)} other files" if files else "an empty folder",
            expected=f"files that end in {', '.join(IMAGE_SUFFIXES)}",
        )
    skipped = [file.relative_to(folder).as_posix() for file in files if not is_image(file)]
    if skipped:
        log.warning("%s: left out, not images: %s", folder, ", ".join(skipped))
    return images


def is_image(path: Path) -> bool:
    """Whether a path names an image by its suffix; hidden files do not count.

    What moves is no image, so files of the kinds that may move are looked into.
    """
    suffix = path.suffix.lower()
    moves = suffix in {".gif", ".apng"} and is_video(path)
    return suffix in IMAGE_SUFFIXES and not path.name.startswith(".") and not moves


def match_by_name(inputs: list[Path], targets: list[Path]) -> list[tuple[Path, Path]]:
    """Pair each input with the target of the same stem.

    Raises:
        DataError: an input has no target, a target has no input, or a stem appears twice on one
            side; every offender is named.
    """
    by_stem = {path.stem: path for path in targets}
    faults = without_partner({path.stem: path for path in inputs}, by_stem)
    for side in (inputs, targets):
        count = Counter(path.stem for path in side)
        faults += [f"{path} shares its stem" for path in side if count[path.stem] > 1]
    if faults:
        raise DataError(
            "inputs and ground truth do not match by file name",
            where=targets[0].parent if targets else None,
            got=some_of(faults),
            expected="one file of the same stem on each side",
        )
    return [(path, by_stem[path.stem]) for path in inputs]


def without_partner(inputs: Mapping[str, Path], targets: Mapping[str, Path]) -> list[str]:
    """A sentence for each of two sides' files or folders whose name the other side lacks."""
    faults = [f"{path} has no ground truth" for name, path in inputs.items() if name not in targets]
    return faults + [f"{path} has no input" for name, path in targets.items() if name not in inputs]


def some_of(faults: Sequence[str]) -> str:
    """The first ten of many faults, and how many more there are."""
    more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
    return "; ".join(faults[:10]) + more
