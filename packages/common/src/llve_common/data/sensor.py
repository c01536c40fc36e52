"""Low light as a camera's sensor makes it, by simulation.

The photograph's tone curve is undone; in linear light the scene is dimmed and noise is added, which
is correlated as after demosaicing; then the tone curve, 8 bits and the compression follow, in a
camera's order. The noise model is that of Foi et al., *Practical Poissonian-Gaussian noise modeling
and fitting for single-image raw-data* (IEEE TIP 2008), with row noise. All ranges are llve's own.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from llve_common.clips.frames import open_source
from llve_common.io.atomic import temporary_folder
from llve_common.io.profiles import from_linear, to_linear
from llve_common.video import Colour, VideoInfo, VideoWriter

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Range = tuple[float, float]

MEDIUM = 0.42
"""The mean of a frame, as stored, that automatic exposure brings about."""

_TABLE = np.linspace(0.0, 1.0, 4096)
_ENCODED = from_linear(_TABLE**2)
# Bilinear demosaicing of a Bayer mosaic: of red and blue, and of green.
_SPARSE = np.outer((0.5, 1, 0.5), (0.5, 1, 0.5)).astype(np.float32)
_DENSE = np.array([[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]], np.float32)


@dataclass(frozen=True)
class Sensor:
    """The parameters of one clip; all its frames share them.

    Attributes:
        mean: of the first dark frame, before noise, as stored, in [0, 1]; where the scene's light
            is kept, this is that of a scene of medium brightness.
        contrast: share of an S-curve in the tone curve, beside that of sRGB.
        red, blue: their gains beside green's.
        shot_gain: variance of the shot noise over signal, in linear light of the dark frame.
        read_std: standard deviation of the read noise, likewise.
        row_std: of what all pixels of a row share, likewise.
        smoothing: standard deviation of the camera's own smoothing of the noise, in pixels.
        black: what is left of the black level, in linear light.
        flicker: depth of the lamps' flicker; 0 is none.
        beat: its cycles from frame to frame, as 50 or 60 Hz leave them of the frame rate.
        bands: its cycles from the first row to the last, by the rolling shutter.
        light: how much brighter a local light source makes its surroundings; 0 is none.
        light_y, light_x, light_size: its place and its reach, as shares of the frame.
        jpeg: quality; 0 is no JPEG.
        crf: constant rate factor of H.264; 0 is no H.264.
        highlight: how much brighter than white are lamps and windows, which the photograph clips.
        kept: how much of the scene's own brightness is kept: 0 is none, as by automatic exposure; 1
            is all of it, as by one exposure for all scenes.
    """

    mean: float
    contrast: float
    red: float
    blue: float
    shot_gain: float
    read_std: float
    row_std: float
    smoothing: float
    black: float
    flicker: float
    beat: float
    bands: float
    light: float
    light_y: float
    light_x: float
    light_size: float
    jpeg: float
    crf: float
    highlight: float
    kept: float


@dataclass(frozen=True)
class SensorRanges:
    """What a clip's parameters are drawn from: uniformly, mean and noise in their logarithms.

    A range of one value draws nothing. Flicker, light and compression are there in a share of the
    clips alone.
    """

    mean: Range = (0.02, 0.2)
    contrast: Range = (0.0, 0.3)
    red: Range = (0.96, 1.04)
    blue: Range = (0.96, 1.04)
    shot_gain: Range = (2e-5, 2e-3)
    read_std: Range = (2e-4, 3e-3)
    row_std: Range = (1e-5, 2e-4)
    smoothing: Range = (0.0, 0.8)
    black: Range = (-3e-4, 3e-4)
    flicker: Range = (0.02, 0.12)
    beat: Range = (0.0, 1.0)
    bands: Range = (0.0, 3.0)
    light: Range = (0.5, 3.0)
    light_y: Range = (0.0, 1.0)
    light_x: Range = (0.0, 1.0)
    light_size: Range = (0.15, 0.5)
    jpeg: Range = (75, 98)
    crf: Range = (14, 26)
    highlight: Range = (0.0, 0.0)
    kept: Range = (0.0, 0.0)
    highlight_share: float = 1.0
    flicker_share: float = 0.25
    light_share: float = 0.25
    jpeg_share: float = 0.3
    crf_share: float = 0.3


NEUTRAL = SensorRanges()
"""White balance nearly neutral: where it is drawn at random, colours are ambiguous."""
COLOURED = SensorRanges(red=(0.7, 1.4), blue=(0.7, 1.4))
"""Lamps of other colours, whose light is to be made white."""
DIM = SensorRanges(mean=(0.03, 0.3))
"""As dark as the photographs that people bring: those of LIME and DICM have a median of 0.3."""
VARIED = SensorRanges(
    shot_gain=(2e-5, 4e-3), read_std=(2e-4, 6e-3), row_std=(1e-5, 6e-4), smoothing=(0.0, 1.0),
    black=(-3e-4, 6e-4), highlight=(5.0, 60.0), highlight_share=0.3, kept=(0.0, 1.0),
)  # fmt: skip
"""From the neutral light to more noise than LOL's, with lamps in the picture; a dark scene may stay
darker than a bright one, as where low and normal light differ by one exposure."""
PRESETS = {"neutral": NEUTRAL, "coloured": COLOURED, "dim": DIM, "varied": VARIED}

_LOGARITHMIC = {"mean", "shot_gain", "read_std", "row_std"}


def draw_sensor(ranges: SensorRanges, rng: random.Random) -> Sensor:
    """Draw a clip's parameters."""
    drawn: dict[str, float] = {}
    for name in (field.name for field in fields(Sensor)):
        low, high = getattr(ranges, name)
        if low == high:
            drawn[name] = low
            continue
        if name in _LOGARITHMIC:
            drawn[name] = low * (high / low) ** rng.random()
        else:
            drawn[name] = rng.uniform(low, high)
        if rng.random() >= getattr(ranges, f"{name}_share", 1.0):
            drawn[name] = 0.0
    return Sensor(**drawn)


