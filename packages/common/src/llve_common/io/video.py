"""Videos, read and written one frame at a time.

A reader turns every frame upright and into RGB as the file's colour tags say; a writer takes such
frames back, with their times, and copies the source's sound without decoding it. Reading and
writing at once needs memory for a few frames, whatever the clip's length.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.buffer import Buffer
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from llve_common.errors import MediaError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Suffixes, in lower case, of the files that are taken for videos."""

OUTPUT_FORMATS: Mapping[str, str] = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
"""Suffixes that can be written, with ffmpeg's name of the container.

AVI is not among them because it stores no frame times, WebM because it does not take H.264.
"""

_UNSPECIFIED_RANGE, _LIMITED_RANGE, _FULL_RANGE = 0, 1, 2
_RGB_MATRIX, _BT709_MATRIX, _UNSPECIFIED = 0, 1, 2

# H.273's code points and swscale's differ. An untagged clip is BT.601 to ffmpeg and OpenCV, with
# which the published results were made.
_SWSCALE_MATRIX = {
    _BT709_MATRIX: Colorspace.ITU709,
    _UNSPECIFIED: Colorspace.ITU601,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

# With these a packet without a frame is a lost frame; other codecs have packets that show nothing.
_FRAME_PER_PACKET = frozenset({"av1", "h264", "hevc", "vp9"})

_EBML_HEADER, _MATROSKA_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(frozen=True)
class Colour:
    """How a clip's pixels are meant, as the code points of ITU-T H.273 (ffmpeg's ``AVCOL_*``).

    Attributes:
        range: 0 not stated, 1 limited (luma 16 to 235), 2 full (0 to 255).
        matrix: matrix between RGB and YCbCr: 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 0 none (the clip
            is RGB), 2 not stated.
        primaries: colour primaries; 2 not stated.
        transfer: transfer characteristics; 2 not stated.
    """

    range: int = _UNSPECIFIED_RANGE
    matrix: int = _UNSPECIFIED
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED


@dataclass(frozen=True)
class VideoInfo:
    """What a writer has to know of a clip, and a user may want to.

    Attributes:
        path: the file; sound is copied from it.
        width: pixels in a row of the upright frame.
        height: rows of the upright frame.
        rate: average frames per second.
        time_base: seconds that one tick of the frame times lasts.
        frames: number of frames, as the file states or its duration suggests; None if unknown.
        duration: seconds; None if unknown.
        rotation: degrees, counter-clockwise, that the stored frames are turned by for display;
            0, 90, 180 or 270. ``width``, ``height`` and every frame read have it applied.
        pixel_aspect: width of a pixel over its height, upright; 1 where the file does not say.
        colour: range, matrix, primaries and transfer.
        has_audio: whether there is sound.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames: int | None = None
    duration: Fraction | None = None
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = Colour()
    has_audio: bool = False


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Attributes:
        pixels: uint8 (height, width, 3), RGB, 0 to 255, upright.
        time: presentation time in seconds.
    """

    pixels: npt.NDArray[np.uint8]
    time: Fraction


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell by its suffix whether a path is meant as a video; the file need not exist."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Describe a video; this decodes its first frame.

    Raises:
        MediaError: as `VideoReader` raises on opening.
    """
    with VideoReader(path, threads=1) as reader:
        return reader.info


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
        path: the file.
        threads: threads of the decoder and of the conversion; 0 takes one per processor.

    Attributes:
        info: what the file says of itself.

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
        self._container = _open_input(self._path)
        try:
            self._stream = _video_stream(self._path, self._container)
            frames = _Decoder(self._path, self._container, self._stream, threads).frames()
            first = next(frames, None)
            if first is None:
                raise MediaError("the video has no frames", where=self._path)
            self._frames = itertools.chain([first], frames)
            self._orientation = _Orientation.of(first, self._path)
            self._matrix = _swscale_matrix(first, self._path)
            self._size = first.width, first.height
            self.info = self._describe(first)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        converted = VideoFrame(self._upright_rgb(frame), self._time(frame))
        self._delivered += 1
        return converted

    def _upright_rgb(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=self._matrix,
            src_color_range=_colour(frame).range or _LIMITED_RANGE,
            dst_color_range=_FULL_RANGE,
            interpolation=Interpolation.BICUBIC,
            threads=self._threads,
        )
        return self._orientation.turn(cast("npt.NDArray[np.uint8]", rgb.to_ndarray()))

    def _time(self, frame: av.VideoFrame) -> Fraction:
        if frame.pts is None:
            return self._delivered / self.info.rate
        return frame.pts * self.info.time_base

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        rate = _rate(self._stream)
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
            colour=_colour(first),
            has_audio=bool(self._container.streams.audio),
        )


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
        width: pixels in a row.
        height: rows.
        crf: constant rate factor of x264, 0 (lossless but for the colour conversion) to 51; 18 is
            generally taken as visually lossless.
        threads: threads of the encoder and of the conversion; 0 takes one per processor.

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
        threads: int = 0,
    ) -> None:
        self._target = Path(path)
        self._like = like
        self._shape = height, width, 3
        self._threads = threads
        self._colour = _encoded_colour(like.colour, self._target)
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
            self._audio: _AudioCopy | None = None
            if like.has_audio:
                self._audio = _AudioCopy(like.path, self._output, self._target)
                undo.callback(self._audio.close)
            self._start()
            self._cleanup = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        frame = self._encodable(pixels)
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
        stream.thread_count = self._threads
        stream.time_base = stream.codec_context.time_base = self._like.time_base
        stream.codec_context.sample_aspect_ratio = self._like.pixel_aspect
        stream.color_range = self._colour.range
        stream.colorspace = self._colour.matrix
        stream.color_primaries = self._colour.primaries
        stream.color_trc = self._colour.transfer
        return stream

    def _start(self) -> None:
        try:
            self._output.start_encoding()
        except av.FFmpegError as error:
            if self._audio is None or isinstance(error, OSError):
                raise
            raise _audio_refused(self._target, error) from error

    def _encodable(self, pixels: npt.NDArray[np.uint8]) -> av.VideoFrame:
        return self._reformatter.reformat(
            av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24"),
            format=self._stream.pix_fmt,
            dst_colorspace=_SWSCALE_MATRIX[self._colour.matrix],
            dst_color_range=self._colour.range or _LIMITED_RANGE,
            interpolation=Interpolation.BICUBIC,
            threads=self._threads,
        )

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


class _Decoder:
    """Frames of a stream up to the first damage, which is told from the packets that went in."""

    def __init__(
        self, path: Path, container: InputContainer, stream: VideoStream, threads: int
    ) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._context = stream.codec_context
        self._frame_per_packet = self._context.codec.canonical_name in _FRAME_PER_PACKET
        # Frame threads report errors late, and PyAV drops an error that comes with a frame, so they
        # are used only where packets tell which frames must come.
        self._context.thread_type = "AUTO" if self._frame_per_packet else "SLICE"
        self._context.thread_count = threads
        self._awaited: set[int] = set()
        self._start: int | None = None
        self._last_dts: int | None = None
        self._failure: str | None = None
        self._packets = self._delivered = 0

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield frames in the order of display; raise `MediaError` where they end too early."""
        for packet in self._whole_packets():
            self._await(packet)
            yield from self._decode(packet)
            if self._failure:
                break
        self._failure = self._failure or self._shortfall()
        yield from self._decode(None)
        if self._failure or self._awaited:
            raise self._damaged(self._failure or "the decoder dropped it")

    def _whole_packets(self) -> Iterator[Packet[VideoStream]]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    self._failure = "the file breaks off"
                    return
                self._packets += packet.dts is not None
                # An empty packet would flush the decoder; PyAV ends with one that has no time.
                if packet.size:
                    yield packet
        except av.FFmpegError as error:
            self._failure = str(error.strerror)

    def _await(self, packet: Packet[VideoStream]) -> None:
        self._last_dts = packet.dts if packet.dts is not None else self._last_dts
        if packet.pts is None or packet.is_discard or not self._frame_per_packet:
            return
        if self._start is None and packet.is_keyframe:
            self._start = packet.pts
        # What comes before the first key frame, in the file or on the screen, may lack references.
        if self._start is not None and packet.pts >= self._start:
            self._awaited.add(packet.pts)

    def _decode(self, packet: Packet[VideoStream] | None) -> Iterator[av.VideoFrame]:
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            self._failure = self._failure or str(error.strerror)
            if packet is not None and packet.pts is not None:
                self._awaited.add(packet.pts)
            return
        for frame in frames:
            self._check(frame)
            yield frame
            self._delivered += 1

    def _check(self, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise self._damaged("the decoder had to conceal errors", frame.pts)
        if frame.pts is None:
            return
        if self._failure and self._last_dts is not None and frame.pts > self._last_dts:
            # A packet that did not come may hold a frame that is shown before this one.
            raise self._damaged(self._failure)
        if frame.interlaced_frame and not self._failure:
            # Two fields in two packets make one frame.
            self._frame_per_packet = False
            self._awaited.clear()
        self._awaited.discard(frame.pts)
        if self._awaited and min(self._awaited) < frame.pts:
            raise self._damaged(self._failure or "the decoder dropped it")

    def _shortfall(self) -> str | None:
        """Say what shows that a file which ended without an error ended too early."""
        is_mp4 = "mp4" in self._container.format.name.split(",")
        if is_mp4 and self._packets < len(self._stream.index_entries):
            return "the file breaks off"
        if self._path.stat().st_size < _stated_size(self._path):
            return "the file breaks off"
        return None

    def _damaged(self, reason: str, pts: int | None = None) -> MediaError:
        known = self._awaited if pts is None else self._awaited | {pts}
        first = min(known, default=None)
        at = ""
        if first is not None and self._stream.time_base:
            at = f", at {float(first * self._stream.time_base):.3f} s"
        return MediaError(
            "the video is damaged",
            where=self._path,
            got=f"nothing whole from frame {self._delivered} (counted from 0) on{at}: {reason}",
            mend="fetch the file again, or cut the clip before that frame",
        )


class _AudioCopy:
    """The sound streams of a file on their way into another, one packet at a time."""

    def __init__(self, path: Path, output: OutputContainer, target: Path) -> None:
        self._path, self._output = path, output
        self._container = _open_input(path)
        try:
            streams = self._container.streams.audio
            self._copies = {source.index: self._add(source, target) for source in streams}
            for video in self._container.streams.video:
                video.discard = Discard.all
            packets = cast("Iterator[Packet[AudioStream]]", self._container.demux(*streams))
            self._packets = self._whole_packets(packets)
            self._ahead = next(self._packets, None)
        except BaseException:
            self._container.close()
            raise

    def mux_until(self, time: Fraction | None) -> None:
        """Copy the packets that are due by a time in seconds, or all that remain."""
        while self._ahead is not None and (time is None or _due(self._ahead) <= time):
            self._ahead.stream = self._copies[self._ahead.stream_index]
            self._output.mux(self._ahead)
            self._ahead = next(self._packets, None)

    def close(self) -> None:
        self._packets.close()
        self._container.close()

    def _add(self, source: AudioStream, target: Path) -> AudioStream:
        try:
            copy = self._output.add_stream_from_template(source)
        except ValueError as error:
            raise _audio_refused(target, error) from error
        copy.metadata.update(source.metadata)
        copy.disposition = source.disposition
        return copy

    def _whole_packets(
        self, packets: Iterator[Packet[AudioStream]]
    ) -> Generator[Packet[AudioStream]]:
        try:
            for packet in packets:
                if packet.is_corrupt:
                    raise self._damaged("the file breaks off within it")
                if packet.size:
                    yield packet
        except av.FFmpegError as error:
            raise self._damaged(error.strerror) from error

    def _damaged(self, reason: object) -> MediaError:
        return MediaError("the sound is damaged", where=self._path, got=reason)


@dataclass(frozen=True)
class _Orientation:
    """One of the eight ways to lay a rectangle on its grid: transpose first, then mirror."""

    transposed: bool
    columns_reversed: bool
    rows_reversed: bool

    @classmethod
    def of(cls, frame: av.VideoFrame, path: Path) -> Self:
        data = cast("Mapping[str, Buffer]", frame.side_data).get("DISPLAYMATRIX")
        if data is None:
            return cls(transposed=False, columns_reversed=False, rows_reversed=False)
        # A stored point (x, y) is displayed at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
        if (a or d) and (b or c):
            raise MediaError(
                "the video is turned by an angle that is no multiple of 90 degrees",
                where=path,
                got=f"{frame.rotation} degrees",
                mend="remove its rotation tag",
            )
        transposed = not (a or d)
        x, y = (c, b) if transposed else (a, d)
        return cls(transposed, columns_reversed=bool(x < 0), rows_reversed=bool(y < 0))

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.transposed else (width, height)

    def turn(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.columns_reversed:
            pixels = pixels[:, ::-1]
        if self.rows_reversed:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def _open_input(path: Path) -> InputContainer:
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


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    # The cover of a music file is a video stream to ffmpeg.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise MediaError(
            "the file has no video stream", where=path, got=", ".join(kinds) or "no streams"
        )
    if cast("object", streams[0].codec_context) is None:
        raise MediaError("this ffmpeg has no decoder for the video", where=path)
    return streams[0]


def _rate(stream: VideoStream) -> Fraction:
    # A clip of one frame may state no rate at all.
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _colour(frame: av.VideoFrame) -> Colour:
    # The deprecated formats whose names start with yuvj are full range by definition.
    full = frame.format.name.startswith("yuvj")
    return Colour(
        range=_FULL_RANGE if full else int(frame.color_range),
        matrix=_RGB_MATRIX if frame.format.is_rgb else int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


def _swscale_matrix(frame: av.VideoFrame, path: Path) -> Colorspace | None:
    return None if frame.format.is_rgb else _SWSCALE_MATRIX[_known_matrix(_colour(frame), path)]


def _encoded_colour(colour: Colour, path: Path) -> Colour:
    if colour.matrix == _RGB_MATRIX:
        return replace(colour, range=_LIMITED_RANGE, matrix=_BT709_MATRIX)
    _known_matrix(colour, path)
    return colour


def _known_matrix(colour: Colour, path: Path) -> int:
    if colour.matrix not in _SWSCALE_MATRIX:
        raise MediaError(
            "the video's colour matrix is not supported",
            where=path,
            got=f"H.273 matrix {colour.matrix}",
            expected=f"one of {sorted(_SWSCALE_MATRIX)}, or RGB",
            mend="convert it to BT.709",
        )
    return colour.matrix


def _stated_size(path: Path) -> int:
    """Return the bytes that an AVI or Matroska file says it has, 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    found = head.find(_MATROSKA_SEGMENT)
    if head.startswith(_EBML_HEADER) and found >= 0:
        return _element_end(head, found + len(_MATROSKA_SEGMENT))
    return 0


def _element_end(head: bytes, at: int) -> int:
    # An EBML size: as many zero bits as bytes follow, a one, the value; all ones mean unknown.
    length = 9 - head[at].bit_length()
    value_bits = 7 * length
    value = int.from_bytes(head[at : at + length], "big") & ((1 << value_bits) - 1)
    return 0 if value == (1 << value_bits) - 1 else at + length + value


def _output_format(path: Path) -> str:
    if path.is_dir():
        raise MediaError("a folder where a video file is to be written", where=path)
    try:
        return OUTPUT_FORMATS[path.suffix.lower()]
    except KeyError:
        raise MediaError(
            "videos of this kind cannot be written",
            where=path,
            got=path.suffix or "no suffix",
            expected=", ".join(sorted(OUTPUT_FORMATS)),
        ) from None


def _audio_refused(target: Path, error: Exception) -> MediaError:
    return MediaError(
        "the container does not take the source's sound, which is copied as it is",
        where=target,
        got=error,
        mend="write to a .mkv file, which takes nearly every kind",
    )


def _due(packet: Packet[AudioStream]) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base


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
