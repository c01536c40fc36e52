"""Frames to images and back, as the published code does it."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from llve_common.clips.clip import read_frame
from llve_common.clips.folders import list_images
from llve_common.clips.frames import make_folder
from llve_common.commands.terminal import console, progress_bar
from llve_common.errors import ConfigError, DataError
from llve_common.io.images import size_of, write_image
from llve_common.video import VideoInfo, VideoWriter, open_video

_RATE = Fraction(25)


def to_images(source: Path, pattern: str) -> None:
    """Write a video's frames to the files of a pattern, whose ``%d`` is the frame's number."""
    if pattern.count("%d") != 1 or "%" in pattern.replace("%d", ""):
        raise ConfigError(
            "not a pattern of file names",
            where="--image_lowlight_folder",
            got=pattern,
            expected="%d once, for the frame's number, such as Frames/%d.png",
        )
    with open_video(source) as reader, progress_bar("reading", "frames") as advance:
        count = 0
        for frame in reader:
            write_image(Path(pattern % count), frame.pixels)
            count += 1
            advance(count, reader.info.frames)
    console.print(f"wrote {count} frames to {Path(pattern).parent}", soft_wrap=True)


def to_video(folder: Path, source: Path, target: Path) -> None:
    """Write a folder of frames as a video, with the times and the sound of ``source``."""
    paths = sorted(list_images(folder), key=lambda path: (len(path.stem), path.stem))
    info, times = _timing(source, paths)
    make_folder(target.parent)
    with VideoWriter(target, info) as writer:
        for path, time in zip(paths, times, strict=True):
            pixels = read_frame(path)
            if pixels.shape[:2] != (info.height, info.width):
                what, first = "the frame has another size than the first", read_frame(paths[0])
                raise DataError(what, where=path, got=size_of(pixels), expected=size_of(first))
            writer.write(pixels, time)
    console.print(f"wrote {len(paths)} frames to {target}", soft_wrap=True)


def _timing(source: Path, paths: list[Path]) -> tuple[VideoInfo, list[Fraction]]:
    """The video's rate, sound and times for as many frames; 25 a second where there is none."""
    height, width = read_frame(paths[0]).shape[:2]
    if not source.is_file():
        console.print(f"no video at {source}: {_RATE} frames a second, without sound")
        times = [number / _RATE for number in range(len(paths))]
        return VideoInfo(source, width, height, _RATE, Fraction(1, 12800)), times
    with open_video(source) as reader:
        times = [frame.time for frame in reader]
        if len(times) != len(paths):
            raise DataError(
                "the folder and the video differ in length",
                where=paths[0].parent,
                got=f"{len(paths)} images",
                expected=f"{len(times)} frames, as {source}",
            )
        return replace(reader.info, width=width, height=height), times
