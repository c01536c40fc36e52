"""Sound, copied without decoding it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard

from llve_common.errors import MediaError
from llve_common.io.video.container import open_input


class AudioCopy:
    """The sound streams of a file on their way into another, one packet at a time.

    The target is the output's file, for messages.

    Raises:
        MediaError: the file cannot be opened, its sound is damaged, or the container refuses it.
    """

    def __init__(self, path: Path, output: OutputContainer, target: Path) -> None:
        self._path, self._output = path, output
        self._container = open_input(path)
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
        """Close the source."""
        self._packets.close()
        self._container.close()

    def _add(self, source: AudioStream, target: Path) -> AudioStream:
        try:
            copy = self._output.add_stream_from_template(source)
        except ValueError as error:
            raise audio_refused(target, error) from error
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


def _due(packet: Packet[AudioStream]) -> Fraction:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return (ticks or 0) * packet.time_base


def audio_refused(target: Path, error: Exception) -> MediaError:
    """To raise where a container does not take the sound."""
    return MediaError(
        "the container does not take the source's sound, which is copied as it is",
        where=target,
        got=error,
        mend="write to a .mkv file, which takes nearly every kind",
    )
