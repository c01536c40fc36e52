"""Standard input and output: an image, or raw frames of a video."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llve_common.clips.frames import Frame, Source
from llve_common.errors import ConfigError, MediaError
from llve_common.io.atomic import temporary_folder
from llve_common.io.images import Image, in_8_bits, result_suffix
from llve_common.video import VideoInfo

PIPE = "-"
"""The name of standard input as a source, and of standard output as a target."""

_SIGNATURES = {
    b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif",
    b"RIFF": ".webp", b"\x93NUMPY": ".npy",
}  # fmt: skip


@dataclass(frozen=True)
class Raw:
    """Frames without a container: RGB, 8 bits, row by row (ffmpeg's ``rgb24``)."""

    width: int
    height: int
    rate: Fraction


def raw_format(text: str) -> Raw:
    """What ``640x480@25`` says of raw frames; the rate may be ``30000/1001``.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})@(.+)", text)
    if found is None:
        expected = "WIDTHxHEIGHT@RATE, such as 640x480@25"
        raise ConfigError("not a form of raw frames", where="--raw", got=text, expected=expected)
    return Raw(int(found[1]), int(found[2]), rate_of(found[3], "--raw"))


def rate_of(text: str, where: str) -> Fraction:
    """Frames a second, such as ``25``, ``29.97`` or ``30000/1001``, which 29.97002997 means too.

    Raises:
        ConfigError: it is none.
    """
    try:
        rate = Fraction(text if re.fullmatch(r"[\d./]{1,20}", text) else 0)
        rate = rate.limit_denominator(1001)  # ffmpeg keeps 32 bits of each part
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 1000) <= rate <= 1000:
        expected = "such as 25, 29.97 or 30000/1001"
        raise ConfigError("not a frame rate", where=where, got=text, expected=expected)
    return rate


def raw_source(stream: BinaryIO, raw: Raw) -> Source:
    """Frames from a stream until it ends; MediaError is raised where that is within a frame."""

    def frames() -> Iterator[Frame]:
        shape, number = (raw.height, raw.width, 3), 0
        size = raw.height * raw.width * 3
        while data := stream.read(size):
            if len(data) < size:
                what, where = "the raw frames end within a frame", f"frame {number}"
                raise MediaError(what, where=where, got=f"{len(data)} bytes", expected=f"{size}")
            pixels = np.frombuffer(data, np.uint8).reshape(shape)
            yield Frame(Image(pixels), "", f"frame {number}", number / raw.rate)
            number += 1

    info = VideoInfo(Path(PIPE), raw.width, raw.height, raw.rate, 1 / raw.rate)
    return Source(frames(), None, info)


def raw_sink(stream: BinaryIO) -> Callable[[Frame], None]:
    """A function that writes frames to a stream, each as soon as it is there."""

    def write(frame: Frame) -> None:
        stream.write(in_8_bits(frame.image.pixels).tobytes())
        stream.flush()

    return write


@contextmanager
def piped(
    sources: Sequence[str], output: str | None, raw: Raw | None
) -> Iterator[tuple[list[Path], Path | None]]:
    """Sources and output as paths, where an image comes or goes by a pipe with files in its place.

    The output's file, whose name begins with the pipe's, is sent on where the block succeeds.
    Nothing stands in for raw frames.

    Raises:
        MediaError: no image comes in.
        ConfigError: a terminal would get an image, nothing says where results go, or raw frames
            have no pipe.
    """
    if output is None and list(sources) == [PIPE]:
        output = PIPE
    if raw is not None and list(sources) != [PIPE]:
        what = "raw frames come by a pipe, as the one source"
        raise ConfigError(what, where="--raw", got=", ".join(sources), expected=PIPE)
    if output == PIPE and sys.stdout.isatty():
        raise ConfigError("pixels are not for a terminal", mend="-o FILE, or > FILE")
    if raw is not None or PIPE not in (*sources, output):
        yield [Path(each) for each in sources], None if output is None else Path(output)
        return
    if output is None or (output == PIPE and len(sources) > 1):
        raise ConfigError("say where the results of several sources go", mend="-o FOLDER")
    with temporary_folder() as folder:
        paths = [_received(folder) if each == PIPE else Path(each) for each in sources]
        sent = folder / f"{PIPE}{result_suffix(paths[0])}"
        yield paths, sent if output == PIPE else Path(output)
        if output == PIPE:
            sys.stdout.buffer.write(sent.read_bytes())
            sys.stdout.buffer.flush()


def _received(folder: Path) -> Path:
    data = sys.stdin.buffer.read()
    suffix = next((each for begin, each in _SIGNATURES.items() if data.startswith(begin)), None)
    if suffix is None:
        raise MediaError(
            "no image that is known by its first bytes",
            where="standard input",
            got=f"{len(data)} bytes",
            expected=f"one of {', '.join(sorted(set(_SIGNATURES.values())))}",
            mend="raw frames need --raw WIDTHxHEIGHT@RATE, other videos a file",
        )
    path = folder / f"stdin{suffix}"
    path.write_bytes(data)
    return path
