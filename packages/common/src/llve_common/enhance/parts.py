"""A video that is written in parts, so that a run that was interrupted goes on where it was.

The parts lie in a hidden folder beside the video. Each is a whole file of a few seconds without
sound; when the last one is there, their packets are joined, and the folder is removed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
from pydantic import RootModel

from llve_common import __version__
from llve_common.clips.folders import list_images
from llve_common.clips.frames import Frame, make_folder
from llve_common.config import checked
from llve_common.enhance.jobs import Wishes, folder_of
from llve_common.enhance.ready import Ready
from llve_common.errors import ConfigError, MediaError
from llve_common.io.atomic import write_text
from llve_common.io.digest import file_digest
from llve_common.io.images import in_8_bits
from llve_common.machine.locks import LOCK, holding
from llve_common.video import VideoInfo, VideoWriter
from llve_common.video.container import open_input
from llve_common.video.writer import PART

SECONDS = 10
"""How much of a video's time a part holds."""

# How much of each end of a video tells it from another of its size.
_END = 1 << 20
_MADE_BY = "made-by.json"
_NAME = re.compile(rf"(\d+)-(-?\d+){re.escape(PART)}")


class _MadeBy(RootModel[dict[str, str]]):
    """What the parts depend on."""


@dataclass(frozen=True)
class Part:
    """A part: its file, the number of its first frame, and the tick at which that is shown."""

    path: Path
    first: int
    tick: int


def made_by(ready: Ready, source: Path, wishes: Wishes) -> dict[str, str]:
    """What enhanced frames depend on, by names that a user knows."""
    of = {
        "llve": f"{__version__} with PyAV {av.__version__}",
        "paper": ready.paper,
        "weights": ready.weights.sha256[:16] if ready.weights else None,
        "device": f"{ready.device} in {ready.precision}",
        "source": _fingerprint(source),
        "--strength": wishes.strength, "--fps": wishes.rate, "--start": wishes.start,
        "--end": wishes.end, "--codec": wishes.codec, "--crf": wishes.crf,
    }  # fmt: skip
    return {name: str(value) for name, value in of.items()}


def _fingerprint(source: Path) -> str:
    """A video's size and ends, or a folder's names and contents, as a digest.

    Frames of one size may differ within alone, and a copy of them has other times of change.
    """
    digest = hashlib.sha256()
    if source.is_dir():
        for path in list_images(source):
            digest.update(f"{path.name} {file_digest(path)}\n".encode(errors="replace"))
    else:
        size = source.stat().st_size
        digest.update(f"{size}\n".encode())
        with source.open("rb") as file:
            digest.update(file.read(_END))
            file.seek(max(0, size - _END))
            digest.update(file.read(_END))
    return digest.hexdigest()[:16]


@contextmanager
def held_parts(target: Path, of: Mapping[str, str]) -> Iterator[Path]:
    """Hold a video's folder of parts, which is made where it is missing, against other processes.

    It is removed where the block succeeds, or fails before there is a part. The frames depend on
    ``of``, see :func:`made_by`.

    Raises:
        ConfigError: the parts that are there were made of or by something else.
        MediaError: the folder cannot be made, or another process writes to it.
    """
    folder = folder_of(target)
    make_folder(folder)
    with ExitStack() as then, holding(folder):
        record = folder / _MADE_BY
        if parts_in(folder) and record.is_file():
            earlier = checked(_MadeBy, record, record, MediaError).root
            changed = [name for name in of if of[name] != earlier.get(name)]
            if changed:
                raise ConfigError(
                    "the parts that are there were made otherwise, so the run cannot go on",
                    where=folder,
                    got=", ".join(f"{name} {of[name]}" for name in changed),
                    expected=", ".join(f"{name} {earlier.get(name)}" for name in changed),
                    mend="give what the run began with, or remove that folder to begin anew",
                )
        write_text(record, json.dumps(dict(of)))
        then.callback(_remove, folder)
        try:
            yield folder
        except BaseException:
            if parts_in(folder):
                then.pop_all()
            raise


def _remove(folder: Path) -> None:
    # Those that are left if this is cut off are still the first ones, and known.
    parts = (part.path for part in reversed(parts_in(folder)))
    files = [*parts, folder / _MADE_BY, folder / LOCK]
    # Nothing that others may have put there.
    with suppress(OSError):
        for file in files:
            file.unlink()
        folder.rmdir()


def parts_in(folder: Path) -> list[Part]:
    """The parts in a folder, in their order."""
    names = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(
        (Part(path, *map(int, found.groups())) for path, found in names if found),
        key=lambda part: part.first,
    )


def frames_done(folder: Path) -> int:
    """How many frames the parts in a folder hold, of which the last is read for it.

    Raises:
        MediaError: the last part cannot be read.
    """
    parts = parts_in(folder)
    if not parts:
        return 0
    with open_input(parts[-1].path) as container:
        return parts[-1].first + sum(packet.size > 0 for packet in container.demux(video=0))


@contextmanager
def part_sink(
    folder: Path, like: VideoInfo, first: int, wishes: Wishes
) -> Iterator[Callable[[Frame], None]]:
    """A function that writes a video's frames in order, from number ``first`` on, into parts.

    A part is there when it is whole.
    """
    silent = replace(
        like, has_audio=False, has_subtitles=False, metadata={}, stream_metadata={}, chapters=()
    )
    second, begin, number = -1, 0, first
    writer: VideoWriter | None = None
    with ExitStack() as open_part:

        def write(frame: Frame) -> None:
            nonlocal second, begin, number, writer
            assert frame.time is not None
            tick = round(frame.time / like.time_base)
            if writer is None or frame.time // SECONDS != second:
                open_part.close()
                second, begin = frame.time // SECONDS, tick
                path = folder / f"{number:09d}-{tick}{PART}"
                made = VideoWriter(path, silent, codec=wishes.codec, crf=wishes.crf)
                writer = open_part.enter_context(made)
            writer.write(in_8_bits(frame.image.pixels), (tick - begin) * like.time_base)
            number += 1

        yield write


def join(folder: Path, target: Path, like: VideoInfo, wishes: Wishes) -> None:
    """Write the video of the parts in a folder, with the sound and the tags of the source.

    Raises:
        MediaError: a part is missing or damaged, or the video cannot be written.
    """
    parts = parts_in(folder)
    codec, crf, strip = wishes.codec, wishes.crf, wishes.strip
    like_first = parts[0].path
    with VideoWriter(target, like, codec=codec, crf=crf, strip=strip, joined=like_first) as writer:
        done = 0
        for part in parts:
            if part.first != done:
                what, mend = "a part is missing or damaged", "remove its folder to begin anew"
                raise MediaError(what, where=part.path, got=f"{done} frames before", mend=mend)
            done += writer.append(part.path, part.tick)
