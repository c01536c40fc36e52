"""Frames from anywhere to anywhere: an image, a folder of frames, a video, all used in one way."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, count
from pathlib import Path

import av

from llve_common.clips.folders import (
    holds_no_image,
    in_natural_order,
    list_images,
    name_left_out,
    walk_without_results,
)
from llve_common.errors import MediaError
from llve_common.io.images import (
    WRITTEN,
    Image,
    in_8_bits,
    read_image,
    result_suffix,
    size_of,
    write_image,
)
from llve_common.video import (
    VideoFrame,
    VideoInfo,
    VideoWriter,
    is_image,
    is_video,
    named_video,
    open_video,
)
from llve_common.video.container import open_input

log = logging.getLogger(__name__)

Watcher = Callable[[int, int | None], None]
"""Is told (frames done, frames in all as far as known)."""


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
        count: how many there are in all, as far as that is known.
        video: what a sink has to know where the source is a video.
        first: the number of the first of these frames, from 0.
    """

    frames: Iterator[Frame]
    count: int | None
    video: VideoInfo | None = None
    first: int = 0


@contextmanager
def open_source(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    keep_going: bool = False,
    skip: int = 0,
) -> Iterator[Source]:
    """The frames of an image file, a folder of frames, or a part of a video.

    Images come in sRGB, by their ICC profiles. The keywords are those of
    :class:`~llve_common.video.VideoReader`.

    Raises:
        MediaError: nothing is there, it is of no known kind, or a frame cannot be read.
        DataError: the folder holds no image.
    """
    if not path.is_dir():
        require_known(path)
    if path.is_dir() or not is_video(path):
        paths = sorted(list_images(path), key=in_natural_order) if path.is_dir() else [path]
        frames = (
            Frame(read_image(each, srgb=True), frame_name(each), each) for each in paths[skip:]
        )
        yield Source(of_one_size(frames), len(paths), first=skip)
    else:
        part = {"start": start, "end": end}
        with open_video(path, **part, keep_going=keep_going, skip=skip) as reader:
            info = reader.info
            yield Source(_video_frames(path, reader, skip), info.frames, info, first=skip)


def require_known(path: Path) -> None:
    """Refuse a file of no kind that is read.

    Raises:
        MediaError: its name says that it is neither an image nor a video.
    """
    if not (is_image(path) or is_video(path)):
        raise MediaError(
            "neither an image nor a video by its name",
            where=path,
            got=path.suffix or "no suffix",
            expected="an image, a video, or a folder of images",
        )


def require_there(path: Path) -> None:
    """Refuse a source that is missing, before anything is imported that computes.

    Raises:
        MediaError: there is no such file or folder, or it is a pipe.
    """
    if not path.exists():
        raise MediaError("no such file or folder", where=path, mend="check the path")
    if not (path.is_file() or path.is_dir()):
        what, mend = "neither a file nor a folder", "give - and redirect the pipe: - < PIPE"
        raise MediaError(what, where=path, mend=mend)


def sources_in(path: Path, *, clips: bool, but: Path | None = None) -> list[Path]:
    """What can be opened: a file itself; of a folder and its subfolders the videos and images.

    Videos come first, then images, or for ``clips`` the folders of them, each sorted. What is
    neither, hidden, unreadable or a result is named in the log, and so is the folder ``but``, an
    output.

    Raises:
        MediaError: there is no such file or folder.
        DataError: the folder holds neither, or may not be read.
    """
    require_there(path)
    if path.is_file():
        return [path]
    files, left_out = walk_without_results(path, recursive=True)
    if but is not None and path.resolve() in (beyond := but.resolve()).parents:
        kept = [each for each in files if beyond not in each.resolve().parents]
        left_out += [] if len(kept) == len(files) else [f"{but.name}/ (the output)"]
        files = kept
    videos = [each for each in files if is_video(each)]
    images = [each for each in files if is_image(each)]
    if not videos and not images:
        raise holds_no_image(path, len(files) + len(left_out))
    known = {*videos, *images}
    left_out += [each.relative_to(path).as_posix() for each in files if each not in known]
    name_left_out(path, left_out, "neither images nor videos")
    return videos + (sorted({each.parent for each in images}) if clips else images)


