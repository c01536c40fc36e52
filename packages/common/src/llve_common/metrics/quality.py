"""Measures without ground truth: NIQE, LOE, discrete entropy, EME; and what tables do before PSNR.

Images are (H, W, 3), uint8, RGB.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.resources import as_file, files
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.special import gamma

from llve_common.errors import DataError

Eight = NDArray[np.uint8]
Real = NDArray[np.float64]
Single = NDArray[np.float32]

_BLOCK = 96
_ROLLS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = np.arange(0.2, 10.001, 0.001)


def grey(image: Eight | Real) -> Real:
    """``0.299 R + 0.587 G + 0.114 B``, (H, W), not rounded."""
    return np.asarray(image @ np.array([0.299, 0.587, 0.114]), np.float64)


def luma(image: Eight | Real) -> Real:
    """Y of BT.601 in studio range, 16 to 235, (H, W), not rounded: MATLAB's ``rgb2ycbcr``."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    values: Real = np.asarray(image @ weights, np.float64)
    return values + 16


def scaled_to_mean(image: Eight, target: Eight) -> Real:
    """The image scaled so that its grey mean is its ground truth's (*GT-mean*), on [0, 255].

    Scores of it are always flattered: what has the wrong brightness is not punished.
    """
    mean = float(grey(image).mean())
    return np.clip(image * (float(grey(target).mean()) / mean if mean else 1.0), 0, 255)


def discrete_entropy(image: Eight) -> float:
    """Entropy in bits of the grey image's histogram of 256 bins; larger is better."""
    levels = np.rint(grey(image)).astype(np.uint8)
    shares = np.bincount(levels.ravel(), minlength=256) / levels.size
    shares = shares[shares > 0]
    return abs(float((shares * np.log2(shares)).sum()))


def eme(image: Eight, *, blocks: tuple[int, int] = (8, 8), c: float = 1.0) -> float:
    """Measure of enhancement, mean over a grid of blocks of ``20 ln((max + c) / (min + c))``.

    Tables seldom name the grid and ``c``: never compare with one that does not.

    Source: Agaian, Panetta, Grigoryan, "A new measure of image enhancement", IASTED 2000.

    Raises:
        DataError: the image has fewer pixels than blocks, along a side.
    """
    levels = grey(image)
    if any(side < count for side, count in zip(levels.shape, blocks, strict=True)):
        raise DataError("the image is too small for EME's blocks", got=levels.shape)
    parts = (
        part
        for rows in np.array_split(levels, blocks[0])
        for part in np.array_split(rows, blocks[1], 1)
    )
    return float(np.mean([20 * math.log((part.max() + c) / (part.min() + c)) for part in parts]))


