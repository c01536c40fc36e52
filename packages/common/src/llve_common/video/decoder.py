"""Decoding that passes over no damage, or says what it passed over."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from llve_common.errors import MediaError
from llve_common.video.clock import MOST_REORDERED, Clock
from llve_common.video.container import open_input, video_streams

log = logging.getLogger(__name__)

# With these a packet without a frame is a lost frame; other codecs have packets that show nothing.
_FRAME_PER_PACKET = frozenset({"av1", "h264", "hevc", "vp9"})

_LONGEST_GROUP = 300
"""Packets that are decoded once more."""
_MATROSKA = b"\x1a\x45\xdf\xa3"
# All but the head is one segment; the 1 says that its size follows in seven bytes, as muxers have
# it that fill it in at the end.
_SEGMENT, _UNKNOWN_SIZE = b"\x18\x53\x80\x67\x01", b"\xff" * 7


class Decoder:
    """Frames of a stream up to the first damage, which is told from the packets that went in.

    Args:
        path: of the file, for messages; ``container`` and ``stream`` are of it.
        threads: 0 takes one per processor.
        start: seconds in the file's clock; groups of pictures that end before are not decoded.
        keep_going: pass over damage, and say at the end what was lost.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: VideoStream,
        threads: int,
        start: Fraction | None,
        *,
        keep_going: bool,
    ) -> None:
        self._path, self._container, self._stream = path, container, stream
        self._keep_going, self._from = keep_going, start
        self._context = stream.codec_context
        codec = self._context.codec.canonical_name
        self._frame_per_packet = codec in _FRAME_PER_PACKET
        # Frame threads report errors late, and PyAV drops an error that comes with a frame, so they
        # are used only where packets tell which frames must come.
        self._context.thread_type = "AUTO" if self._frame_per_packet else "SLICE"
        self._context.thread_count = threads
        # VP9's hidden frames may come in packets of their own.
        self._merge = BitStreamFilterContext("vp9_superframe", stream) if codec == "vp9" else None
        # AVI stores no times but the packets' places, in the order of the file.
        self._in_places = container.format.name == "avi"
        self._places: deque[int] = deque()
        self._awaited: set[int] = set()
        self._held: deque[av.VideoFrame] = deque()
        self._start: int | None = None
        self._clock = Clock(1 / Fraction(stream.average_rate or 25))
        # Of files that do not say where they end; packets from the last key frame on.
        self._in_doubt = container.format.name == "mpegts" and self._frame_per_packet
        self._group: list[Packet[VideoStream]] = []
        self._failure: str | None = None
        self._ended = False
        self._packets = self._delivered = self._lost = self._concealed = 0

    def frames(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Yield frames in the order of display, with their times in ticks of the stream.

        Raises:
            MediaError: at the end, where they end too early.
        """
        packets = self._whole_packets()
        if self._from is not None:
            packets = self._from_key_frame(packets, self._from)
        for packet in packets:
            self._await(packet)
            self._note(packet)
            self._decode(packet)
            yield from self._released()
            if self._failure and not self._keep_going:
                break
        self._ended = True
        self._failure = self._failure or self._shortfall()
        self._decode(None)
        yield from self._released()
        self._lose(self._awaited)
        if self._failure and not self._keep_going:
            raise self._damaged(self._failure)
        if self._failure or self._lost or self._concealed:
            reason = self._failure or "the decoder dropped some of it"
            decoded = f"{self._delivered} frames are decoded, {self._concealed} of them in part"
            losses = f"{decoded}, and {self._lost} between them are lost"
            log.warning("%s: the video is damaged (%s): %s", self._path, reason, losses)

    def _whole_packets(self) -> Iterator[Packet[VideoStream]]:
        before = -1
        while before < self._packets:
            before = self._packets
            try:
                for packet in self._container.demux(self._stream):
                    if packet.is_corrupt:
                        self._failure = "a piece of the file is missing"
                        if not self._keep_going:
                            return
                    self._packets += packet.dts is not None
                    # An empty packet would flush the decoder; PyAV ends with one without a time.
                    if packet.size:
                        yield from self._merge.filter(packet) if self._merge else [packet]
                return
            except av.FFmpegError as error:
                self._failure = str(error.strerror)
                if not self._keep_going:
                    return

    def _from_key_frame(
        self, packets: Iterable[Packet[VideoStream]], start: Fraction
    ) -> Iterator[Packet[VideoStream]]:
        group: list[Packet[VideoStream]] = []
        begun = False
        for packet in packets:
            decoded = packet.dts if packet.dts is not None else packet.pts
            shown = decoded if packet.pts is None or self._in_places else packet.pts
            begun = begun or decoded is None or decoded * packet.time_base >= start
            if not begun and packet.is_keyframe and (shown or 0) * packet.time_base <= start:
                group.clear()
            group.append(packet)
            if begun:
                yield from group
                group.clear()
        yield from group

    def _await(self, packet: Packet[VideoStream]) -> None:
        if self._clock.set(packet):
            log.warning("%s: its times jump back; what follows is joined on", self._path)
        if self._in_places:
            packet.pts = packet.dts
        if packet.pts is None or packet.is_discard:
            return
        if self._start is None and packet.is_keyframe:
            self._start = packet.pts
        # What comes before the first key frame, in the file or on the screen, may lack references.
        if self._start is not None and packet.pts >= self._start:
            if self._in_places:
                self._places.append(packet.pts)
            if self._frame_per_packet:
                self._awaited.add(packet.pts)

    def _note(self, packet: Packet[VideoStream]) -> None:
        if packet.is_keyframe:
            self._group.clear()
        if self._in_doubt and len(self._group) <= _LONGEST_GROUP:
            self._group.append(packet)

    def _decode(self, packet: Packet[VideoStream] | None) -> None:
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            self._failure = self._failure or str(error.strerror)
            if packet is not None and packet.pts is not None:
                self._awaited.add(packet.pts)
            return
        for frame in frames:
            if frame.interlaced_frame and not self._failure:
                # Two fields in two packets make one frame.
                self._frame_per_packet = False
                self._awaited.clear()
            if frame.pts is not None:
                self._awaited.discard(frame.pts)
            self._held.append(frame)

    def _released(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Frames that no other one, still awaited, has to come before.

        Where times are not in the order of display, that one comes soon after; else it is lost.
        """
        while self._held:
            frame = self._held[0]
            missing = {at for at in self._awaited if frame.pts is not None and at < frame.pts}
            if missing and len(self._held) <= MOST_REORDERED and not self._ended:
                return
            self._lose(missing)
            self._held.popleft()
            if not self._keep_going:
                self._check(frame)
            self._concealed += frame.is_corrupt
            place = self._places.popleft() if self._places else None
            yield frame, place if self._context.has_b_frames and place is not None else frame.pts
            self._delivered += 1

    def _check(self, frame: av.VideoFrame) -> None:
        if frame.is_corrupt:
            raise self._damaged("the decoder had to conceal errors", frame.pts)
        last = self._clock.last
        if self._failure and frame.pts is not None and last is not None and frame.pts > last:
            # A packet that did not come may hold a frame that is shown before this one.
            raise self._damaged(self._failure)

    def _lose(self, missing: set[int]) -> None:
        if missing and not self._keep_going:
            raise self._damaged(self._failure or "the decoder dropped it")
        self._lost += len(missing)
        self._awaited -= missing

    def _shortfall(self) -> str | None:
        """Say what shows that a file which ended without an error ended too early."""
        is_mp4 = "mp4" in self._container.format.name.split(",")
        if is_mp4 and self._packets < len(self._stream.index_entries):
            return "the file breaks off"
        if self._path.stat().st_size < _stated_size(self._path):
            return "the file breaks off"
        if self._context.thread_count != 1 and self._end_is_guessed():
            return "the decoder had to conceal errors"
        return None

    def _end_is_guessed(self) -> bool:
        """Whether one thread has to guess at the last frames.

        Of a frame that is cut, ffmpeg's frame threads may hand it out before they know.
        """
        if not 0 < len(self._group) <= _LONGEST_GROUP:
            return False
        first = self._group[0].pts or 0
        again = cast("VideoCodecContext", av.CodecContext.create(self._context.codec, "r"))
        again.extradata, again.thread_count = self._context.extradata, 1
        try:
            frames = [frame for each in (*self._group, None) for frame in again.decode(each)]
        except av.FFmpegError:
            return True
        # What is shown before the key frame may lack references.
        return any(each.is_corrupt and (each.pts or 0) >= first for each in frames)

    def _damaged(self, reason: str, pts: int | None = None) -> MediaError:
        known = self._awaited if pts is None else self._awaited | {pts}
        first = min(known, default=None)
        at = ""
        if first is not None and self._stream.time_base:
            start = self._stream.start_time or 0
            at = f", at {float((first - start) * self._stream.time_base):.3f} s"
        return MediaError(
            "the video is damaged",
            where=self._path,
            got=f"nothing whole from frame {self._delivered} (counted from 0) on{at}: {reason}",
            mend="fetch the file again, or cut the clip before that frame",
        )


def packets_in(path: Path) -> int | None:
    """How many packets the picture of a video has; None where it breaks off or cannot be read."""
    with suppress(MediaError, av.FFmpegError, IndexError), open_input(path) as container:
        stream = video_streams(container)[0]
        count = sum(packet.size > 0 for packet in container.demux(stream))
        if count >= len(stream.index_entries) and path.stat().st_size >= _stated_size(path):
            return count
    return None


def _stated_size(path: Path) -> int:
    """Return the bytes that an AVI or Matroska file says it has, 0 where it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"RIFF"):
        if head[4:8] == _UNKNOWN_SIZE[:4]:  # it was written to a pipe
            return 0
        return 8 + int.from_bytes(head[4:8], "little")
    before, segment, rest = head.partition(_SEGMENT)
    if not before.startswith(_MATROSKA) or not segment or rest[:7] == _UNKNOWN_SIZE:
        return 0
    return len(before + segment) + 7 + int.from_bytes(rest[:7], "big")
