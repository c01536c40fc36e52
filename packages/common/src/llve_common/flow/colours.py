"""Optical flow as a picture: direction as hue, length as saturation."""

import numpy as np
import numpy.typing as npt

from llve_common.errors import DataError

# The wheel's corners and how many steps lead to the next: more where eyes tell more hues apart.
_CORNERS = (
    ((255, 0, 0), 15),  # red to yellow
    ((255, 255, 0), 6),  # to green
    ((0, 255, 0), 4),  # to cyan
    ((0, 255, 255), 11),  # to blue
    ((0, 0, 255), 13),  # to magenta
    ((255, 0, 255), 6),  # and back to red
)
_EPSILON = 1e-5


def flow_picture(flow: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Paint a flow in the colours of the Middlebury benchmark, scaled by its largest length.

    A flow (H, W, 2), (x, y), becomes (H, W, 3) uint8, RGB. No flow is white, the largest is fully
    saturated; rightward flow is red, downward yellow, leftward cyan, upward violet. Two pictures of
    different flows are scaled differently.

    Raises:
        DataError: the flow is not of that shape, or not finite.

    Source: Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or not flow.size:
        raise DataError("the flow to paint does not fit", got=flow.shape, expected="(H, W, 2)")
    largest = np.linalg.norm(flow, axis=-1).max()
    if not np.isfinite(largest):
        raise DataError("the flow to paint is not finite", got=largest)
    # Without any flow, the small number makes white of 0 / 0.
    x, y = np.moveaxis(flow / (largest + _EPSILON), -1, 0)
    wheel = _wheel()
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    first = np.floor(place).astype(int)
    weight = (place - first)[..., None]
    hue = (1 - weight) * wheel[first] + weight * wheel[(first + 1) % len(wheel)]
    saturation = np.hypot(x, y)[..., None]
    return np.asarray(np.floor(255 - saturation * (255 - hue)), dtype=np.uint8)


def _wheel() -> npt.NDArray[np.float64]:
    """The 55 hues (55, 3) in [0, 255], whole numbers as in the original."""
    hues = []
    for number, (corner, steps) in enumerate(_CORNERS):
        towards = np.array(_CORNERS[(number + 1) % len(_CORNERS)][0])
        change = np.floor(255 * np.arange(steps) / steps)[:, None]
        hues.append(np.array(corner) + change * np.sign(towards - np.array(corner)))
    return np.concatenate(hues)
