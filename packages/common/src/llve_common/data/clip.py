"""Video clips in folders, in low and in normal light, and windows of them to train on.

The SDSD layout is ``<subset>/GT/<clip>/<frame>`` and ``<subset>/input/<clip>/<frame>`` (``LQ`` for
``input`` is known too); the SMID layout is ``SMID_LQ_np/<scene>/<frame>`` with one ground truth for
each scene in ``SMID_Long_np/<scene>``. Frames are ``.npy`` files of uint8 BGR (H, W, 3), or images.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llve_common.data.windows import Border, window_indices
from llve_common.errors import ConfigError, DataError
from llve_common.io.folders import list_images, match_by_name
from llve_common.io.images import in_8_bits, read_image, to_tensor

log = logging.getLogger(__name__)

_OTHER_NAMES = (("input", "LQ"), ("LQ", "input"))
_OTHER_KINDS = (("_np", "_png"), ("_png", "_np"))

Size = tuple[int, int]
"""Width and height, in the order that the published settings have."""


@dataclass(frozen=True)
class Clip:
    """Frames that belong together, with their ground truth where there is one.

    For an image method, a folder of images is a clip; each is enhanced by itself.

    Attributes:
        name: of the clip.
        frames: files in low light, in order.
        targets: files of their ground truth, one for each frame.
        size: what frames and ground truth are resized to before anything is done with them, as
            (width, height); None leaves them as they are.
    """

    name: str
    frames: tuple[Path, ...]
    targets: tuple[Path, ...] | None = None
    size: Size | None = None

    def first(self, count: int) -> Clip:
        """The clip of the first ``count`` frames alone."""
        targets = None if self.targets is None else self.targets[:count]
        return replace(self, frames=self.frames[:count], targets=targets)


def low_and_high(root: Path) -> tuple[Path, Path]:
    """The two folders of a set: ``input`` or ``LQ``, and ``GT``; or SMID's two.

    Raises:
        DataError: the root is missing or holds no image, or is not laid out so.
    """
    pairs = [(root / "input", root / "GT"), (root / "LQ", root / "GT")]
    pairs += [(root / f"SMID_LQ{kind}", root / f"SMID_Long{kind}") for kind in ("_np", "_png")]
    for low, high in pairs:
        if low.is_dir():
            return low, high
    list_images(root, recursive=True)
    raise DataError(
        "not laid out as a data set of clips",
        where=root,
        got=", ".join(sorted(each.name for each in root.iterdir())[:10]),
        expected="GT and input (or LQ) in it, or SMID_Long_np and SMID_LQ_np",
    )


def set_folders(root: Path, low: Path | None, high: Path | None) -> tuple[Path, Path | None]:
    """The folders of a set's input and ground truth: those given, and for the rest the root's.

    Args:
        root: see :func:`low_and_high`; not looked at where the input's folder is given.
        low: the input's folder; None: the one in the root.
        high: the ground truth's folder; None: the one in the root, beside the input.

    Returns:
        Each by whichever of its names is there (:func:`either_name`); None for the ground truth
        where there is none.

    Raises:
        DataError: the root is missing or laid out otherwise.
    """
    low, high = (None if each is None else either_name(each) for each in (low, high))
    if low is None:
        low, beside = low_and_high(either_name(root))
        if high is None and beside.is_dir():
            high = beside
    return low, high


def either_name(folder: Path) -> Path:
    """The folder, or where it is missing, what stands there under its other published names.

    The input is called ``input`` or ``LQ``, and a set in images ``_png`` instead of ``_np``.
    """
    swapped = [folder, *(folder.with_name(b) for a, b in _OTHER_NAMES if folder.name == a)]
    for candidate in [*swapped, *(_other_kind(each) for each in swapped)]:
        if candidate.is_dir():
            return candidate
    return folder


def _other_kind(folder: Path) -> Path:
    """The same folder in a set of the other kind: ``indoor_png/GT`` for ``indoor_np/GT``."""
    for here in (folder, folder.parent):
        for ours, other in _OTHER_KINDS:
            if here.name.endswith(ours):
                swapped = here.with_name(here.name.removesuffix(ours) + other)
                return swapped if here is folder else swapped / folder.name
    return folder


def paired_clips(low: Path, high: Path | None, size: Size | None = None) -> list[Clip]:
    """The clips of the SDSD layout, sorted by name; both sides matched by folder and file name.

    Args:
        low: a folder of folders of frames in low light.
        high: the same in normal light, or None where there is no ground truth.
        size: see :class:`Clip`.

    Raises:
        DataError: a folder is missing or empty, or a clip or frame has no partner.
    """
    folders = clip_folders(low)
    if high is None:
        return [Clip(each.name, tuple(list_images(each)), None, size) for each in folders]
    _require_partners(folders, clip_folders(high))
    clips = []
    for folder in folders:
        pairs = match_by_name(list_images(folder), list_images(high / folder.name))
        frames, targets = zip(*pairs, strict=True)
        clips.append(Clip(folder.name, frames, targets, size))
    return clips


def smid_clips(low: Path, high: Path | None, size: Size | None = None) -> list[Clip]:
    """The clips of the SMID layout, sorted by name; every frame of a scene has one ground truth.

    It is the scene's first file whose name holds neither ``.ARW`` nor ``half``.

    Args:
        low: a folder of folders of frames in low light.
        high: a folder of folders with the ground truth, or None.
        size: see :class:`Clip`.

    Raises:
        DataError: a folder is missing or empty, or a scene has no ground truth.
    """
    folders = clip_folders(low)
    if high is None:
        return [Clip(each.name, tuple(list_images(each)), None, size) for each in folders]
    _require_partners(folders, clip_folders(high))
    clips = []
    for folder in folders:
        frames = tuple(list_images(folder))
        target = _scene_target(high / folder.name)
        clips.append(Clip(folder.name, frames, (target,) * len(frames), size))
    return clips


def _scene_target(folder: Path) -> Path:
    for path in list_images(folder):
        if ".ARW" not in path.name and "half" not in path.name:
            return path
    raise DataError(
        "the scene has no ground truth",
        where=folder,
        expected="a file whose name holds neither '.ARW' nor 'half'",
    )


def clip_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name, hidden ones left out.

    Raises:
        DataError: the folder is missing, or holds none.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=folder, expected="a folder of clips")
    found = [each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    if not found:
        raise DataError(
            "the folder holds no clip", where=folder, expected="a folder of frames for each clip"
        )
    return sorted(found, key=lambda each: each.name)


def _require_partners(low: Sequence[Path], high: Sequence[Path]) -> None:
    lows, highs = {each.name for each in low}, {each.name for each in high}
    faults = [f"{each} has no ground truth" for each in low if each.name not in highs]
    faults += [f"{each} has no input" for each in high if each.name not in lows]
    if faults:
        raise DataError(
            "inputs and ground truth do not match by folder name",
            where=high[0].parent,
            got="; ".join(faults[:10])
            + (f"; and {len(faults) - 10} more" if len(faults) > 10 else ""),
            expected="one folder of the same name on each side",
        )


def clips_to_train(clips: Sequence[Clip], test: Collection[str]) -> list[Clip]:
    """All clips but the test's.

    Raises:
        DataError: none is left.
    """
    chosen = [clip for clip in clips if clip.name not in test]
    if not chosen:
        raise DataError(
            "every clip is one of the test's, so none is left to train on",
            where=_place(clips),
            got=", ".join(clip.name for clip in clips[:10]),
        )
    return chosen


def clips_to_test(clips: Sequence[Clip], test: Collection[str], frames: int | None) -> list[Clip]:
    """The test's clips, cut to their first frames; missing ones are named in the log.

    Args:
        clips: to choose from.
        test: names of the test's clips.
        frames: how many of each clip to keep; None keeps all.

    Raises:
        DataError: none is there.
    """
    chosen = [clip if frames is None else clip.first(frames) for clip in clips if clip.name in test]
    missing = sorted(set(test) - {clip.name for clip in clips})
    if not chosen:
        raise DataError(
            "none of the test's clips is there",
            where=_place(clips),
            got=", ".join(clip.name for clip in clips[:10]),
            expected=", ".join(sorted(test)[:10]),
        )
    if missing:
        log.warning(
            "%s: %d of the test's %d clips are missing, so the means are of the others alone: %s",
            _place(clips), len(missing), len(set(test)), ", ".join(missing),
        )  # fmt: skip
    return chosen


def clips_to_validate(
    clips: Sequence[Clip], test: Collection[str], frames: int | None
) -> list[Clip]:
    """The test's clips, as :func:`clips_to_test` gives them, where training has any; else none."""
    there = any(clip.name in test for clip in clips)
    return clips_to_test(clips, test, frames) if there else []


