"""Decoding that passes over no damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from llve_common.errors import MediaError

# With these a packet without a frame is a lost frame; other codecs have packets that show nothing.
_FRAME_PER_PACKET = frozenset({"av1", "h264", "hevc", "vp9"})

_MATROSKA = b"\x1a\x45\xdf\xa3"
# All but the head is one segment; the 1 says that its size follows in seven bytes, as muxers have
# it that fill it in at the end.
_SEGMENT, _UNKNOWN_SIZE = b"\x18\x53\x80\x67\x01", b"\xff" * 7


class Decoder:
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


def _stated_size(path: Path) -> int:
    """Return the bytes that an AVI or Matroska file says it has, 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    before, segment, rest = head.partition(_SEGMENT)
    if not before.startswith(_MATROSKA) or not segment or rest[:7] == _UNKNOWN_SIZE:
        return 0
    return len(before + segment) + 7 + int.from_bytes(rest[:7], "big")
