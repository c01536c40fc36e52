"""Dense inverse search: an optical flow that needs no weights."""

import cv2
import numpy as np
import numpy.typing as npt

from llve_common.errors import DataError
from llve_common.flow.warp import warp_frame

# The FAST preset stops at a quarter of the size and matches patches of 8 pixels there. Below that
# OpenCV raises, answers nonsense or ends the process, depending on both sides.
_SHORTEST_SIDE = 8 * 4


def dis_flow(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Estimate the flow from ``first`` to ``second`` by dense inverse search.

    On 8-bit grey (BT.601 luma) by OpenCV's implementation at its FAST preset. A side shorter than
    32 pixels is padded by replication at the bottom and right, and the flow is cropped. The result
    does not depend on the number of threads, and is zero where both frames are the same.

    Args:
        first: (H, W, 3) uint8, RGB; so is ``second``.
        second: of the same size.

    Returns:
        (H, W, 2) float32 in pixels, (x, y): what is at ``p`` in ``first`` is at ``p + flow[p]``
        in ``second``.

    Raises:
        DataError: the frames are not of that shape and type, or not of one size.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    check_frames(first, second)
    # One estimator per call: it keeps buffers, so sharing it between threads would mix flows.
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = estimator.calc(  # type: ignore[call-overload]  # its stub leaves None out
        _grey(first), _grey(second), None
    )
    return np.ascontiguousarray(flow[: first.shape[0], : first.shape[1]], dtype=np.float32)


def check_frames(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> None:
    """Refuse what is not two frames (H, W, 3) uint8 of one size, by a DataError."""
    for name, frame in (("first", first), ("second", second)):
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            what, got = f"the {name} frame does not fit", f"{frame.shape} {frame.dtype}"
            raise DataError(what, got=got, expected="(H, W, 3) uint8, not empty")
    if first.shape != second.shape:
        raise DataError("the two frames differ in size", got=second.shape, expected=first.shape)


def forward_backward_valid(
    forward: npt.NDArray[np.floating], backward: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Say where two opposite flows agree, (H, W) bool: the first frame's pixels seen in both.

    A pixel is valid where its :func:`forward_backward_error` is below ``max(1, 0.05 |forward|)``
    pixels. Flow that is not finite is invalid.

    Raises:
        DataError: as there.

    Source: the consistency check of Sundaram, Brox and Keutzer, ECCV 2010, with TCE-Net's
    reproduction's own threshold.
    """
    error = forward_backward_error(forward, backward)
    allowed = np.maximum(1.0, 0.05 * np.linalg.norm(forward, axis=-1))
    return np.asarray(error < allowed, dtype=np.bool_)


def forward_backward_error(
    forward: npt.NDArray[np.floating], backward: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """How far from its start each pixel of the first frame ends up by both flows.

    Args:
        forward: (H, W, 2) in pixels (x, y), from the first frame to the second.
        backward: the same shape, from the second frame to the first; it is read bilinearly.

    Returns:
        (H, W) in pixels; infinite where ``forward`` leaves the image, beyond the outer pixels'
        centres, and not a number where a flow is.

    Raises:
        DataError: the flows are not of one such shape.
    """
    if forward.ndim != 3 or forward.shape[2] != 2 or forward.shape != backward.shape:
        got = f"{forward.shape} and {backward.shape}"
        raise DataError("the two flows do not fit", got=got, expected="twice (H, W, 2)")
    height, width = forward.shape[:2]
    x = np.arange(width) + forward[..., 0]
    y = np.arange(height)[:, None] + forward[..., 1]
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    error = np.linalg.norm(forward + warp_frame(backward, forward), axis=-1)
    return np.where(outside, np.inf, error)


def _grey(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    missing = [(0, max(0, _SHORTEST_SIDE - side)) for side in frame.shape[:2]]
    return np.pad(np.asarray(grey, dtype=np.uint8), missing, mode="edge")
