"""How steady a video is: warping error and MABD, frame by frame in constant memory.

Frames are (H, W, 3) arrays, RGB, either uint8 (read as value / 255) or floating in [0, 1]. Clips
are measured in that scale, whatever the type.

A clip of fewer than two frames has no neighbours to compare: its measures are ``None``, never a
number, so that one such clip neither ends an evaluation nor enters an average.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llve_common.errors import DataError
from llve_common.flow.dis import dis_flow, forward_backward_valid
from llve_common.flow.warp import warp_frame

Frame = npt.NDArray[Any]
FlowEstimator = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From two (H, W, 3) uint8 RGB frames to the (H, W, 2) flow from first to second, in pixels."""


@dataclass(frozen=True)
class NamedFlow:
    """How motion is estimated, and what tables call it: errors along different flows differ."""

    name: str
    estimate: FlowEstimator


DIS = NamedFlow("DIS", dis_flow)
"""Dense inverse search, which needs no weights."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Motion(NamedTuple):
    """From each pixel of a guide's frame to its place in the frame before, (H, W, 2).

    It is valid where the flow back agrees (:func:`llve_common.flow.dis.forward_backward_valid`).
    """

    flow: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


class GuideFlow:
    """The motion of a clip, fed a frame at a time, along which several others are measured."""

    def __init__(self, estimate: FlowEstimator = dis_flow) -> None:
        self._estimate = estimate
        self._frames = 0
        self._previous: npt.NDArray[np.uint8] | None = None

    def next(self, guide: Frame) -> Motion | None:
        """The motion from the guide's last frame to this one; None at the first.

        Raises:
            DataError: the frame is not what the module describes, or has another size.
        """
        size = None if self._previous is None else self._previous.shape
        unit = _unit_range(guide, f"frame {self._frames} of the guide", size)
        current = np.asarray(np.rint(unit * np.float32(255)), dtype=np.uint8)
        previous, self._previous = self._previous, current
        self._frames += 1
        if previous is None:
            return None
        # The warped frame lies on the current one's pixels, so the flow must start there.
        to_previous = self._estimate(current, previous)
        to_current = self._estimate(previous, current)
        return Motion(to_previous, forward_backward_valid(to_previous, to_current))


class WarpingError:
    """Warping error of one clip, fed a frame at a time.

    Per pair of neighbouring frames: the mean, over valid pixels and their three channels, of
    ``(frame[t+1] - warp(frame[t], F))**2``, where ``F`` is the flow from t+1 to t and a pixel is
    valid where ``F`` and the flow from t to t+1 agree. Per clip: the mean of its pairs. A pair
    without any valid pixel, as at a hard cut, has no error and is left out.

    Both flows are estimated on the guide: the reference clip where there is one, else the
    network's input. A guide that the network did not make keeps its flicker from steering the
    flow by which it is measured.

    Unit: squared intensity, in [0, 1]; 0 is a still or perfectly moving video.

    Source: Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018, with the
    flow and the mask of TCE-Net's reproduction.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._errors = Mean()
        self._previous: npt.NDArray[np.float32] | None = None

    def update(self, frame: Frame, motion: Motion | None) -> None:
        """Add the next frame, and the motion of the guide up to it (:class:`GuideFlow`).

        Raises:
            DataError: a frame is not what the module describes, or its size differs from its
                guide's or from the previous frame's.
        """
        size = None if motion is None else (*motion.valid.shape, 3)
        current = _unit_range(frame, f"frame {self._frames}", size)
        previous, self._previous = self._previous, current
        self._frames += 1
        if previous is not None and motion is not None and motion.valid.any():
            warped = warp_frame(previous, motion.flow)
            difference = current[motion.valid] - warped[motion.valid]
            self._errors.add(float(np.mean(np.square(difference), dtype=np.float64)))

    def compute(self) -> float | None:
        """Return the clip's warping error so far; ``None`` where no pair has one."""
        return self._errors.value


