"""Images and videos told apart by their content, and videos opened."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import PIL.Image
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from llve_common.errors import MediaError
from llve_common.io.images import IMAGE_SUFFIXES, WRITTEN

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mxf", ".ogv", ".webm", ".wmv"}
)
"""Suffixes, in lower case, of the files that are taken for videos whatever they hold."""
_LOOKED_INTO = frozenset({".apng", ".avif", ".gif", ".mts", ".ts", ".webp"})
"""Suffixes of videos that other files have as well: one picture, TypeScript."""

# Names of ffmpeg's that hold frames themselves. Others, as a list of files to join or a web
# address, would open what the file names.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,ogg,asf,asf_o,"
    "mxf,gif,apng,h264,hevc,av1,obu,ivf,m4v,mjpeg,dv,rm,yuv4mpegpipe,nut,wtv,vc1,h263,gxf,swf,nsv,"
    "wav,w64,mp3,flac,aac,ac3,eac3,amr,aiff,caf,ape,wv"
)
_HEADS = re.compile(
    rb"....(ftyp(?!avif|avis|crx |hei[cmsx]|jp2 |jxl |mif1|msf1)|moov|mdat|wide|free|skip)"
    rb"|\x1aE\xdf\xa3|FLV\x01|OggS|RIFF....AVI |0&\xb2u\x8ef\xcf\x11|\0\0\1[\xb3\xba]"
    rb"|\x06\x0e\x2b\x34|YUV4MPEG2|GIF8|\x89PNG.*acTL|\x2eRMF|DKIF|(....(G.{191}){2}|(G.{187}){3})G",
    re.DOTALL,
)
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is meant as a video.

    A suffix that only videos have is believed. Else the file is looked into where there is one, and
    a picture that moves is a video; where there is none, the suffix decides. That of a file to be
    written is for :func:`named_video`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix in IMAGE_SUFFIXES and suffix not in _LOOKED_INTO:
        return False
    unseen = suffix in _LOOKED_INTO - WRITTEN.keys()
    if not path.is_file():
        return unseen
    if moves(path):
        return True
    try:
        with path.open("rb") as file:
            if not _HEADS.match(file.read(1024)):
                return False
    except OSError:
        return unseen
    try:
        with open_input(path) as container:
            stream = video_streams(container)[0]
            still = container.format.name in ("gif", "apng")
            packets = container.demux(stream)
            return not still or sum(next(packets).size > 0 for _ in range(2)) == 2
    except (MediaError, IndexError):
        return False


def moves(path: Path) -> bool:
    """Whether a file is a WebP or AVIF of several pictures."""
    # Whatever a damaged file makes a decoder raise.
    with suppress(Exception), path.open("rb") as file:
        head = file.read(64)
        webp = head[8:16] == b"WEBPVP8X" and head[20] & 2
        avif = head[4:8] == b"ftyp" and b"avis" in head
        file.seek(0)
        if webp or avif:
            with PIL.Image.open(file, formats=("WEBP", "AVIF")) as image:
                return getattr(image, "n_frames", 1) > 1
    return False


def is_image(path: Path) -> bool:
    """Whether a path names an image by its suffix.

    What moves is no image, so files of the kinds that may move are looked into.
    """
    suffix = path.suffix.lower()
    moves = suffix in {".apng", ".avif", ".gif", ".webp"} and is_video(path)
    return suffix in IMAGE_SUFFIXES and not moves


def named_video(path: Path) -> bool:
    """Tell whether a file of this name is to be written as a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def open_input(path: Path) -> InputContainer:
    """Open a file of any kind that ffmpeg knows and that holds its frames itself.

    Tags that are not UTF-8 are kept byte for byte, as Python's surrogates.

    Raises:
        MediaError: the file is missing, a folder, empty, not to be read, or of no known kind.
    """
    if not path.exists():
        raise MediaError("no such file", where=path)
    if path.is_dir():
        raise MediaError("a folder where a video file is expected", where=path)
    if path.stat().st_size == 0:
        raise MediaError("the file is empty", where=path, mend="fetch it again")
    allowed = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    # From PyAV 19 on this is how it reads them, and the argument is gone.
    older = int(av.__version__.partition(".")[0]) < 19
    tags: dict[str, Any] = {"metadata_errors": "surrogateescape"} if older else {}
    try:
        # An absolute path cannot be mistaken for a URL, as "take:2.mp4" would be.
        container: InputContainer = av.open(path.absolute(), "r", container_options=allowed, **tags)
        return container
    except PermissionError as error:
        raise MediaError("the file may not be read", where=path) from error
    except av.FFmpegError as error:
        raise MediaError(
            "not a video that ffmpeg can open, or one that is cut off",
            where=path,
            got=error.strerror,
            mend="check that it plays; an MP4 whose download broke off often does not",
        ) from error


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The streams of moving pictures, the largest first."""
    # The cover of a music file is a video stream to ffmpeg.
    streams = [s for s in container.streams.video if not s.disposition & _COVERS]
    return sorted(streams, key=lambda s: s.codec_context is None or -s.width * s.height)