def loe(image: Eight, source: Eight, *, samples: int = 50) -> float:
    """Lightness order error of an enhanced image against its input; smaller is better.

    For each sampled pixel the others are counted whose lightness, the largest of R, G and B, is in
    another order to its own than before; the mean of the counts. Both images are sampled on one
    regular grid whose shorter side has so many ``samples``: tables differ by it.

    Source: Wang, Zheng, Hu, Li, "Naturalness Preserved Enhancement Algorithm for Non-Uniform
    Illumination Images", IEEE Transactions on Image Processing 2013.

    Raises:
        DataError: the sizes differ.
    """
    if image.shape != source.shape:
        raise DataError("image and input differ in size", got=image.shape, expected=source.shape)
    short = max(min(image.shape[:2]), samples)
    rows, columns = (
        np.arange(-(-side * samples // short)) * short // samples for side in image.shape[:2]
    )
    first, second = (each.max(2)[np.ix_(rows, columns)].ravel() for each in (image, source))
    differing = [
        np.count_nonzero((mine >= first) != (before >= second))
        for mine, before in zip(first, second, strict=True)
    ]
    return float(np.mean(differing))


def further(
    image: Eight, source: Eight | None = None, target: Eight | None = None
) -> dict[str, float]:
    """What PSNR and SSIM do not see, as far as the image allows it.

    ``niqe``, ``de`` and ``eme``; ``loe`` where the input is given as ``source``; ``colour_error``
    where the ground truth is given as ``target``. All are of one size.
    """
    measures: dict[str, Callable[[], float | None]] = {
        "niqe": lambda: niqe(image),
        "loe": lambda: None if source is None else loe(image, source),
        "de": lambda: discrete_entropy(image),
        "eme": lambda: eme(image),
        "colour_error": lambda: None if target is None else colour_error(image, target),
    }
    found = {}
    for name, measure in measures.items():
        with suppress(DataError):
            value = measure()
            if value is not None:
                found[name] = value
    return found


def colour_error(image: Eight, target: Eight) -> float | None:
    """Cast of colour: how far near-grey objects are from their own colour, in CIELAB's a and b.

    The mean distance over the pixels whose ground truth has a chroma under 8 and a lightness
    between 30 and 95; None where there is none. Both are (H, W, 3), uint8, RGB, of one size.
    """
    ours, theirs = (
        cv2.cvtColor((each / 255).astype(np.float32), cv2.COLOR_RGB2LAB) for each in (image, target)
    )
    near_grey = np.hypot(theirs[..., 1], theirs[..., 2]) < 8
    near_grey &= (theirs[..., 0] > 30) & (theirs[..., 0] < 95)
    apart = np.hypot(*np.moveaxis(ours - theirs, -1, 0)[1:])
    return float(apart[near_grey].mean()) if near_grey.any() else None


class Pristine(NamedTuple):
    """NIQE's model of natural images."""

    mean: Real
    covariance: Real
    window: Real


def niqe(image: Eight) -> float:
    """Natural image quality evaluator, in its published Python form; smaller is better.

    The authors' MATLAB release gives up to 4 % else, since it converts to grey another way.

    Source: Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer",
    IEEE Signal Processing Letters 2013, with its published model of natural images.

    Raises:
        DataError: the image holds fewer than two blocks of 96x96 pixels that are not flat.
    """
    rows, columns = (side // _BLOCK for side in image.shape[:2])
    expected = "two blocks of 96x96 pixels that are not flat"
    if rows * columns < 2:
        got = f"{image.shape[1]}x{image.shape[0]}"
        raise DataError("the image is too small for NIQE", got=got, expected=expected)
    model = pristine()
    # Where a picture is flat, the fit sees the signs of what rounding leaves. So all that comes
    # before it is in single precision, and summed in order, as in the published form.
    levels = np.rint((luma(image) / 255).astype(np.float32) * np.float32(255))
    levels = levels[: rows * _BLOCK, : columns * _BLOCK]
    halves = _halved(_halved(levels / np.float32(255)).T).T * np.float32(255)
    features = np.hstack(
        [_features(_normalised(each, model.window), (rows, columns)) for each in (levels, halves)]
    )
    whole = features[~np.isnan(features).any(1)]
    if len(whole) < 2:
        raise DataError("the image is too flat for NIQE", got=len(whole), expected=expected)
    covariance = np.cov(whole, rowvar=False)
    apart = model.mean - np.nanmean(features, 0)
    inverse = np.linalg.pinv((model.covariance + covariance) / 2)
    return float(np.sqrt(apart @ inverse @ apart))


@cache
def pristine() -> Pristine:
    """NIQE's published model, by its authors: see ``niqe.txt``."""
    with as_file(files("llve_common.metrics").joinpath("niqe.npz")) as path, np.load(path) as held:
        return Pristine(
            held["mu_pris_param"].ravel(), held["cov_pris_param"], held["gaussian_window"]
        )


def _normalised(levels: Single, window: Real) -> Single:
    """Mean subtracted, contrast normalised coefficients."""
    mean = convolve(levels, window, mode="nearest")
    spread = np.sqrt(np.abs(convolve(levels * levels, window, mode="nearest") - mean * mean))
    return np.asarray((levels - mean) / (spread + 1))


def _halved(image: Single) -> Single:
    """Half as many rows, by MATLAB's antialiased bicubic interpolation."""
    distances = np.abs(np.arange(8, dtype=np.float32) - 3.5) / 2
    near = 1.5 * distances**3 - 2.5 * distances**2 + 1
    far = -0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2
    weights = np.where(distances <= 1, near, far) / 2
    padded = np.pad(image, ((3, 3), (0, 0)), "symmetric")
    total = np.zeros((len(image) // 2, image.shape[1]), np.float32)
    for tap, weight in enumerate(weights / weights.sum()):
        total += weight * padded[tap : tap + len(image) : 2]
    return total


def _features(coefficients: Single, grid: tuple[int, int]) -> Real:
    """18 features of each block of a grid, (blocks, 18)."""
    height, width = (side // count for side, count in zip(coefficients.shape, grid, strict=True))
    tiled = coefficients.reshape(grid[0], height, grid[1], width).swapaxes(1, 2)
    blocks = tiled.reshape(-1, height, width)
    shape, left, right = _fit(blocks)
    found = [shape, (left + right) / 2]
    for roll in _ROLLS:
        shape, left, right = _fit(blocks * np.roll(blocks, roll, (1, 2)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        found += [shape, mean, left, right]
    return np.stack(found, 1)


def _fit(blocks: Single) -> tuple[Real, Real, Real]:
    """Shape and the two scales of an asymmetric generalised Gaussian, of each block."""
    values = blocks.reshape(len(blocks), -1)
    squares = values * values
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (
            np.sqrt((squares * side).sum(1) / side.sum(1)) for side in (values < 0, values > 0)
        )
        ratio = left / right
        moments = np.abs(values).mean(1) ** 2 / squares.mean(1)
        moments *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    table = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
    # The published search's first best one, which for what is not a number is the first of all.
    shape = _SHAPES[np.argmin((table - moments[:, None]) ** 2, 1)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