@dataclass(frozen=True)
class MabdResult:
    """One clip's MABD: the mean of its sequence, in [0, 1], and its mean squared error.

    Both are ``None`` for fewer than two frames, and the error, in squared intensity, without a
    target.
    """

    mean: float | None
    mse: float | None


class Mabd:
    """Mean absolute brightness difference (MABD) of one clip, fed a frame at a time.

    The clip's sequence is, per pair of neighbouring frames, the mean over all pixels of
    ``|luma[t+1] - luma[t]|``, with BT.601 luma ``0.299 R + 0.587 G + 0.114 B`` of the stored
    values (nothing is linearised). Its mean holds motion as well as flicker, which is why the mean
    squared error between a clip's sequence and its target's is the measure that papers report.

    Unit: intensity, in [0, 1].

    Source: Jiang and Zheng, "Learning to See Moving Objects in the Dark", ICCV 2019.
    """

    def __init__(self) -> None:
        self._sequence = _BrightnessDifferences("frame")
        self._target_sequence = _BrightnessDifferences("target frame")
        self._with_target: bool | None = None
        self._means, self._squared_errors = Mean(), Mean()

    def update(
        self, frame: Frame, target: Frame | None = None
    ) -> tuple[float | None, float | None]:
        """Add the next frame, and for all frames or for none the same moment of the target clip.

        Returns:
            The sequence's next value and the target's; None at the first frame.

        Raises:
            DataError: a frame is not what the module describes, its size differs from its
                target's or from the previous frame's, or only some frames have a target.
        """
        has_target = target is not None
        if self._with_target is not None and self._with_target != has_target:
            raise DataError("only some frames of the clip have a target", mend="give all or none")
        if target is not None and target.shape != frame.shape:
            what = "frame and target differ in size"
            raise DataError(what, got=frame.shape, expected=target.shape)
        self._with_target = has_target
        value = self._sequence.next(frame)
        target_value = None if target is None else self._target_sequence.next(target)
        if value is not None:
            self._means.add(value)
            if target_value is not None:
                self._squared_errors.add((value - target_value) ** 2)
        return value, target_value

    def compute(self) -> MabdResult:
        """Return the clip's MABD so far."""
        return MabdResult(mean=self._means.value, mse=self._squared_errors.value)


class Mean:
    """A running mean that has no value before its first number."""

    def __init__(self) -> None:
        self.count = 0
        self._total = 0.0

    def add(self, number: float) -> None:
        """The next number."""
        self.count += 1
        self._total += number

    @property
    def value(self) -> float | None:
        """The mean so far."""
        return self._total / self.count if self.count else None


class _BrightnessDifferences:
    """One clip's MABD sequence, a value at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._frames = 0
        self._previous: npt.NDArray[np.float32] | None = None

    def next(self, frame: Frame) -> float | None:
        size = None if self._previous is None else (*self._previous.shape, 3)
        luma = _unit_range(frame, f"{self._name} {self._frames}", size) @ _LUMA
        previous, self._previous = self._previous, luma
        self._frames += 1
        if previous is None:
            return None
        return float(np.mean(np.abs(luma - previous), dtype=np.float64))


def _unit_range(frame: Frame, where: str, size: tuple[int, ...] | None) -> npt.NDArray[np.float32]:
    """Copy a frame to float32 in [0, 1]; a copy, because callers may reuse their buffer."""
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise DataError("not a colour frame", where=where, got=frame.shape, expected="(H, W, 3)")
    if size is not None and frame.shape != size:
        raise DataError("the frame's size differs", where=where, got=frame.shape, expected=size)
    if frame.dtype == np.uint8:
        return np.divide(frame, np.float32(255), dtype=np.float32)
    if not np.issubdtype(frame.dtype, np.floating):
        raise DataError(
            "a frame of this type has no known range",
            where=where,
            got=frame.dtype,
            expected="uint8, or floating in [0, 1]",
        )
    low, high = float(frame.min()), float(frame.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            "the frame's values leave the range",
            where=where,
            got=f"{low:g} to {high:g}",
            expected="0 to 1",
            mend="clip the frame, or divide it by its white level",
        )
    return np.array(frame, dtype=np.float32)
