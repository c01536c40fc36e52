"""Packet times that jump back, as where files were joined."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.packet import Packet

MOST_REORDERED = 16
"""How many frames later than in the file's order one may be shown."""
_JUMP = Fraction(7, 10)


class Clock:
    """Lets the packets after a jump back go on where those before it ended.

    Args:
        step: seconds from a packet to the next; None takes each packet's duration.
    """

    def __init__(self, step: Fraction | None = None) -> None:
        self._step, self._shift = step, 0
        self._tolerated = max(_JUMP, (MOST_REORDERED + 1) * (step or 0))
        self.last: int | None = None
        """Decoding time of the last packet, in ticks."""

    def set(self, packet: Packet[Any]) -> bool:
        """Correct a packet's times, in the order of the file, and tell whether they jumped here."""
        if packet.dts is None:
            return False
        back = 0 if self.last is None else self.last - packet.dts - self._shift
        jumped = back * packet.time_base > self._tolerated
        if jumped:
            step = round(self._step / packet.time_base) if self._step else packet.duration
            self._shift += back + max(1, step or 0)
        packet.dts = self.last = packet.dts + self._shift
        if packet.pts is not None:
            packet.pts += self._shift
        return jumped