@contextmanager
def open_sink(
    path: Path, source: Source, *, codec: str = "h264", crf: int | None = None, strip: bool = False
) -> Iterator[Callable[[Frame], None]]:
    """A function that writes a source's frames in order; the target is whole or as it was.

    Args:
        path: a video file for a video, an image file for one image, else a folder, whose files get
            the names of the source's.
        source: whose times, colour and sound a video keeps.
        codec: of a video, as :class:`~llve_common.video.VideoWriter` takes it; so is ``crf``.
        crf: likewise.
        strip: leave out what a file says beside its pixels, such as the place.

    Raises:
        MediaError: the target cannot be written.
    """
    if named_video(path) and source.video is not None:
        info = source.video
        make_folder(path.parent)
        with VideoWriter(path, info, codec=codec, crf=crf, strip=strip) as writer:

            def write(frame: Frame) -> None:
                assert frame.time is not None
                writer.write(in_8_bits(frame.image.pixels), frame.time)

            yield write
    else:
        numbers = count()

        def write_one(frame: Frame) -> None:
            image, name = frame.image, frame.name or numbered(next(numbers))
            target = path if path.suffix.lower() in WRITTEN else path / name
            write_image(target, image.pixels, image.alpha, None if strip else image.metadata)

        yield write_one


def numbered(frame: int) -> str:
    """The file name of a video's frame, by its number from 0."""
    return f"{frame:05d}.png"


def frame_name(path: Path) -> str:
    """The file name of the result of a frame in a folder."""
    return path.with_suffix(result_suffix(path)).name


def as_video(source: Source, rate: Fraction | None, sound: Path | None) -> Source:
    """A source for a video: images get times, 25 a second unless a rate is given.

    Raises:
        MediaError: a rate for a video, which has its own times; or the sound cannot be read.
    """
    info, frames = source.video, source.frames
    if info is not None and rate is not None:
        what, mend = "the video has times of its own", "leave out --fps, which is for images"
        raise MediaError(what, where=info.path, mend=mend)
    if info is None:
        rate, first = rate or Fraction(25), next(frames)
        height, width = first.image.pixels.shape[:2]
        tick = 1 / (1000 * rate)
        info = VideoInfo(Path(str(first.where)), width, height, rate, tick, source.count)
        if first.image.alpha is not None:
            log.warning("%s: a video has no transparency; it is left out", first.where)
        numbers = enumerate(chain([first], frames), source.first)
        frames = (replace(frame, time=number / rate) for number, frame in numbers)
    if sound is not None:
        with open_input(sound) as container:
            if not container.streams.audio:
                raise MediaError("the file has no sound", where=sound)
            origin = Fraction(container.start_time or 0, av.time_base)
        info = replace(info, path=sound, has_audio=True, origin=origin)
    return Source(frames, source.count, info, source.first)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        MediaError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError("the folder cannot be made", where=folder, got=error.strerror) from error


def of_one_size(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames.

    Raises:
        MediaError: one has another size than the first.
    """
    first: Image | None = None
    for frame in frames:
        first = first or frame.image
        if frame.image.pixels.shape != first.pixels.shape:
            raise MediaError(
                "the frame has another size than the first of its clip",
                where=frame.where,
                got=size_of(frame.image.pixels),
                expected=size_of(first.pixels),
                mend="begin a clip, or a folder, for each size",
            )
        yield frame


def _video_frames(path: Path, frames: Iterable[VideoFrame], first: int) -> Iterator[Frame]:
    for number, frame in enumerate(frames, first):
        yield Frame(Image(frame.pixels), "", f"{path}, frame {number}", frame.time)
