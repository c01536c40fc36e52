"""The embedded set: short low/normal-light clips from the photographs that scikit-image ships.

A camera moves smoothly over a photograph; :mod:`llve_common.data.lowlight` darkens each clip. It
exists so that training, testing and enhancing run on a fresh machine. It is no benchmark.
"""

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from inspect import signature
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray
from skimage.util import img_as_ubyte

from llve_common.clips.frames import make_folder
from llve_common.data.lowlight import Darkening, DarkeningRanges, darken, draw_darkening
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST
from llve_common.data.sensor import Sensor
from llve_common.errors import DataError
from llve_common.io.atomic import remove_leftovers, temporary_folder, write_text
from llve_common.io.images import write_image

SPLITS = {
    "train": ("chelsea", "rocket", "immunohistochemistry", "camera", "coins"),
    "test": ("coffee", "stereo_motorcycle"),
}
"""Photographs by split, names of functions of ``skimage.data``; none is in both. Grey ones
are among them so that the colours have no common cast."""

# Milder than the paper's, so that a clip keeps enough signal to be judged by eye.
RANGES = DarkeningRanges(gamma=(2.0, 3.5), shot_gain=(1e-4, 1e-3), read_std=(1e-3, 4e-3))

_PHOTOGRAPH_DARKENING = Darkening(alpha=0.95, beta=0.6, gamma=2.6, shot_gain=2e-4, read_std=1e-3)


@dataclass(frozen=True)
class SyntheticClip:
    """One clip: (H, W, 3) uint8 RGB frames in low and in normal light."""

    split: str
    name: str
    low: list[NDArray[np.uint8]]
    normal: list[NDArray[np.uint8]]
    darkening: Darkening | Sensor


def synthetic_clips(
    *, clips: int = 2, frames: int = 6, height: int = 96, width: int = 128, seed: int = 0
) -> Iterator[SyntheticClip]:
    """Render the set: so many clips from each photograph; every pixel follows from the seed."""
    for split, names in SPLITS.items():
        for name in names:
            photograph, size = read_photograph(name), (height, width)
            for number in range(clips):
                rng = random.Random(f"{seed}/{name}/{number}")  # noqa: S311
                darkening = draw_darkening(RANGES, rng)
                noise = np.random.default_rng(rng.getrandbits(64))
                path = _camera_path(photograph.shape[:2], size, frames, rng)
                normal = [_view(photograph, transform, size) for transform in path]
                low = [darken(frame, darkening, noise) for frame in normal]
                yield SyntheticClip(split, f"{name}{number}", low, normal, darkening)


def read_photograph(name: str) -> NDArray[np.uint8]:
    """A photograph that scikit-image ships, (H, W, 3) uint8 RGB."""
    load: Callable[[], object] = getattr(skimage.data, name)
    picture = load()
    if isinstance(picture, tuple):
        picture = picture[0]
    pixels = img_as_ubyte(picture)
    colour = pixels[..., :3] if pixels.ndim == 3 else np.dstack([pixels] * 3)
    return np.ascontiguousarray(colour)


def write_image_set(folder: Path, **options: int) -> Path:
    """Write the set as folders of images, with ``options`` of :func:`synthetic_clips`.

    Raises:
        DataError: the folder holds something already, or is a file.
        MediaError: it cannot be written.
    """
    return write_images(folder, synthetic_clips(**options), _record(options))


def write_clip_set(folder: Path, *, suffix: str = ".npy", **options: int) -> Path:
    """Write the set in the SDSD layout, with ``options`` of :func:`synthetic_clips`.

    Raises:
        DataError: the folder holds something already, or is a file; or there are more clips than
            names for them.
        MediaError: it cannot be written.
    """
    return write_clips(folder, synthetic_clips(**options), _record(options), suffix)


def write_images(
    folder: Path, clips: Iterable[SyntheticClip], record: Mapping[str, object]
) -> Path:
    """Write clips as folders of images: ``{train,test}/{low,high}/<clip>_<frame>.png``.

    Folder, clips and record are those of :func:`write_clips`.

    Raises:
        DataError: the folder holds something already, or is a file.
        MediaError: it cannot be written.
    """
    written = dict(record)
    with _filled(folder) as new:
        for clip in clips:
            for number, (low, normal) in enumerate(zip(clip.low, clip.normal, strict=True)):
                file = f"{clip.name}_{number:04d}.png"
                write_image(new / clip.split / "low" / file, low)
                write_image(new / clip.split / "high" / file, normal)
            written[f"{clip.split}/{clip.name}"] = asdict(clip.darkening)
        write_text(new / "synthetic.json", json.dumps(written, indent=2) + "\n")
    return folder


