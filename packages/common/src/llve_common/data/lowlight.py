"""Low light from ordinary video, by simulation.

Darkening as in Lv, Li, Lu, *Attention-guided low-light image enhancement* (IJCV 2021):
``low = beta (alpha x)^gamma``; then shot (Poisson) and read (Gaussian) noise in linear light; then
8 bits. The ranges of the noise are llve's own choice.
"""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llve_common.io.profiles import from_linear, to_linear


@dataclass(frozen=True)
class Darkening:
    """The parameters of one clip; all its frames share them.

    ``shot_gain`` is the variance of the shot noise over signal, ``read_std`` the standard deviation
    of the read noise, both in linear light.
    """

    alpha: float
    beta: float
    gamma: float
    shot_gain: float
    read_std: float


@dataclass(frozen=True)
class DarkeningRanges:
    """What a clip's parameters are drawn from: uniformly, the noise uniformly in its logarithm."""

    alpha: tuple[float, float] = (0.9, 1.0)
    beta: tuple[float, float] = (0.5, 1.0)
    gamma: tuple[float, float] = (1.5, 5.0)
    shot_gain: tuple[float, float] = (1e-4, 1e-2)
    read_std: tuple[float, float] = (1e-3, 2e-2)


def draw_darkening(ranges: DarkeningRanges, rng: random.Random) -> Darkening:
    """Draw a clip's parameters."""
    tone = [rng.uniform(*bounds) for bounds in (ranges.alpha, ranges.beta, ranges.gamma)]
    noise = [rng.uniform(*np.log(bounds)) for bounds in (ranges.shot_gain, ranges.read_std)]
    return Darkening(*tone, *(float(np.exp(each)) for each in noise))


def darken(
    frame: NDArray[np.uint8], darkening: Darkening, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One frame (H, W, 3) uint8, sRGB-encoded, in low light, with noise drawn from ``rng``."""
    bright = frame.astype(np.float64) / 255.0
    low = darkening.beta * (darkening.alpha * bright) ** darkening.gamma
    linear = to_linear(low)
    shot = rng.poisson(linear / darkening.shot_gain) * darkening.shot_gain
    noisy = shot + rng.normal(0.0, darkening.read_std, frame.shape)
    return np.round(from_linear(np.clip(noisy, 0.0, 1.0)) * 255.0).astype(np.uint8)
