"""WebP and AVIF that move, which Pillow decodes and PyAV does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Self

import numpy as np
import PIL.Image

from llve_common.errors import MediaError
from llve_common.io.decoders import of_8_bits, refuse_too_large, upright
from llve_common.io.metadata import orientation_of
from llve_common.video.info import VideoFrame, VideoInfo

log = logging.getLogger(__name__)

# Milliseconds that a frame is shown which states none, as for a GIF.
_UNSTATED = 100


class Animation:
    """Frames of a WebP or AVIF, used as :class:`~llve_common.video.VideoReader` is.

    Frames are converted to sRGB by the file's ICC profile.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: float | None = None,
        end: float | None = None,
        keep_going: bool = False,
        skip: int = 0,
    ) -> None:
        self._path, self._keep_going = path, keep_going
        self._part = Fraction(str(start or 0)), None if end is None else Fraction(str(end))
        self._file = PIL.Image.open(path, formats=("WEBP", "AVIF"))
        try:
            refuse_too_large(path, *self._file.size, 1)
            frames = self._wanted()
            first = next(frames, None)
            if first is None:
                raise MediaError("the video has no frames in that part", where=path)
            self._frames = islice(chain([first], frames), skip, None)
            height, width = first.pixels.shape[:2]
            # As the first frame's, since to know the others' is to decode them.
            rate = Fraction(1000, self._file.info["duration"] or _UNSTATED)
            count = self._file.n_frames if not any(self._part) else None  # type: ignore[attr-defined]
            self.info = VideoInfo(path, width, height, rate, Fraction(1, 10_000), count)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._frames

    def _wanted(self) -> Iterator[VideoFrame]:
        """The frames of the part, the first of them at 0."""
        (start, end), shift = self._part, None
        for frame in self._decoded():
            if end is not None and frame.time >= end:
                return
            if frame.time >= start:
                shift = frame.time if shift is None else shift
                yield VideoFrame(frame.pixels, frame.time - shift)

    def _decoded(self) -> Iterator[VideoFrame]:
        file, unstated = self._file, 0
        orientation, profile = orientation_of(file), file.info.get("icc_profile")
        said = False
        for number in range(file.n_frames):  # type: ignore[attr-defined]
            try:
                file.seek(number)
                file.load()
                pixels, alpha = of_8_bits(file, profile)
            except Exception as error:  # whatever a damaged file makes a decoder raise
                damaged = MediaError(
                    "the video is damaged",
                    where=self._path,
                    got=f"nothing whole from frame {number} (counted from 0) on: {error}",
                    mend="fetch the file again",
                )
                if number == 0 or not self._keep_going:
                    raise damaged from error
                log.warning("%s", damaged)
                return
            if not said and alpha is not None and alpha.min() < 255:
                log.warning("%s: its transparency is not kept", self._path)
                said = True
            # An AVIF's durations are rounded, so that their sum drifts.
            time = Fraction(file.info["timestamp"] + unstated, 1000)
            yield VideoFrame(upright(np.asarray(pixels, np.uint8), orientation), time)
            unstated += 0 if file.info["duration"] else _UNSTATED
