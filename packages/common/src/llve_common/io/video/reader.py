"""Videos, read one frame at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from llve_common.errors import MediaError
from llve_common.io.video.colour import FULL_RANGE, LIMITED_RANGE, colour_of, swscale_matrix
from llve_common.io.video.container import open_input
from llve_common.io.video.decoder import Decoder
from llve_common.io.video.info import VideoFrame, VideoInfo
from llve_common.io.video.orientation import Orientation


class VideoReader:
    """Frames of a video in the order of display; a context manager, and an iterator of one pass.

    Frames are upright RGB, converted by the range and matrix that the file is tagged with; limited
    range and BT.601 where it is not. Samples of more than 8 bits are reduced to 8, without tone
    mapping; interlaced frames stay woven. Where a file stores no frame times, they follow from its
    rate.

    Damage is never passed over: the frames before it are delivered, then one `MediaError` names
    the file, the frame's number and its time. Damage is a frame that the decoder refuses, conceals
    or drops, and a file that is shorter than it says. What cannot be told is damage that decodes to
    a valid frame of wrong content, and what a Matroska or MPEG-TS file loses between two places
    that can be read.

    Args:
        path: the file; ``info`` is what it says of itself.
        threads: of the decoder and of the conversion; 0 takes one per processor.

    Raises:
        MediaError: if the file is missing, a folder, empty, no video or without a video stream, if
            its first frame is damaged, or its orientation or colour matrix is not supported.
    """

    info: VideoInfo

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0) -> None:
        self._path = Path(path)
        self._threads = threads
        self._reformatter = VideoReformatter()
        self._delivered = 0
        self._container = open_input(self._path)
        try:
            self._stream = _video_stream(self._path, self._container)
            frames = Decoder(self._path, self._container, self._stream, threads).frames()
            first = next(frames, None)
            if first is None:
                raise MediaError("the video has no frames", where=self._path)
            self._frames = itertools.chain([first], frames)
            self._orientation = Orientation.of(first, self._path)
            self._matrix = swscale_matrix(first, self._path)
            self._size = first.width, first.height
            self.info = self._describe(first)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._frames = itertools.chain()
        self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        """Return the next frame.

        Raises:
            MediaError: where the file is damaged or the frames change their size.
        """
        frame = next(self._frames)
        if (frame.width, frame.height) != self._size:
            raise MediaError(
                f"frame {self._delivered} has another size than the first",
                where=self._path,
                got=f"{frame.width}x{frame.height}",
                expected="{}x{}".format(*self._size),
                mend="split the video where its size changes",
            )
        pts = None if frame.pts is None else frame.pts * self.info.time_base
        time = self._delivered / self.info.rate if pts is None else pts
        self._delivered += 1
        return VideoFrame(self._upright_rgb(frame), time)

    def _upright_rgb(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=self._matrix,
            src_color_range=colour_of(frame).range or LIMITED_RANGE,
            dst_color_range=FULL_RANGE,
            interpolation=Interpolation.BICUBIC,
            threads=self._threads,
        )
        return self._orientation.turn(cast("npt.NDArray[np.uint8]", rgb.to_ndarray()))

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        # A clip of one frame may state no rate at all.
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        duration = _duration(self._container, self._stream)
        frames = self._stream.frames or (round(duration * rate) if duration else None)
        width, height = self._orientation.size(first.width, first.height)
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        return VideoInfo(
            path=self._path,
            width=width,
            height=height,
            rate=rate,
            time_base=self._stream.time_base or 1 / rate,
            frames=frames,
            duration=duration,
            rotation=first.rotation % 360,
            pixel_aspect=1 / aspect if self._orientation.transposed else aspect,
            colour=colour_of(first),
            has_audio=bool(self._container.streams.audio),
        )


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    # The cover of a music file is a video stream to ffmpeg.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise MediaError("the file has no video stream", where=path, got=kinds or "no streams")
    if cast("object", streams[0].codec_context) is None:
        raise MediaError("this ffmpeg has no decoder for the video", where=path)
    return streams[0]


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None