def _place(clips: Sequence[Clip]) -> Path:
    return clips[0].frames[0].parent.parent


def read_frame(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """A frame, (H, W, 3) uint8 RGB, resized bilinearly on its 8 bits to (width, height).

    Raises:
        MediaError: the file cannot be decoded.
    """
    # The published tests read every image as 8 bits; so do the scores.
    pixels = in_8_bits(read_image(path).pixels)
    if size is None or (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


class Windows:
    """Every frame of every clip with its neighbours, as the published SDSD training has them.

    A sample is ``{"frames": (T, 3, h, w), "target": (3, h, w)}``, float32 RGB in [0, 1].

    Args:
        clips: with ground truth.
        frames: T, an odd number.
        border: what stands in for frames beyond a clip's ends.
        crop: the side of a random square, as far as the frames are that large; None keeps all.
        horizontal: whether half of the samples are mirrored left to right.
        vertical: whether half of the samples are turned upside down.

    Raises:
        DataError: a clip is too short for the border mode, or has no ground truth.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        frames: int = 5,
        border: Border = "new_info",
        crop: int | None = None,
        horizontal: bool = False,
        vertical: bool = False,
    ) -> None:
        self.frames, self.border, self.crop = frames, border, crop
        self.horizontal, self.vertical = horizontal, vertical
        self.items = [(clip, centre) for clip in clips for centre in range(len(clip.frames))]
        for clip in clips:
            require_length(clip, frames, border)
            if clip.targets is None:
                raise DataError("the clip has no ground truth", where=clip.frames[0].parent)

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, rng: random.Random) -> dict[str, Any]:
        """The window around one frame.

        Raises:
            MediaError: a frame cannot be decoded.
            DataError: two frames of a window differ in size.
        """
        clip, centre = self.items[index]
        assert clip.targets is not None
        places = window_indices(centre, len(clip.frames) - 1, self.frames, self.border)
        paths = [*(clip.frames[place] for place in places), clip.targets[centre]]
        images = [read_frame(path, clip.size) for path in paths]
        for path, image in zip(paths, images, strict=True):
            if image.shape != images[0].shape:
                raise DataError(
                    "the frames of a window differ in size",
                    where=path,
                    got=f"{image.shape[1]}x{image.shape[0]}",
                    expected=f"{images[0].shape[1]}x{images[0].shape[0]}",
                )
        *window, target = crop_and_flip(
            images, rng, crop=self.crop, horizontal=self.horizontal, vertical=self.vertical
        )
        return {"frames": torch.stack(window), "target": target}


def require_length(clip: Clip, frames: int, border: Border) -> None:
    """Refuse a clip that is too short for its windows.

    Raises:
        DataError: it is.
    """
    last = len(clip.frames) - 1
    try:
        # Both ends: a window in the middle of a clip asks for less.
        for centre in {min(place, last) for place in range(frames)} | {last}:
            window_indices(centre, last, frames, border)
    except DataError as error:
        raise error.at(clip.frames[0].parent) from None


def crop_and_flip(
    images: Sequence[NDArray[np.uint8]],
    rng: random.Random,
    *,
    crop: int | None,
    horizontal: bool,
    vertical: bool,
) -> list[Tensor]:
    """The same random square of several images, mirrored alike, as tensors.

    The draws are the published ones: row, column, horizontal, vertical; what is switched off draws
    nothing.

    Args:
        images: (H, W, 3) uint8, all of one size.
        rng: drawn from.
        crop: the square's side; None keeps the whole images.
        horizontal: whether to mirror left to right with probability 0.5.
        vertical: whether to turn upside down with probability 0.5.

    Returns:
        For each image (3, h, w) float32 in [0, 1].
    """
    height, width = images[0].shape[:2]
    rows, columns = slice(None), slice(None)
    if crop is not None:
        top = rng.randint(0, max(0, height - crop))
        left = rng.randint(0, max(0, width - crop))
        rows, columns = slice(top, top + crop), slice(left, left + crop)
    across = slice(None, None, -1 if horizontal and rng.random() < 0.5 else 1)
    down = slice(None, None, -1 if vertical and rng.random() < 0.5 else 1)
    return [to_tensor(image[rows, columns][down, across]) for image in images]


def require_whole_batch(samples: int, batch_size: int) -> None:
    """Refuse a batch that is larger than the set, with which the published training did nothing.

    Raises:
        ConfigError: it is.
    """
    if batch_size > samples:
        raise ConfigError(
            "the batch is larger than the data set",
            where="train.batch_size",
            got=f"{batch_size}, of {samples} samples",
            expected=f"at most {samples}",
        )
