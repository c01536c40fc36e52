"""Sound and subtitles, copied without decoding them where the container takes them."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from llve_common.errors import MediaError
from llve_common.video.clock import Clock
from llve_common.video.container import open_input
from llve_common.video.info import PRIMING, VideoInfo, readable

log = logging.getLogger(__name__)

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")

_FURTHEST = 10
"""Seconds that one stream's packets may lie behind another's of the same time."""

_Way: TypeAlias = "Callable[[Packet[Any] | None], Iterable[Packet[Any]]]"
"""From a packet of the source to those of the output; None ends the stream."""


class StreamCopy:
    """The sound and subtitles of a file on their way into another, one packet at a time.

    Sound that the container does not take is encoded anew as AAC; subtitles that it does not take
    are left out, and so is sound without a decoder beside other sound. All this is said.

    Args:
        like: the clip, whose part and clock are kept.
        output: to write to; ``target`` is its file, for messages.
        strip: leave out the subtitles, and the sound's tags but its language.
        said: all this has been said before.

    Raises:
        MediaError: the file cannot be opened, its sound is damaged, or no track can be decoded.
    """

    def __init__(
        self, like: VideoInfo, output: OutputContainer, target: Path, *, strip: bool, said: bool
    ) -> None:
        self._like, self._output, self._target = like, output, target
        self._say = log.debug if said else log.warning
        self._container = open_input(like.path)
        self._ways: dict[int, _Way] = {}
        self._clocks: dict[int, Clock] = {}
        self._lost = 0
        try:
            for source in self._container.streams:
                if source.type == "audio" or (source.type == "subtitle" and not strip):
                    self._add(source, strip=strip)
                if source.index not in self._ways:
                    source.discard = Discard.all
            self._packets = self._written()
            self._ahead = next(self._packets, None)
        except BaseException:
            self._container.close()
            raise

    def mux_until(self, time: Fraction | None) -> None:
        """Copy the packets that are due by a time in seconds, or all that remain."""
        while self._ahead is not None and (time is None or _time_of(self._ahead) <= time):
            self._output.mux(self._ahead)
            self._ahead = next(self._packets, None)

    def close(self) -> None:
        """Close the source."""
        self._packets.close()
        self._container.close()

    def _add(self, source: Stream, *, strip: bool) -> None:
        known = cast("object", source.codec_context) is not None
        name = source.codec_context.name if known else "of an unknown kind"
        refused = f"{self._target.suffix} does not take the {source.type} ({name})"
        sounds = self._container.streams.audio
        in_matroska = _takes("matroska", source)
        if in_matroska:
            refused += ", which .mkv takes as it is"
        if _takes(self._output.format.name, source):
            copy = _add_copy(self._output, source)
            self._ways[source.index] = _copying(copy)
        elif isinstance(source, AudioStream) and known:
            rate = next((rate for rate in _AAC_RATES if rate >= source.rate), _AAC_RATES[-1])
            copy = self._output.add_stream("aac", rate, layout=_layout(source))
            self._ways[source.index] = _encoding(source, copy)
            self._say("%s: %s, so it is encoded anew as AAC", self._target, refused)
        elif source in sounds[-1:] and not self._ways.keys() & {each.index for each in sounds}:
            mend = "write to a .mkv file" if in_matroska else "--sound takes that of another file"
            raise MediaError(refused, where=self._target, mend=mend)
        else:
            self._say("%s: %s, so it is left out", self._target, refused)
            return
        self._clocks[source.index] = Clock()
        tags = readable(source.metadata)
        copy.metadata.update({k: v for k, v in tags.items() if k == "language" or not strip})
        copy.disposition = source.disposition

    def _written(self) -> Generator[Packet[Any]]:
        like = self._like
        for packet in self._whole_packets():
            self._clocks[packet.stream_index].set(packet)
            shift = round((like.origin + like.start) / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            late = -1 if like.end is None else _time_of(packet) - (like.end - like.start)
            if late >= _FURTHEST:
                break
            if late >= 0:
                continue
            # The whole clip's sound may begin with silence from before 0; more was cut off.
            if _time_of(packet) >= (0 if like.start else -PRIMING):
                yield from self._through(packet.stream_index, packet)
        for index in self._ways:
            yield from self._through(index, None)
        if self._lost:
            what = f"the sound is damaged; {self._lost} pieces of it are left out"
            log.warning("%s: %s", like.path, what)

    def _through(self, index: int, packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        try:
            yield from self._ways[index](packet)
        except av.FFmpegError as error:
            if not self._like.keep_going:
                raise self._damaged(error.strerror) from error
            self._lost += 1

    def _whole_packets(self) -> Iterator[Packet[Any]]:
        streams = [self._container.streams[index] for index in self._ways]
        try:
            for packet in self._container.demux(streams) if streams else ():
                if packet.is_corrupt and not self._like.keep_going:
                    raise self._damaged("the file breaks off within it")
                if packet.size and not packet.is_corrupt:
                    yield packet
        except av.FFmpegError as error:
            if not self._like.keep_going:
                raise self._damaged(error.strerror) from error
            log.warning("%s: the sound is damaged; it ends early", self._like.path)

    def _damaged(self, reason: object) -> MediaError:
        return MediaError("the sound is damaged", where=self._like.path, got=reason)


def _takes(container: str, source: Stream) -> bool:
    """Whether a container takes a stream's packets as they are, which is tried in memory."""
    try:
        trial = av.open(io.BytesIO(), "w", format=container)
        _add_copy(trial, source)
        trial.start_encoding()
        trial.close()
    except (ValueError, av.FFmpegError):
        return False
    return True


def _add_copy(output: OutputContainer, source: Stream) -> Stream:
    copy = output.add_stream_from_template(source)
    # Older files state the number of channels alone, with which MP4 takes no PCM.
    if isinstance(copy, AudioStream) and copy.layout.name.endswith(" channels"):
        copy.codec_context.layout = _layout(source)
    return copy


def _layout(source: Any) -> str:
    return _LAYOUTS[min(source.layout.nb_channels, len(_LAYOUTS)) - 1]


def _copying(copy: Stream) -> _Way:
    last: int | None = None

    def way(packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        nonlocal last
        if packet is None:
            return
        if last is not None and packet.dts is not None and packet.dts <= last:
            packet.dts = last + 1
            packet.pts = packet.pts and max(packet.pts, packet.dts)
        last = packet.dts
        packet.stream = copy
        yield packet

    return way


def _encoding(source: AudioStream, encoder: AudioStream) -> _Way:
    resampler = av.AudioResampler("fltp", encoder.layout, encoder.rate, frame_size=1024)
    position, fed, begun = 0, Fraction(0), False

    def way(packet: Packet[Any] | None) -> Iterator[Packet[Any]]:
        nonlocal position, fed, begun
        for frame in [*source.codec_context.decode(packet), *([] if packet else [None])]:
            if frame is not None:
                start = fed if frame.pts is None else frame.pts * Fraction(frame.time_base or 0)
                # Times may be coarse; only a hole moves what follows.
                if start - fed > PRIMING or not begun:
                    position += round((start - fed) * encoder.rate)
                    fed, begun = start, True
                fed += Fraction(frame.samples, frame.sample_rate)
                frame.pts = None
            for part in resampler.resample(frame):
                part.pts, part.time_base = position, Fraction(1, encoder.rate)
                position += part.samples
                yield from encoder.encode(part)
        if packet is None:
            yield from encoder.encode(None)

    return way


def _time_of(packet: Packet[Any]) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base
