"""Videos, written one frame at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from llve_common.errors import ConfigError, MediaError
from llve_common.io.atomic import move_into_place, open_temporary, remove_temporary
from llve_common.video import colour
from llve_common.video.clock import MOST_REORDERED
from llve_common.video.container import open_input
from llve_common.video.copied import StreamCopy
from llve_common.video.info import VideoInfo, readable

OUTPUT_FORMATS: Mapping[str, str] = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
"""Suffixes that can be written, with ffmpeg's name of the container.

AVI is not among them because it stores no frame times, WebM because it does not take H.264.
"""
OUTPUT_CODECS: Mapping[str, str] = {"ffv1": "ffv1", "h264": "libx264", "h265": "libx265"}
"""How the picture can be written, with ffmpeg's name of the encoder."""
PART = ".nut"
"""The suffix of a part that is to be joined: this container keeps packets and times as they are."""
_DEFAULT_CRF = {"h264": 18, "h265": 20}
# Tags that hold of the result as well; the others tell of the source's file and encoder.
_OF_THE_FILE = frozenset({"compatible_brands", "encoder", "major_brand", "minor_version"})
_OF_THE_PICTURE = frozenset({"creation_time", "language", "timecode", "title"})


class VideoWriter:
    """Writes a video with the times, colour, sound and tags of another; a context manager.

    The picture is H.264 in the chroma sampling of ``like``; 4:2:0 for RGB. Where a side is odd that
    is 4:4:4, since less would cost a row or column; not every player shows 4:2:2 and 4:4:4. Pixels
    are stored in the range and matrix of ``like`` and tagged with them; an RGB clip becomes BT.709.
    There is no rotation tag, since frames come upright. All sound streams and subtitles are copied
    packet by packet where the container takes them, and so are chapters and tags that still hold.

    Frame times are kept to the tick in ``.mp4`` and ``.mov``; Matroska rounds to 1 ms. The silence
    that some codecs' sound begins with stays before 0. The last frame lasts for one frame of the
    average rate.

    The file is written beside the target and moved into place when the ``with`` block ends without
    an exception; otherwise it is removed, and a file that was at the target is left as it was.

    Args:
        path: the target; its suffix, one of `OUTPUT_FORMATS`, chooses the container.
        like: the clip whose size, rate, time base, pixel aspect and colour are kept, and whose
            sound is copied if it has any.
        crf: constant rate factor, 0 (lossless but for the colour conversion) to 51; by default 18
            for H.264 and 20 for H.265, which are generally taken as visually lossless.
        codec: ``h264``; ``h265``, which is smaller and slower; or ``ffv1``, which keeps every pixel
            exactly, as RGB, and takes no ``crf``.
        strip: leave out tags, chapters and subtitles.
        joined: a part that was written likewise, where parts are joined (:meth:`append`) instead of
            frames written.

    Raises:
        ConfigError: there is no such codec or ``crf``.
        MediaError: before any frame is taken, if the suffix is not supported, the folder cannot be
            written, the container does not take the codec, or ``like.path`` cannot be read again;
            on ending, if no frame was written or the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: VideoInfo,
        *,
        crf: int | None = None,
        codec: str = "h264",
        strip: bool = False,
        joined: Path | None = None,
    ) -> None:
        check_coding(codec, crf)
        self._target = Path(path)
        self._like, self._joined = like, joined
        self._shape = like.height, like.width, 3
        self._colour = colour.encoded_colour(like.colour, self._target, as_rgb=codec == "ffv1")
        self._reformatter = VideoReformatter()
        self._last: int | None = None
        self._order: list[int] = []
        container = _output_format(self._target)
        with contextlib.ExitStack() as undo, _explained(self._target):
            # Its name is hidden and of fixed length: media libraries overlook it, and it fits.
            self._file = open_temporary(self._target)
            undo.callback(remove_temporary, self._file)
            # Apple's and Android's own tags have a place of their own in a file.
            own = not strip and any(key.startswith("com.") for key in like.metadata)
            options = {"movflags": "use_metadata_tags"} if own else {}
            if container == "matroska":
                # Else all is moved, so that the silence that AAC begins with does not lie before 0.
                options = {"avoid_negative_ts": "disabled"}
            self._output = av.open(self._file, "w", format=container, container_options=options)
            undo.callback(self._output.close)
            # The file closes first: PyAV then spares itself the trailer of a file given up.
            undo.callback(self._close_file)
            self._stream = self._add_video(codec, crf, strip=strip)
            if not strip:
                tags = {k: v for k, v in like.metadata.items() if k.lower() not in _OF_THE_FILE}
                self._output.metadata.update(tags)
                self._output.set_chapters(_chapters(like))
            self._copied: StreamCopy | None = None
            if like.has_audio or like.has_subtitles:
                # Of what is joined it is said before there are parts.
                said = joined is not None
                self._copied = StreamCopy(like, self._output, self._target, strip=strip, said=said)
                undo.callback(self._copied.close)
            self._output.start_encoding()
            self._cleanup = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, *rest: object) -> None:
        with self._cleanup:
            if exc_type is None:
                self._finish()

    def discard(self) -> None:
        """End without a file, as where the ``with`` block raises."""
        self._cleanup.close()

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
            dst_colorspace=colour.SWSCALE_MATRIX.get(self._colour.matrix),
            dst_color_range=self._colour.range or colour.LIMITED_RANGE,
            interpolation=colour.EXACT,
            threads=0,
        )
        frame.pts = self._next_pts(time)
        frame.time_base = self._like.time_base
        with _explained(self._target):
            self._encode(frame)

    def _add_video(self, codec: str, crf: int | None, *, strip: bool) -> VideoStream:
        height, width, _ = self._shape
        try:
            stream = self._encoder(codec, crf) if self._joined is None else self._copy(self._joined)
        except ValueError as error:
            what, mend = f"{self._target.suffix} does not take {codec}", "write to a .mkv file"
            raise MediaError(what, where=self._target, mend=mend) from error
        stream.width, stream.height = width, height
        odd = width % 2 or (height % 2 and self._like.chroma == "420")
        yuv = f"yuv{444 if odd else self._like.chroma}p"
        stream.pix_fmt = "bgr0" if codec == "ffv1" else yuv
        if codec == "h265" and self._output.format.name in ("mov", "mp4"):
            stream.codec_context.codec_tag = "hvc1"  # Apple's players know no other
        stream.thread_type = "AUTO"
        stream.thread_count = 0  # one per processor
        stream.time_base = stream.codec_context.time_base = self._like.time_base
        stream.codec_context.sample_aspect_ratio = self._like.pixel_aspect
        stream.color_range = self._colour.range
        stream.colorspace = self._colour.matrix
        stream.color_primaries = self._colour.primaries
        stream.color_trc = self._colour.transfer
        if not strip:
            tags = self._like.stream_metadata
            stream.metadata.update({k: v for k, v in tags.items() if k.lower() in _OF_THE_PICTURE})
        return stream

    def _encoder(self, codec: str, crf: int | None) -> VideoStream:
        crf = _DEFAULT_CRF.get(codec) if crf is None else crf
        options = {} if crf is None else {"crf": str(crf)}
        if codec == "h264":
            # Of a noisy clip as enhanced, a third of the default's time for a file that is smaller
            # by 7 % and 0.3 dB worse: encoding took longer than all else together.
            options["preset"] = "veryfast"
        elif codec == "h265":
            options["x265-params"] = "log-level=error"
        encoder = OUTPUT_CODECS[codec]
        added = self._output.add_stream(encoder, self._like.rate, options=options)
        return cast("VideoStream", added)

    def _copy(self, part: Path) -> VideoStream:
        with open_input(part) as container:
            copy = self._output.add_stream_from_template(container.streams.video[0])
        copy.codec_context.framerate = self._like.rate
        return copy

    def append(self, part: Path, first: int) -> int:
        """Copy the packets of a part, and return how many frames they are.

        Args:
            part: a file of the suffix `PART`, written with the same ``like``, codec and ``crf``.
            first: the tick of ``like.time_base`` at which its first frame is shown.

        Raises:
            MediaError: the part cannot be read, or the disk is full.
        """
        tick = self._like.time_base
        with _explained(self._target):
            with open_input(part) as container:
                delay = int(container.streams.video[0].codec_context.has_b_frames)
                packets = _whole_packets(container)
                times = [(packet.pts or 0) * packet.time_base for packet in packets]
            shown = [first + round((time - min(times)) / tick) for time in times]
            decoded = self._decoded(shown, delay)
            with open_input(part) as container:
                for packet, pts in zip(_whole_packets(container), shown, strict=True):
                    packet.duration = round((packet.duration or 0) * packet.time_base / tick)
                    packet.time_base, packet.pts, packet.dts = tick, pts, next(decoded)
                    packet.stream = self._stream
                    self._mux(packet)
        return len(times)

    def _decoded(self, shown: Sequence[int], delay: int) -> Iterator[int]:
        """The ticks at which frames that are shown at these ticks are decoded, behind those before.

        They are those of display in their order, so many frames earlier, or as one of them has to.
        """
        order = sorted(shown)
        rank = {tick: place for place, tick in enumerate(order)}
        behind = max(delay, *(place - rank[tick] for place, tick in enumerate(shown)))
        step = round(1 / self._like.rate / self._like.time_base)
        before = [order[0] - step * ago for ago in range(behind, 0, -1)]
        before = [*before, *self._order][len(self._order) :]
        self._order = order[-MOST_REORDERED:]
        for tick in [*before, *order][: len(order)]:
            self._last = tick if self._last is None else max(tick, self._last + 1)
            yield self._last

    def _encode(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._mux(packet)

    def _mux(self, packet: Packet[VideoStream]) -> None:
        # By the packets that leave the encoder, since it holds back seconds of picture and the
        # muxer waits for it with a limit.
        if self._copied and packet.dts is not None:
            self._copied.mux_until(packet.dts * packet.time_base)
        self._output.mux(packet)

    def _next_pts(self, time: Fraction) -> int:
        pts = round(time / self._like.time_base)
        if self._last is not None and pts <= self._last:
            raise MediaError(
                "frame times do not increase",
                where=self._target,
                got=f"{float(time):.6f} s",
                expected=f"later than {float(self._last * self._like.time_base):.6f} s",
            )
        self._last = pts
        return pts

    def _finish(self) -> None:
        if self._last is None:
            raise MediaError("no frame was written", where=self._target)
        with _explained(self._target):
            if self._joined is None:
                self._encode(None)
            if self._copied:
                self._copied.mux_until(None)
            self._output.close()
            move_into_place(self._file, self._target, synced=True)

    def _close_file(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def check_coding(codec: str, crf: int | None) -> None:
    """Refuse a codec or a constant rate factor that :class:`VideoWriter` does not take.

    Raises:
        ConfigError: there is no such codec or ``crf``.
    """
    if codec not in OUTPUT_CODECS:
        known = ", ".join(sorted(OUTPUT_CODECS))
        raise ConfigError("no such video codec", where="codec", got=codec, expected=known)
    if crf is not None and (codec == "ffv1" or not 0 <= crf <= 51):
        expected = "none, since ffv1 loses nothing" if codec == "ffv1" else "0 to 51"
        raise ConfigError("no such quality", where="crf", got=crf, expected=expected)


def _whole_packets(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in container.demux(container.streams.video[0]) if packet.size)


def _chapters(like: VideoInfo) -> list[Any]:
    """The chapters in the clock of the frames written, those outside of the part left out."""
    moved = []
    for chapter in like.chapters:
        tick = chapter["time_base"]
        shift = round(like.start / tick)
        start, end = chapter["start"] - shift, chapter["end"] - shift
        last = end if like.end is None else min(end, round((like.end - like.start) / tick))
        if last > max(start, 0):
            tags = readable(chapter["metadata"])
            moved.append({**chapter, "start": max(start, 0), "end": last, "metadata": tags})
    return moved


def _output_format(path: Path) -> str:
    if path.is_dir():
        raise MediaError("a folder where a video file is to be written", where=path)
    if path.suffix == PART:
        return "nut"
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
