"""Clips: frames that belong together, perhaps with ground truth, all read through one door.

Frames are image files, ``.npy`` files of uint8 BGR (H, W, 3) among them, or those of a video.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from llve_common.clips.folders import (
    entries,
    in_natural_order,
    list_images,
    match_by_name,
    named,
    some_of,
    without_partner,
)
from llve_common.clips.frames import Frame
from llve_common.clips.windows import reflected
from llve_common.errors import DataError, MediaError
from llve_common.io.images import Image, Pixels, in_8_bits, read_image, size_of
from llve_common.video import is_image, is_video, open_video

log = logging.getLogger(__name__)

P = TypeVar("P", bound=Pixels)
Size = tuple[int, int]
"""Width and height, in the order that the published settings have."""


@dataclass(frozen=True)
class Clip:
    """Frames that belong together, with their ground truth where there is one.

    For an image method, a folder of images is a clip; each is enhanced by itself.

    Attributes:
        name: of the clip.
        frames: image files in low light, in order; or one video.
        targets: image files of their ground truth, one for each frame; or one video.
        size: what frames and ground truth are resized to before anything is done with them, as
            (width, height); None leaves them as they are.
        length: how many frames are read, from the first on; None reads all.
    """

    name: str
    frames: tuple[Path, ...]
    targets: tuple[Path, ...] | None = None
    size: Size | None = None
    length: int | None = None

    @property
    def of_video(self) -> bool:
        """Whether the frames are those of a video."""
        return is_video(self.frames[0])

    @property
    def place(self) -> Path:
        """The video, or the folder of the first frame."""
        return self.frames[0] if self.of_video else self.frames[0].parent

    @cached_property
    def count(self) -> int | None:
        """How many frames are read; of a video, as far as its file tells.

        Raises:
            MediaError: the video cannot be opened.
        """
        if not self.of_video:
            return len(self.frames)
        with open_video(self.frames[0]) as video:
            known = [each for each in (video.info.frames, self.length) if each is not None]
        return min(known, default=None)

    def file(self, index: int) -> Path:
        """A frame's file; for a frame of a video, a name by its number, as if it were a folder."""
        return self.frames[0] / f"{index:05d}.png" if self.of_video else self.frames[index]

    def label(self, index: int) -> str:
        """A frame's name, with its subfolder where the clip's frames are in several."""
        file = self.file(index)
        return file.name if self.of_video else file.relative_to(self._root).as_posix()

    @cached_property
    def _root(self) -> str:
        return os.path.commonpath([file.parent for file in self.frames])

    def first(self, count: int) -> Clip:
        """The clip of the first ``count`` frames alone."""
        targets = None if self.targets is None else self.targets[:count]
        return replace(self, frames=self.frames[:count], targets=targets, length=count)

    def at_least(self, count: int) -> Clip:
        """The clip, going to and fro where it has fewer image files than ``count``."""
        last = len(self.frames) - 1
        places = [reflected(place, last) for place in range(max(count, last + 1))]
        frames, targets = (
            side and tuple(side[place] for place in places) for side in (self.frames, self.targets)
        )
        assert frames is not None
        return replace(self, frames=frames, targets=targets)

    def read(self, start: int = 0) -> Iterator[Frame]:
        """The frames from ``start`` on, one by one, in all bits, or resized in 8.

        Raises:
            MediaError: a frame cannot be decoded.
        """
        return _read(self.frames, self, start)

    def read_targets(self, start: int = 0) -> Iterator[Frame]:
        """The ground truth of these frames, likewise; nothing where there is none.

        Raises:
            MediaError: a frame cannot be decoded.
        """
        return _read(self.targets or (), self, start)


def _read(files: Sequence[Path], clip: Clip, start: int) -> Iterator[Frame]:
    if files and is_video(files[0]):
        with open_video(files[0]) as video:
            for number, frame in islice(enumerate(video), start, clip.length):
                where = f"{files[0]}, frame {number}"
                yield Frame(Image(_sized(frame.pixels, clip.size)), "", where, frame.time)
    else:
        for file in files[start : clip.length]:
            pixels = _sized(read_image(file).pixels, clip.size)
            yield Frame(Image(pixels), file.name, file)


def _sized(pixels: Pixels, size: Size | None) -> Pixels:
    """All bits of a frame, or those 8 that the published code resizes."""
    return pixels if size is None else fitted(in_8_bits(pixels), size)


