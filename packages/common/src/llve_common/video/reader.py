"""Videos, read one frame at a time."""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from llve_common.errors import MediaError
from llve_common.io.decoders import upright
from llve_common.video import colour
from llve_common.video.animation import Animation
from llve_common.video.container import moves, open_input, video_streams
from llve_common.video.decoder import Decoder
from llve_common.video.filters import FilterChain
from llve_common.video.info import PRIMING, VideoFrame, VideoInfo, readable
from llve_common.video.orientation import orientation_of

log = logging.getLogger(__name__)

_FINE = Fraction(1, 10_000)
_DEINTERLACING = "bwdif=mode=send_frame:deint=interlaced"

_Timed = tuple[av.VideoFrame, Fraction]


def open_video(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    keep_going: bool = False,
    skip: int = 0,
) -> VideoReader | Animation:
    """The frames of a video of any kind; arguments and errors are those of `VideoReader`."""
    opener = Animation if moves(path) else VideoReader
    return opener(path, start=start, end=end, keep_going=keep_going, skip=skip)


class VideoReader:
    """Frames of a video in the order of display; a context manager, and an iterator of one pass.

    Frames are upright RGB, converted by the range and matrix that the file is tagged with; limited
    range and BT.601 where it is not. Samples of more than 8 bits are rounded to 8; PQ and HLG are
    mapped to the tones and colours of BT.709. Frames that are flagged as interlaced are
    deinterlaced, one for one. Frames of another size than the first are scaled to its.

    Times start at 0 with the picture, or with the sound where that starts earlier. A time that is
    not later than the one before is moved behind it. Where a file stores no frame times, they
    follow from its rate. What is done to a clip beyond its tags is said in the log, a line each.

    Damage is never passed over unless that is asked for: the frames before it are delivered, then
    one `MediaError` names the file, the frame's number and its time. Damage is a frame that the
    decoder refuses, conceals or drops, and a file that is shorter than it says. What cannot be told
    is damage that decodes to a valid frame of wrong content, and what a Matroska or MPEG-TS file
    loses between two places that can be read.

    Args:
        path: the file; ``info`` is what it says of itself.
        threads: of the decoder and of the conversion; 0 takes one per processor.
        start: seconds from the clip's start to the first frame that is wanted, which gets time 0.
        end: seconds from the clip's start to the first frame that is not wanted any more.
        keep_going: pass over damage, deliver what can be decoded, and say what was lost.
        skip: frames of the part that are decoded, but not converted and delivered; the others keep
            their times.

    Raises:
        MediaError: if the file is missing, a folder, empty, no video or without a video stream, if
            its first frame is damaged, its orientation or colour matrix is not supported, or
            it has no frame between ``start`` and ``end``.
    """

    info: VideoInfo

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int = 0,
        start: float | None = None,
        end: float | None = None,
        keep_going: bool = False,
        skip: int = 0,
    ) -> None:
        self._path = Path(path)
        # As it is written, since the float 1.1 is later than a frame at 11/10.
        self._part = Fraction(str(start or 0)), None if end is None else Fraction(str(end))
        self._to_rgb = colour.RgbConverter(self._path, threads)
        self._origin: Fraction | None = None
        self._said: set[str] = set()
        self._container = open_input(self._path)
        try:
            self._stream = self._video_stream()
            # A clip of one frame may state no rate at all.
            self._rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
            if start and self._stream.start_time is not None:
                self._origin = self._origin_of(_start_of(self._stream))
            begin = None if self._origin is None else self._origin + self._part[0]
            decoder = Decoder(
                self._path, self._container, self._stream, threads, begin, keep_going=keep_going
            )
            frames = self._wanted(self._deinterlaced(self._timed(decoder.frames())))
            first = next(frames, None)
            if first is None:
                where = " in that part" if start or end is not None else ""
                raise MediaError(f"the video has no frames{where}", where=self._path)
            self._frames = itertools.islice(itertools.chain([first], frames), skip, None)
            self._orientation = orientation_of(first[0], self._path)
            colour.swscale_matrix(first[0], self._path)
            self._size = first[0].width, first[0].height
            self.info = self._describe(*first, keep_going=keep_going)
        except av.FFmpegError as error:
            self._container.close()
            raise self._unusable(error) from error
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._frames = itertools.islice((), 0)
        self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """Return the next frame.

        Raises:
            MediaError: where the file is damaged.
        """
        try:
            frame, time = next(self._frames)
            return VideoFrame(self._upright(frame), time - self.info.start)
        except av.FFmpegError as error:
            raise self._unusable(error) from error

    def _upright(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        if (frame.width, frame.height) != self._size:
            size = "{}x{}".format(*self._size)
            self._say(f"frames change their size; all are scaled to the first one's, {size}")
        return upright(self._to_rgb(frame, *self._size), self._orientation)

    def _unusable(self, error: av.FFmpegError) -> MediaError:
        what = "the video's frames cannot be converted"
        return MediaError(what, where=self._path, got=error.strerror)

    def _timed(self, frames: Iterator[tuple[av.VideoFrame, int | None]]) -> Iterator[_Timed]:
        """Frames with their times in the file's clock, in seconds, each later than the last."""
        last: Fraction | None = None
        tick = Fraction(self._stream.time_base or 0)
        repeated = 0
        for number, (frame, ticks) in enumerate(frames):
            time = number / self._rate if ticks is None else ticks * tick
            if last is None or time > last:
                repeated = 0
            else:
                repeated += 1
                self._say("some frames' times are not later than the last one's, and are moved on")
                # Halfway to where the next one is due, unless there are more of this kind.
                time = last + 1 / self._rate / (1 if repeated > 1 else 2)
            last = time
            yield frame, time

    def _origin_of(self, first: Fraction) -> Fraction:
        """The clip's start in the file's clock, from its first frame's time."""
        streams = self._container.streams.audio
        sound = min((_start_of(s) for s in streams if s.start_time is not None), default=first)
        return sound if sound < first - PRIMING else first

    def _deinterlaced(self, frames: Iterator[_Timed]) -> Iterator[_Timed]:
        chain: FilterChain | None = None
        times: deque[Fraction] = deque()
        for frame, time in frames:
            if chain is None and not frame.interlaced_frame:
                yield frame, time
                continue
            if chain is None:
                self._say("interlaced, so its frames are deinterlaced")
                chain = FilterChain(_DEINTERLACING)
            times.append(time)
            for progressive in chain.frames(frame):
                yield progressive, times.popleft()
        for progressive in chain.frames(None) if chain else ():
            yield progressive, times.popleft()

    def _wanted(self, frames: Iterator[_Timed]) -> Iterator[_Timed]:
        """The frames of the part, with their times in the clip."""
        start, end = self._part
        for frame, time in frames:
            if self._origin is None:
                self._origin = self._origin_of(time)
            at = time - self._origin
            if end is not None and at >= end:
                return
            if at >= start:
                yield frame, at

    def _describe(self, first: av.VideoFrame, time: Fraction, *, keep_going: bool) -> VideoInfo:
        start, end = self._part
        duration = _duration(self._container, self._stream)
        frames = self._stream.frames or None
        if duration and (frames is None or any(self._part)):
            duration = min(duration, end or duration) - start
            frames = round(duration * self._rate)
        turned = self._orientation > 4
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        time_base = self._stream.time_base or 1 / self._rate
        streams = self._container.streams
        tags = colour.colour_of(first)
        if hdr := colour.hdr_name(tags):
            self._say(f"high dynamic range ({hdr}), so it is mapped to BT.709")
        if colour.is_transparent(first) or self._stream.metadata.get("alpha_mode") == "1":
            self._say("its transparency is not kept")
        return VideoInfo(
            path=self._path,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            rate=self._rate,
            time_base=time_base / ceil(time_base / _FINE),
            frames=frames,
            pixel_aspect=1 / aspect if turned else aspect,
            colour=colour.displayed_colour(tags),
            chroma=colour.chroma_of(first),
            has_audio=bool(streams.audio),
            has_subtitles=bool(streams.subtitles),
            origin=self._origin or Fraction(0),
            start=time if start else Fraction(0),
            end=end,
            keep_going=keep_going,
            metadata=self._tags(self._container.metadata),
            stream_metadata=self._tags(self._stream.metadata),
            chapters=tuple(map(self._in_clip, self._container.chapters())),
        )

    def _in_clip(self, chapter: Mapping[str, Any]) -> dict[str, Any]:
        shift = round((self._origin or 0) / chapter["time_base"])
        return {**chapter, "start": chapter["start"] - shift, "end": chapter["end"] - shift}

    def _video_stream(self) -> VideoStream:
        streams = video_streams(self._container)
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams}))
            what = "the file has no video stream"
            raise MediaError(what, where=self._path, got=kinds or "no streams")
        best = streams[0]
        if cast("object", best.codec_context) is None:
            raise MediaError("this ffmpeg has no decoder for the video", where=self._path)
        if len(streams) > 1:
            size = f"{best.width}x{best.height}"
            self._say(f"of {len(streams)} video streams, number {best.index} ({size}) is taken")
        return best

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        # The time code is that of the first frame.
        cut = self._part[0] > 0
        return {k: v for k, v in readable(tags).items() if k.lower() != "timecode" or not cut}

    def _say(self, what: str) -> None:
        """Log what is done to the clip, once."""
        if what not in self._said:
            self._said.add(what)
            log.warning("%s: %s", self._path, what)


def _start_of(stream: Stream) -> Fraction:
    return (stream.start_time or 0) * cast("Fraction", stream.time_base)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None
