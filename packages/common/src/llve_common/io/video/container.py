"""Video files by their names, and opened."""

from __future__ import annotations

import os
from pathlib import Path

import av
from av.container import InputContainer

from llve_common.errors import MediaError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Suffixes, in lower case, of the files that are taken for videos."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell by its suffix whether a path is meant as a video; the file need not exist."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def open_input(path: Path) -> InputContainer:
    """Open a file of any kind that ffmpeg knows.

    Raises:
        MediaError: the file is missing, a folder, empty, not to be read, or of no known kind.
    """
    if not path.exists():
        raise MediaError("no such file", where=path)
    if path.is_dir():
        raise MediaError("a folder where a video file is expected", where=path)
    if path.stat().st_size == 0:
        raise MediaError("the file is empty", where=path, mend="fetch it again")
    try:
        # An absolute path cannot be mistaken for a URL, as "take:2.mp4" would be.
        return av.open(path.absolute(), "r")
    except PermissionError as error:
        raise MediaError("the file may not be read", where=path) from error
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise MediaError(
            "not a video that ffmpeg can open, or one that is cut off",
            where=path,
            got=getattr(error, "strerror", None),
            mend="check that it plays; an MP4 whose download broke off often does not",
        ) from error