def read_frame(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """A frame, (H, W, 3) uint8 RGB, resized bilinearly on its 8 bits to (width, height).

    Raises:
        MediaError: the file cannot be decoded.
    """
    return fitted(in_8_bits(read_image(path).pixels), size)


def read_alike(
    paths: Sequence[Path], size: Size | None, what: str, multiple: int = 1
) -> list[Pixels]:
    """Frames in all bits, or resized in 8, all of one size.

    They are cut at the bottom and right to sides that are multiples of ``multiple``.

    Raises:
        MediaError: a file cannot be decoded.
        DataError: they differ in size; the message says that those of a ``what`` do.
    """
    images = [_sized(read_image(path).pixels, size) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"the frames of a {what} differ in size",
                where=path,
                got=size_of(image),
                expected=size_of(images[0]),
            )
    height, width = (side - side % multiple for side in images[0].shape[:2])
    return [image[:height, :width] for image in images]


def fitted(image: P, size: Size | None) -> P:
    """The image, resized bilinearly where its width and height are others."""
    if size is None or (image.shape[1], image.shape[0]) == size:
        return image
    resized: Any = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return cast(P, resized)


def clip_of(
    low: Path,
    high: Path | None = None,
    *,
    size: Size | None = None,
    recursive: bool = False,
    length: int | None = None,
) -> Clip:
    """The clip of a video, or of a folder of frames, by its name.

    Frames and ground truth are matched by file name, or in order where either is a video.

    Args:
        low: the frames.
        high: their ground truth, likewise, or one image for all files of frames; None: there is
            none.
        size: see :class:`Clip`.
        recursive: whether images in subfolders belong to it.
        length: how many frames it has at most, from the first on.

    Raises:
        DataError: a folder is missing or holds no image, or a frame has no partner.
    """
    frames = clip_files(low, recursive=recursive)[:length]
    if high is None:
        return Clip(clip_name(low), tuple(frames), None, size, length)
    targets = clip_files(high, recursive=recursive)[:length]
    if targets == [high] and is_image(high):
        targets *= len(frames)
    elif not is_video(frames[0]) and not is_video(targets[0]):
        below = (low, high) if recursive else None
        targets = [target for _, target in match_by_name(frames, targets, below)]
    return Clip(clip_name(low), tuple(frames), tuple(targets), size, length)


def frames_in_all(clips: Iterable[Clip]) -> int | None:
    """How many frames clips have in all; None where one's file does not tell or cannot be read."""
    try:
        counts = [clip.count for clip in clips]
    except MediaError:  # which reading it says
        return None
    return None if None in counts else sum(count or 0 for count in counts)


def files_of(clips: Iterable[Clip]) -> list[Path]:
    """All files of clips, ground truth among them."""
    return [file for clip in clips for file in (*clip.frames, *(clip.targets or ()))]


def clip_files(path: Path, *, recursive: bool = False) -> list[Path]:
    """The frames of a clip: a video or an image itself, or the images in a folder in natural order.

    Raises:
        DataError: the folder is missing or holds no image.
    """
    if not path.is_dir() and (is_video(path) or is_image(path)):
        return [path]
    return sorted(list_images(path, recursive=recursive), key=in_natural_order)


def image_clips(low: Path, high: Path | None) -> list[Clip]:
    """What an image method is tested on: all images of a folder as one clip, or videos.

    Args:
        low: a folder of images, with subfolders; or a video, or a folder of videos, see
            :func:`paired_clips`.
        high: ground truth of the same names; None: there is none.

    Raises:
        DataError: a folder is missing or empty, or the names do not match.
    """
    inside = entries(low) if low.is_dir() else []
    if not is_video(low) and not any(map(is_video, inside)):
        return [clip_of(low, high, recursive=True)]
    images = [each.name for each in inside if is_image(each)]
    if images:
        log.warning("%s: left out, images beside videos: %s", low, ", ".join(images))
    return paired_clips(low, high)


def paired_clips(low: Path, high: Path | None, size: Size | None = None) -> list[Clip]:
    """The clips in a folder, sorted by name: folders of frames, and videos.

    Clips are matched by name with their ground truth, folders or videos as well, and frames as
    :func:`clip_of` does.

    Args:
        low: a folder of clips in low light, or a single video.
        high: the same in normal light, or None where there is no ground truth.
        size: see :class:`Clip`.

    Raises:
        DataError: a folder is missing or empty, or a clip or frame has no partner.
    """
    if is_video(low):
        return [clip_of(low, high, size=size)]
    return [clip_of(*pair, size=size) for pair in matched_clips(low, high)]


def clips_in(folder: Path) -> dict[str, Path]:
    """The clips in a folder by name, sorted: videos, and folders that are not hidden.

    Raises:
        DataError: the folder is missing, holds none, or two of one name.
    """
    found = [each for each in entries(folder) if each.is_dir() or is_video(each)]
    found = [each for each in found if not each.name.startswith(".")]
    if not found:
        raise DataError(
            "the folder holds no clip", where=folder, expected="a folder of frames for each clip"
        )
    named = {clip_name(each): each for each in sorted(found, key=clip_name)}
    if len(named) < len(found):
        twins = sorted(each.name for each in found if named[clip_name(each)] != each)
        raise DataError("several clips have one name", where=folder, got=", ".join(twins))
    return named


def matched_clips(low: Path, high: Path | None) -> list[tuple[Path, Path | None]]:
    """The clips in a folder, sorted by name, with those of the same names in another.

    Raises:
        DataError: a folder is missing or empty, or a clip has no partner.
    """
    lows = clips_in(low)
    if high is None:
        return [(path, None) for path in lows.values()]
    highs = clips_in(high)
    faults = without_partner(lows, highs)
    if faults:
        raise DataError(
            "inputs and ground truth do not match by folder name",
            where=high,
            got=some_of(faults),
            expected="one folder of the same name on each side",
        )
    return [(path, highs[name]) for name, path in lows.items()]


def clip_name(path: Path) -> str:
    """What a clip is called: a video without its suffix, a folder as it is."""
    return path.stem if is_video(path) else named(path).name


def require_pairs(clip: Clip) -> None:
    """Refuse a clip that cannot be trained on.

    Raises:
        DataError: it has no ground truth, or is a video.
    """
    if clip.of_video:
        raise DataError(
            "training reads frames in any order, which a video does not give",
            where=clip.place,
            expected="a folder of frames",
            mend="write the video's frames into a folder",
        )
    if clip.targets is None:
        raise DataError("the clip has no ground truth", where=clip.place)
