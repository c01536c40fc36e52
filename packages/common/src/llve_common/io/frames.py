"""Frames from anywhere to anywhere: an image, a folder of frames, a video, all used in one way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from llve_common.errors import MediaError
from llve_common.io.folders import is_image, list_images
from llve_common.io.images import Image, read_image, result_suffix, size_of, write_image
from llve_common.io.video import OUTPUT_FORMATS, VideoInfo, VideoReader, VideoWriter, is_video


@dataclass(frozen=True)
class Frame:
    """One frame on its way.

    Attributes:
        image: its pixels.
        name: its file name in a folder; empty in a video.
        where: the file, or the video and the frame's number, for messages.
        time: seconds from the start; None where there is none.
    """

    image: Image
    name: str
    where: object
    time: Fraction | None = None


@dataclass(frozen=True)
class Source:
    """Frames in order, to be iterated once.

    Attributes:
        frames: one size for all of them.
        count: how many, as far as that is known.
        video: what a sink has to know where the source is a video.
    """

    frames: Iterator[Frame]
    count: int | None
    video: VideoInfo | None = None


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The frames of an image file, a folder of frames, or a video.

    Images come in sRGB, by their ICC profiles.

    Raises:
        MediaError: nothing is there, it is of no known kind, or a frame cannot be read.
        DataError: the folder holds no image.
    """
    if path.is_dir() or (is_image(path) and not is_video(path)):
        paths = list_images(path) if path.is_dir() else [path]
        yield Source(_image_frames(paths), len(paths))
    elif is_video(path):
        with VideoReader(path) as reader:
            yield Source(_video_frames(reader), reader.info.frames, reader.info)
    else:
        raise MediaError(
            "neither an image nor a video by its name",
            where=path,
            got=path.suffix or "no suffix",
            expected="an image, a video, or a folder of images",
        )


def sources_in(path: Path, *, clips: bool) -> list[Path]:
    """What can be opened: a file itself; of a folder and its subfolders the videos and images.

    Videos come first, then images, or for ``clips`` the folders of them, each sorted.

    Raises:
        MediaError: there is no such file or folder.
        DataError: the folder holds neither.
    """
    if not path.exists():
        raise MediaError("no such file or folder", where=path, mend="check the path")
    if path.is_file():
        return [path]
    videos = sorted(each for each in path.rglob("*") if each.is_file() and is_video(each))
    if videos:
        images = sorted(each for each in path.rglob("*") if each.is_file() and is_image(each))
    else:
        images = list_images(path, recursive=True)
    return videos + (sorted({each.parent for each in images}) if clips else images)


@contextmanager
def open_sink(
    path: Path, source: Source, *, strip: bool = False
) -> Iterator[Callable[[Frame], None]]:
    """A function that writes a source's frames in order; the target is whole or as it was.

    Args:
        path: a video file for a video, an image file for one image, else a folder, whose files get
            the names of the source's.
        source: whose times, colour and sound a video keeps.
        strip: leave out what images say beside their pixels, such as EXIF and the place.

    Raises:
        MediaError: the target cannot be written.
    """
    if source.video is not None:
        info = source.video
        make_folder(path.parent)
        with VideoWriter(path, info, width=info.width, height=info.height) as writer:

            def write(frame: Frame) -> None:
                assert frame.time is not None
                writer.write(frame.image.pixels.astype(np.uint8, copy=False), frame.time)

            yield write
    else:
        one = is_image(path)

        def write_one(frame: Frame) -> None:
            image, target = frame.image, path if one else path / frame.name
            write_image(target, image.pixels, image.alpha, None if strip else image.metadata)

        yield write_one


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        MediaError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError("the folder cannot be made", where=folder, got=error.strerror) from error


def video_target(source: Path) -> str:
    """The name of a video's result: its own, or .mp4 where its kind of file cannot be written."""
    return source.name if source.suffix.lower() in OUTPUT_FORMATS else f"{source.stem}.mp4"


def _image_frames(paths: list[Path]) -> Iterator[Frame]:
    first: Image | None = None
    for path in paths:
        image = read_image(path, srgb=True)
        first = first or image
        if image.pixels.shape != first.pixels.shape:
            raise MediaError(
                "the frame has another size than the first of its folder",
                where=path,
                got=size_of(image.pixels),
                expected=size_of(first.pixels),
                mend="put the frames of one clip into one folder",
            )
        yield Frame(image, path.with_suffix(result_suffix(path)).name, path)


def _video_frames(reader: VideoReader) -> Iterator[Frame]:
    for number, frame in enumerate(reader):
        yield Frame(Image(frame.pixels), "", f"{reader.info.path}, frame {number}", frame.time)
