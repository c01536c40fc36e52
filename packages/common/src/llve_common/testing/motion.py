"""Pairs of views of a real image whose optical flow is known."""

import numpy as np
from numpy.typing import NDArray
from skimage import transform

from llve_common.data.synthetic import read_photograph


def moved_views(
    shift: tuple[float, float] = (0.0, 0.0),
    degrees: float = 0.0,
    size: tuple[int, int] = (240, 320),
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Two views of the same part of a photograph, the second moved.

    Args:
        shift: of the content in the second view, in pixels (x, y).
        degrees: of its rotation about the middle, clockwise as one sees it.
        size: of both (height, width), at most 320 x 340.

    Returns:
        Both views (H, W, 3) uint8 RGB, and the true flows (H, W, 2) in pixels (x, y), from the
        first view to the second and back.
    """
    height, width = size
    middle = np.array([width / 2, height / 2])
    there = (
        transform.AffineTransform(translation=-middle)
        + transform.AffineTransform(rotation=np.deg2rad(degrees))
        + transform.AffineTransform(translation=middle + np.array(shift))
    )
    back = transform.AffineTransform(there.inverse.params)
    return _view(None, size), _view(back, size), _flow(there, size), _flow(back, size)


def _view(to_first: transform.AffineTransform | None, size: tuple[int, int]) -> NDArray[np.uint8]:
    # Room on all sides for what moves in.
    to_photograph = transform.AffineTransform(translation=(100, 100))
    if to_first is not None:
        to_photograph = to_first + to_photograph
    view = transform.warp(
        read_photograph("astronaut"), to_photograph, output_shape=size, order=3, preserve_range=True
    )
    pixels: NDArray[np.uint8] = np.round(np.clip(view, 0, 255)).astype(np.uint8)
    return pixels


def _flow(way: transform.AffineTransform, size: tuple[int, int]) -> NDArray[np.float64]:
    height, width = size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
    return np.asarray(way(pixels) - pixels, np.float64).reshape(height, width, 2)