def write_clips(
    folder: Path, clips: Iterable[SyntheticClip], record: Mapping[str, object], suffix: str = ".npy"
) -> Path:
    """Write clips in the SDSD layout: ``{GT,input}/pair<number>/<frame>``.

    The clips for testing have the names of SDSD indoor's, so that its settings serve as they are;
    ``train_list.txt`` and ``test_list.txt`` name those of each split, for TCE-Net.

    Args:
        folder: made where it is missing; ``synthetic.json`` in it holds how the set was made.
        clips: made one by one as they are written.
        record: how they were made.
        suffix: ``.npy``, or that of an image format without loss.

    Raises:
        DataError: the folder holds something already, or is a file; or there are more clips for
            testing than names for them.
        MediaError: it cannot be written.
    """
    written = dict(record)
    taken = {*SDSD_INDOOR_TEST, *SDSD_OUTDOOR_TEST}
    others = (pair for pair in map("pair{}".format, count(1)) if pair not in taken)
    names = {"train": others, "test": iter(SDSD_INDOOR_TEST)}
    listed: dict[str, list[str]] = {split: [] for split in names}
    with _filled(folder) as new:
        for clip in clips:
            pair = next(names[clip.split], None)
            if pair is None:
                raise DataError("too many clips", where=folder, expected="at most 12 for the test")
            for number, (low, normal) in enumerate(zip(clip.low, clip.normal, strict=True)):
                for side, pixels in (("input", low), ("GT", normal)):
                    write_image(new / side / pair / f"{number:04d}{suffix}", pixels)
            listed[clip.split].append(pair)
            written[pair] = {"photograph": clip.name, **asdict(clip.darkening)}
        for split, pairs in listed.items():
            write_text(new / f"{split}_list.txt", "".join(f"{pair}\n" for pair in pairs))
        write_text(new / "synthetic.json", json.dumps(written, indent=2) + "\n")
    return folder


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in a new or empty one, whose content is moved there at the end."""
    if folder.is_file():
        raise DataError("is a file, not a folder", where=folder, mend="give a new folder")
    mend = "give a new folder, or remove this one"
    not_empty = DataError("the folder is not empty", where=folder, mend=mend)
    make_folder(folder)
    remove_leftovers(folder)
    if any(folder.iterdir()):
        raise not_empty
    with temporary_folder(folder) as new:
        yield new
        # Folders first, in order: they cannot replace those of another process, which then wins.
        for each in sorted(new.iterdir(), key=lambda each: (each.is_file(), each.name)):
            try:
                each.rename(folder / each.name)
            except OSError:
                raise not_empty from None


def _record(options: Mapping[str, int]) -> dict[str, object]:
    """How a set is made, to be written beside it."""
    defaults = {name: each.default for name, each in signature(synthetic_clips).parameters.items()}
    return {"made_with": {"scikit-image": version("scikit-image"), **defaults, **options}}


def write_dark_photograph(folder: Path, name: str, seed: int) -> tuple[Path, Path]:
    """Write ``<name>.png`` and, in simulated low light, ``<name>-dark.png``, and return both.

    The name is that of a function of ``skimage.data``; the seed is the noise's.

    Raises:
        DataError: scikit-image has no colour image of that name.
        MediaError: a file cannot be written.
    """
    bundled = (*SPLITS["train"], *SPLITS["test"], "astronaut")
    if name not in bundled:
        known = f"one of {', '.join(sorted(bundled))}"
        raise DataError("no such photograph", where=name, expected=known)
    normal = read_photograph(name)
    dark = darken(normal, _PHOTOGRAPH_DARKENING, np.random.default_rng(seed))
    files = (folder / f"{name}.png", folder / f"{name}-dark.png")
    for file, pixels in zip(files, (normal, dark), strict=True):
        write_image(file, pixels)
    return files


def _camera_path(
    photograph: tuple[int, ...], size: tuple[int, int], frames: int, rng: random.Random
) -> Iterator[NDArray[np.float64]]:
    """For each frame the transform from its pixels to the photograph's."""
    # A frame turned by up to 5 degrees must stay inside the photograph.
    fits = min(photograph[0] / size[0], photograph[1] / size[1]) / 1.2
    zoom, angle = fits * rng.uniform(0.55, 0.85), rng.uniform(-3, 3)
    zooming, turning = fits * rng.uniform(-0.1, 0.1), rng.uniform(-2, 2)
    start, end = ([rng.uniform(0.3, 0.7) for _ in range(2)] for _ in range(2))
    for frame in range(frames):
        along = frame / max(frames - 1, 1)
        scale = zoom + along * zooming
        turn = math.radians(angle + along * turning)
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        centre_y, centre_x = (
            length / 2
            + max(length - scale * 1.15 * side, 0.0) * (first + along * (last - first) - 0.5)
            for length, side, first, last in zip(photograph, size, start, end, strict=True)
        )
        middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
        to_x = [cos, -sin, centre_x - cos * middle_x + sin * middle_y]
        to_y = [sin, cos, centre_y - sin * middle_x - cos * middle_y]
        yield np.array([to_x, to_y])


def _view(
    photograph: NDArray[np.uint8], transform: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    # Shrinking by more than one needs a smoothed photograph, or fine texture flickers.
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    if scale > 1:
        photograph = cv2.GaussianBlur(photograph, (0, 0), 0.5 * scale)  # type: ignore[assignment]
    view = cv2.warpAffine(
        photograph,
        transform,
        (size[1], size[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(view, np.uint8)
