"""A training set of a folder of photographs: clips that move, in simulated low light.

Some photographs are held out for the test: those whose names have the smallest SHA-256, at most
twelve and at most a tenth of them, so that a larger folder holds out mostly the same ones.
"""

import hashlib
import logging
import multiprocessing
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from llve_common import __version__
from llve_common.clips.clip import read_frame
from llve_common.clips.folders import list_images
from llve_common.data.scenes import moving_clip
from llve_common.data.sensor import SensorRanges, draw_sensor, low_light
from llve_common.data.synthetic import SyntheticClip, write_clips, write_images
from llve_common.errors import DataError, MediaError, in_one_line
from llve_common.machine.processes import die_with_parent

log = logging.getLogger(__name__)

_HELD_OUT = 12
_SMALLEST = 16


def write_photograph_set(
    photographs: Path,
    out: Path,
    *,
    layout: Literal["clips", "images"],
    clips: int,
    frames: int,
    size: tuple[int, int],
    ranges: SensorRanges,
    seed: int,
    workers: int = 1,
    watch: Callable[[int, int], None] = lambda done, count: None,
) -> None:
    """Write a set; every pixel follows from the photographs and the seed.

    Args:
        photographs: a folder of at least two images, with subfolders.
        out: a new folder; ``synthetic.json`` in it holds how the set was made, with a digest of the
            photographs.
        layout: ``clips`` as :func:`write_clips`, ``images`` as :func:`write_images`.
        clips: of each photograph; of those held out it is one.
        frames: of a clip.
        size: height and width.
        ranges: of the low light.
        seed: of all random numbers.
        workers: processes that render clips; the set does not depend on it.
        watch: is told (clips done, clips in all).

    Raises:
        DataError: the output folder is not empty, or there are fewer than two photographs.
        MediaError: a file cannot be written.
    """
    found = _readable(photographs)
    held = min(_HELD_OUT, max(len(found) // 10, 1))
    splits = {"test": dict(list(found.items())[:held]), "train": dict(list(found.items())[held:])}
    tasks = [
        _Task(split, name, number, files, frames, size, ranges, seed)
        for split, files in splits.items()
        for name in sorted(files)
        for number in range(clips if split == "train" else 1)
    ]

    def rendered() -> Iterator[SyntheticClip]:
        for done, clip in enumerate(_render_all(tasks, workers), 1):
            yield clip
            watch(done, len(tasks))

    record: dict[str, object] = {
        "made_with": {"llve": __version__, "photographs": len(found), "held_out": held,
                      "photographs_sha256": _digest(list(found.values())), "clips": clips,
                      "frames": frames, "height": size[0], "width": size[1], "seed": seed,
                      "ranges": asdict(ranges)}
    }  # fmt: skip
    (write_clips if layout == "clips" else write_images)(out, rendered(), record)


class _Task(NamedTuple):
    """A clip to render: of which photographs, and how."""

    split: str
    name: str
    number: int
    files: dict[str, Path]
    frames: int
    size: tuple[int, int]
    ranges: SensorRanges
    seed: int


def _render_all(tasks: Sequence[_Task], workers: int) -> Iterator[SyntheticClip]:
    """The clips in order; at most four of each process wait to be written."""
    if workers == 1:
        yield from map(_render, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _settle) as pool:
        for first in range(0, len(tasks), 4 * workers):
            yield from pool.map(_render, tasks[first : first + 4 * workers])


def _settle() -> None:
    """One thread for each process, which ends with the first one, whose business Ctrl-C is."""
    die_with_parent()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render(task: _Task) -> SyntheticClip:
    seed = f"{task.seed}/{task.name}/{task.number}".encode(errors="surrogateescape")
    rng = random.Random(seed)  # noqa: S311
    others = rng.sample(list(task.files), min(rng.randint(0, 2), len(task.files) - 1))
    pictures = [read_frame(task.files[each]) for each in (task.name, *others)]
    sensor = draw_sensor(task.ranges, rng)
    noise = np.random.default_rng(rng.getrandbits(64))
    normal = moving_clip(pictures, task.frames, task.size, rng, sensor.kept)
    low = low_light(normal, sensor, noise)
    stem = f"{task.name.replace('/', '-')}-{task.number}"
    return SyntheticClip(task.split, stem, low, normal, sensor)


def _readable(folder: Path) -> dict[str, Path]:
    """The images of a folder by name, those to hold out first; what is none is left out.

    Raises:
        DataError: there are fewer than two.
    """
    found = {}
    for path in list_images(folder, recursive=True):
        try:
            if min(read_frame(path).shape[:2]) >= _SMALLEST:
                found[path.relative_to(folder).with_suffix("").as_posix()] = path
            else:
                log.warning("left out, smaller than %d pixels: %s", _SMALLEST, path)
        except MediaError as error:
            log.warning("left out: %s", in_one_line(error))
    if len(found) < 2:
        expected = "at least two photographs, one of them for the test"
        raise DataError("too few photographs", where=folder, got=len(found), expected=expected)
    names = sorted(found, key=lambda name: _hash(name.encode(errors="surrogateescape")))
    return {name: found[name] for name in names}


def _digest(files: Sequence[Path]) -> str:
    """A digest of the files' contents, whatever their order and names."""
    return _hash("\n".join(sorted(_hash(file.read_bytes()) for file in files)).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