def exposed(linear: Floats, mean: float) -> float:
    """The gain at which linear light (H, W, 3) has this mean once it is clipped and sRGB-coded."""
    sparse, low, high = linear[::3, ::3], 1e-6, 1e2
    for _ in range(30):
        middle = (low * high) ** 0.5
        brighter = encoded(np.minimum(sparse * np.float32(middle), 1)).mean() > mean
        low, high = (low, middle) if brighter else (middle, high)
    return float(np.sqrt(low * high))


def encoded(linear: Floats) -> Floats:
    """:func:`from_linear` of [0, 1], by a table that is dense where it is dark."""
    return np.interp(np.sqrt(linear), _TABLE, _ENCODED).astype(np.float32)


def low_light(frames: Sequence[Pixels], sensor: Sensor, rng: np.random.Generator) -> list[Pixels]:
    """A clip's frames (H, W, 3) uint8 RGB in low light, with noise drawn from ``rng``."""
    curve = _TABLE + sensor.contrast * (_TABLE**2 * (3 - 2 * _TABLE) - _TABLE)
    undone = to_linear(np.interp(np.arange(256) / 255, curve, _TABLE)).astype(np.float32)
    balance = np.array([sensor.red, 1, sensor.blue], np.float32) * _lamp(frames[0].shape, sensor)
    brightness = float(frames[0].mean()) / 255 / MEDIUM
    gain = exposed(undone[frames[0]] * balance, sensor.mean * brightness**sensor.kept)
    undone *= 1 + sensor.highlight * np.clip(np.arange(256) / 255 * 12.5 - 11.5, 0, 1)
    dark = []
    for number, frame in enumerate(frames):
        rows = np.linspace(0, sensor.bands, len(frame), dtype=np.float32)[:, None, None]
        wave = 1 + sensor.flicker * np.sin(2 * np.pi * (rows + sensor.beat * number))
        light = undone[frame] * balance * wave.astype(np.float32) * np.float32(gain)
        noisy = np.clip(light + _noise(light, sensor, rng) + sensor.black, 0, 1)
        stored = np.interp(encoded(noisy.astype(np.float32)), _TABLE, curve)
        dark.append(np.round(stored * 255).astype(np.uint8))
    return _compressed(dark, sensor)


def _lamp(shape: tuple[int, ...], sensor: Sensor) -> Floats:
    """How much brighter each pixel (H, W, 1) is by a local light source."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    apart = np.hypot(y - sensor.light_y * height, x - sensor.light_x * width)
    reach = sensor.light_size * max(height, width)
    lamp: Floats = (1 + sensor.light * np.exp(-((apart / reach) ** 2)))[..., None]
    return lamp.astype(np.float32)


def _noise(light: Floats, sensor: Sensor, rng: np.random.Generator) -> Floats:
    """Noise (H, W, 3) of one value for each pixel of a Bayer mosaic, demosaiced and smoothed."""
    std = np.sqrt(sensor.shot_gain * light + sensor.read_std**2)
    drawn = rng.standard_normal(light.shape[:2], np.float32)[..., None] * std
    mosaic = np.zeros_like(drawn)
    mosaic[::2, ::2, 0] = drawn[::2, ::2, 0]
    mosaic[::2, 1::2, 1], mosaic[1::2, ::2, 1] = drawn[::2, 1::2, 1], drawn[1::2, ::2, 1]
    mosaic[1::2, 1::2, 2] = drawn[1::2, 1::2, 2]
    kernels = (_SPARSE, _DENSE, _SPARSE)
    noise = np.dstack([cv2.filter2D(mosaic[..., n], -1, k) for n, k in enumerate(kernels)])
    if sensor.smoothing > 0.2:
        noise = cv2.GaussianBlur(noise, (0, 0), sensor.smoothing)
    rows = rng.standard_normal((len(light), 1, 1), np.float32)
    return np.asarray(noise + sensor.row_std * rows, np.float32)


def _compressed(frames: list[Pixels], sensor: Sensor) -> list[Pixels]:
    if sensor.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, round(sensor.jpeg)]
        files = [cv2.imencode(".jpg", frame[..., ::-1], quality)[1] for frame in frames]
        frames = [np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8) for file in files]
        frames = [frame[..., ::-1] for frame in frames]
    if sensor.crf:
        height, width = frames[0].shape[:2]
        with temporary_folder() as folder:
            file = folder / "clip.mp4"
            # BT.601, as in the sets of which the bundled weights learned.
            times = Fraction(25), Fraction(1, 12800)
            like = VideoInfo(file, width, height, *times, colour=Colour())
            with VideoWriter(file, like, crf=round(sensor.crf)) as out:
                for number, frame in enumerate(frames):
                    out.write(frame, Fraction(number, 25))
            with open_source(file) as source:
                frames = [np.asarray(each.image.pixels, np.uint8) for each in source.frames]
    return [np.ascontiguousarray(frame) for frame in frames]
