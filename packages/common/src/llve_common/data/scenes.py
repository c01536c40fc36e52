"""Clips made of photographs: a camera moves past layers at several depths, and things move.

Frames are drawn in linear light, in which motion blur is an average, and are exposed as a camera
does it by itself: to one mean brightness, as far as a moderate gain goes, or as the photographs
are. There are no cuts.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from llve_common.data.sensor import MEDIUM, Floats, Pixels, encoded, exposed
from llve_common.io.profiles import to_linear

_LINEAR = to_linear(np.arange(256) / 255).astype(np.float32)
_GAINS = (0.5, 2.5)
# How much larger than the frame a layer is, so that the camera finds something to move over.
_MARGIN = 1.3
_INSTANTS = 4


@dataclass(frozen=True)
class _Layer:
    """A picture (h, w, 3) in linear light, with what it covers, (h, w, 1) in [0, 1].

    ``depth`` is how far it moves while the farthest layer moves by 1, ``drift`` its own way in
    pixels a frame, (x, y).
    """

    picture: Floats
    cover: Floats | None
    depth: float
    drift: tuple[float, float]


@dataclass(frozen=True)
class _Camera:
    """A smooth path with a hand's shake; lengths are pixels, times are frames."""

    start: tuple[float, float]
    speed: tuple[float, float]
    shake: float
    zoom: float
    zooming: float
    turn: float
    turning: float

    def view(self, time: float, layer: _Layer, size: tuple[int, int]) -> NDArray[np.float64]:
        """The transform from a frame's pixels to the layer's."""
        scale = self.zoom * (1 + self.zooming * time * layer.depth)
        turn = self.turn + self.turning * time
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        tremor = (math.sin(2.3 * time + 1), math.sin(1.7 * time + 4))
        place = [
            length / 2 + start + layer.depth * (speed * time + self.shake * each) - drift * time
            for length, start, speed, each, drift in zip(
                layer.picture.shape[1::-1], self.start, self.speed, tremor, layer.drift, strict=True
            )
        ]
        middle = (size[1] - 1) / 2, (size[0] - 1) / 2
        return np.array([
            [cos, -sin, place[0] - cos * middle[0] + sin * middle[1]],
            [sin, cos, place[1] - sin * middle[0] - cos * middle[1]],
        ])  # fmt: skip


def moving_clip(
    photographs: Sequence[Pixels],
    frames: int,
    size: tuple[int, int],
    rng: random.Random,
    kept: float = 0.0,
) -> list[Pixels]:
    """A clip of frames (height, width, 3) uint8 RGB.

    Args:
        photographs: (H, W, 3) uint8 RGB; the first is the farthest layer, parts of the others hang
            or move before it.
        frames: how many.
        size: height and width of a frame.
        rng: all that is drawn.
        kept: how much of the photographs' own brightness is kept, from 0 to 1.
    """
    far, *near = (_scaled(each, size) for each in photographs)
    layers = [_Layer(far, None, 1.0, (0.0, 0.0))]
    layers += [_cut_out(picture, size, rng) for picture in near]
    pace = size[1] * 0.012
    camera = _Camera(
        start=(rng.uniform(-1, 1) * 0.08 * size[1], rng.uniform(-1, 1) * 0.08 * size[0]),
        speed=(rng.gauss(0, 0.5) * pace, rng.gauss(0, 0.25) * pace),
        shake=rng.uniform(0, 0.004) * size[1],
        zoom=rng.uniform(0.75, 1.0),
        zooming=rng.uniform(-0.006, 0.006),
        turn=math.radians(rng.uniform(-3, 3)),
        turning=math.radians(rng.uniform(-0.2, 0.2)),
    )
    shutter = rng.uniform(0, 0.8)
    drawn = [
        np.mean([
            _seen(layers, camera, number + shutter * instant / _INSTANTS, size)
            for instant in range(_INSTANTS)
        ], 0)
        for number in range(frames)
    ]  # fmt: skip
    automatic = min(max(exposed(drawn[0], MEDIUM), _GAINS[0]), _GAINS[1])
    gain = np.float32(automatic ** (1 - kept))
    bright = (encoded(np.minimum(gain * frame, 1)) for frame in drawn)
    return [np.round(frame * 255).astype(np.uint8) for frame in bright]


def _scaled(photograph: Pixels, size: tuple[int, int]) -> Floats:
    """A photograph in linear light, as large as a layer has to be to fill its margins."""
    factor = _MARGIN * max(size[0] / photograph.shape[0], size[1] / photograph.shape[1])
    fitted = (
        max(round(photograph.shape[1] * factor), 1),
        max(round(photograph.shape[0] * factor), 1),
    )
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(np.clip(cv2.resize(_LINEAR[photograph], fitted, interpolation=how), 0, 1))


def _cut_out(picture: Floats, size: tuple[int, int], rng: random.Random) -> _Layer:
    """A blob of a picture with a soft edge, before the rest; every second one moves by itself."""
    height, width = picture.shape[:2]
    coarse = np.random.default_rng(rng.getrandbits(64)).random((5, 5), np.float32)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    side, tall = rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7)
    shape = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    shape -= 1.2 * np.hypot((x - side) * rng.uniform(1, 2), (y - tall) * rng.uniform(1, 2)) - 0.3
    cover = np.clip(shape * height / 6 + 0.5, 0, 1)[..., None].astype(np.float32)
    own = rng.random() < 0.5
    drift = [rng.gauss(0, 0.012) * size[1] if own else 0.0 for _ in range(2)]
    return _Layer(picture, cover, rng.uniform(1.2, 2.5), (drift[0], drift[1]))


def _seen(layers: Sequence[_Layer], camera: _Camera, time: float, size: tuple[int, int]) -> Floats:
    seen = np.zeros((*size, 3), np.float32)
    for layer in layers:
        view = camera.view(time, layer, size)
        picture = _warped(layer.picture, view, size, cv2.BORDER_REFLECT_101)
        if layer.cover is None:
            seen = picture
        else:
            cover = _warped(layer.cover, view, size, cv2.BORDER_CONSTANT)[..., None]
            seen = seen + cover * (picture - seen)
    return seen


def _warped(
    picture: Floats, view: NDArray[np.float64], size: tuple[int, int], border: int
) -> Floats:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, view, size[::-1], flags=flags, borderMode=border))
