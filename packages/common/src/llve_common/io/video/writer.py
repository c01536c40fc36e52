"""Videos, written one frame at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from llve_common.errors import MediaError
from llve_common.io.video.colour import LIMITED_RANGE, SWSCALE_MATRIX, encoded_colour
from llve_common.io.video.info import VideoInfo
from llve_common.io.video.sound import AudioCopy, audio_refused

OUTPUT_FORMATS: Mapping[str, str] = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
"""Suffixes that can be written, with ffmpeg's name of the container.

AVI is not among them because it stores no frame times, WebM because it does not take H.264.
"""


class VideoWriter:
    """Writes a video with the times, colour and sound of another; a context manager.

    The picture is H.264, 4:2:0 (``yuv420p``). Where a side is odd it is 4:4:4 (``yuv444p``), since
    4:2:0 would cost a row or column; not every player shows that. Pixels are stored in the range
    and matrix of ``like`` and tagged with them; an RGB clip becomes BT.709. There is no rotation
    tag, since frames come upright. All sound streams are copied packet by packet; subtitles,
    chapters and the file's metadata are not.

    Frame times are kept to the tick in ``.mp4`` and ``.mov``. Matroska rounds to 1 ms, and shifts
    picture and sound together where the sound starts before 0, as AAC taken from an MP4 does. The
    last frame lasts for one frame of the average rate.

    The file is written beside the target and moved into place when the ``with`` block ends without
    an exception; otherwise it is removed, and a file that was at the target is left as it was.

    Args:
        path: the target; its suffix, one of `OUTPUT_FORMATS`, chooses the container.
        like: the clip whose rate, time base, pixel aspect and colour are kept, and whose sound is
            copied if it has any.
        width: of the frames, in pixels.
        height: likewise.
        crf: constant rate factor of x264, 0 (lossless but for the colour conversion) to 51; 18 is
            generally taken as visually lossless.

    Raises:
        MediaError: before any frame is taken, if the suffix is not supported, the folder cannot be
            written, the container does not take the sound, or ``like.path`` cannot be read again;
            on ending, if no frame was written or the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: VideoInfo,
        *,
        width: int,
        height: int,
        crf: int = 18,
    ) -> None:
        self._target = Path(path)
        self._like = like
        self._shape = height, width, 3
        self._colour = encoded_colour(like.colour, self._target)
        self._reformatter = VideoReformatter()
        self._last_pts: int | None = None
        container = _output_format(self._target)
        # A hidden name of fixed length: media libraries overlook it, and it is never too long.
        self._temporary = self._target.with_name(
            f".{secrets.token_hex(8)}{self._target.suffix.lower()}"
        )
        with contextlib.ExitStack() as undo, _explained(self._target):
            self._file = self._temporary.open("xb")
            undo.callback(self._temporary.unlink, missing_ok=True)
            self._output = av.open(self._file, "w", format=container)
            undo.callback(self._output.close)
            # The file closes first: PyAV then spares itself the trailer of a file given up.
            undo.callback(self._close_file)
            self._stream = self._add_video(crf)
            self._audio: AudioCopy | None = None
            if like.has_audio:
                self._audio = AudioCopy(like.path, self._output, self._target)
                undo.callback(self._audio.close)
            try:
                self._output.start_encoding()
            except av.FFmpegError as error:
                if self._audio is None or isinstance(error, OSError):
                    raise
                raise audio_refused(self._target, error) from error
            self._cleanup = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, *rest: object) -> None:
        with self._cleanup:
            if exc_type is None:
                self._finish()

    def write(self, pixels: npt.NDArray[np.uint8], time: Fraction) -> None:
        """Encode one frame.

        Args:
            pixels: uint8 (height, width, 3), RGB, 0 to 255; not kept.
            time: presentation time in seconds, later than the frame before; rounded to a tick of
                ``like.time_base``.

        Raises:
            MediaError: if the time does not increase, the source's sound is damaged, or the disk
                is full.
            ValueError: if the array has another shape or type.
        """
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise ValueError(
                f"got {pixels.dtype} {pixels.shape}, expected uint8 {self._shape}: frames of one "
                "video have one size"
            )
        frame = self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24"),
            format=self._stream.pix_fmt,
            dst_colorspace=SWSCALE_MATRIX[self._colour.matrix],
            dst_color_range=self._colour.range or LIMITED_RANGE,
            interpolation=Interpolation.BICUBIC,
            threads=0,
        )
        frame.pts = self._next_pts(time)
        frame.time_base = self._like.time_base
        with _explained(self._target):
            self._encode(frame)

    def _add_video(self, crf: int) -> VideoStream:
        height, width, _ = self._shape
        stream = self._output.add_stream("libx264", self._like.rate, options={"crf": str(crf)})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        stream.thread_type = "AUTO"
        stream.thread_count = 0  # one per processor
        stream.time_base = stream.codec_context.time_base = self._like.time_base
        stream.codec_context.sample_aspect_ratio = self._like.pixel_aspect
        stream.color_range = self._colour.range
        stream.colorspace = self._colour.matrix
        stream.color_primaries = self._colour.primaries
        stream.color_trc = self._colour.transfer
        return stream

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # By the packets that leave the encoder, since it holds back seconds of picture and the
            # muxer waits for it with a limit.
            if self._audio and packet.dts is not None:
                self._audio.mux_until(packet.dts * packet.time_base)
            self._output.mux(packet)

    def _next_pts(self, time: Fraction) -> int:
        pts = round(time / self._like.time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            raise MediaError(
                "frame times do not increase",
                where=self._target,
                got=f"{float(time):.6f} s",
                expected=f"later than {float(self._last_pts * self._like.time_base):.6f} s",
            )
        self._last_pts = pts
        return pts

    def _finish(self) -> None:
        if self._last_pts is None:
            raise MediaError("no frame was written", where=self._target)
        with _explained(self._target):
            self._encode(None)
            if self._audio:
                self._audio.mux_until(None)
            self._output.close()
            self._file.close()
            self._temporary.replace(self._target)

    def _close_file(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def _output_format(path: Path) -> str:
    if path.is_dir():
        raise MediaError("a folder where a video file is to be written", where=path)
    if path.suffix.lower() not in OUTPUT_FORMATS:
        raise MediaError(
            "videos of this kind cannot be written",
            where=path,
            got=path.suffix or "no suffix",
            expected=", ".join(sorted(OUTPUT_FORMATS)),
        )
    return OUTPUT_FORMATS[path.suffix.lower()]


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise MediaError(
            "the video cannot be written",
            where=target,
            got=error.strerror or error,
            mend="choose a folder that exists, can be written and has room",
        ) from error
