"""Packet times that jump back, as where files were joined."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from av.packet import Packet

MOST_REORDERED = 16
"""How many frames later than in the file's order one may be shown."""
_JUMP = Fraction(7, 10)


class Clock:
    """Moves the packets after a jump back, so that they go on where those before it ended.

    Args:
        step: seconds from a packet to the next; None takes each packet's duration.
        jumped: is called at each jump.
    """

    def __init__(self, step: Fraction | None, jumped: Callable[[], None]) -> None:
        self._step, self._jumped = step, jumped
        self._tolerated = max(_JUMP, (MOST_REORDERED + 1) * (step or 0))
        self._shift = 0
        self.last: int | None = None
        """Decoding time of the last packet, in ticks."""

    def set(self, packet: Packet[Any]) -> None:
        """Correct a packet's times; they come in the order of the file."""
        if packet.dts is None:
            return
        dts = packet.dts + self._shift
        if self.last is not None and (self.last - dts) * packet.time_base > self._tolerated:
            step = round(self._step / packet.time_base) if self._step else packet.duration
            self._shift += self.last + max(1, step or 0) - dts
            dts = packet.dts + self._shift
            self._jumped()
        packet.dts = self.last = dts
        if packet.pts is not None:
            packet.pts += self._shift
