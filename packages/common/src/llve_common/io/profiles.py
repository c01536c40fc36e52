"""From the colours of an ICC profile to sRGB, which the networks were trained on."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray


def to_srgb(image: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    """An image of mode L, RGB, CMYK or LAB as sRGB, mode RGB, by LittleCMS with perceptual intent.

    Grey stays grey. A profile that is damaged, of another colour space, or moves no colour by more
    than a level, as that of sRGB itself, changes nothing.

    Args:
        image: 8 bits a channel.
        profile: the ICC profile; CIELAB needs none, and what else has none is left to Pillow.
    """
    for mode in (image.mode, "RGB") if image.mode == "L" else (image.mode,):
        transform = _transform(mode, profile)
        if transform is not None:
            converted: PIL.Image.Image = transform.apply(image.convert(mode))
            grey = PIL.Image.merge("RGB", [converted.getchannel("G")] * 3)
            return grey if image.mode == "L" else converted
    return image if image.mode == "RGB" else image.convert("RGB")


def to_srgb_16(pixels: NDArray[np.uint16], profile: bytes) -> NDArray[np.uint16]:
    """As :func:`to_srgb`, for (H, W, 3) of 16 bits, which Pillow does not pass to LittleCMS.

    It is interpolated between LittleCMS's results for the levels of 8 bits around a pixel, and so
    right within a level of 8 bits, without steps.
    """
    channels = 1 if (pixels == pixels[..., :1]).all() else 3
    modes = ("L", "RGB") if channels == 1 else ("RGB",)
    if all(_transform(mode, profile) is None for mode in modes):
        return pixels
    below, between = np.divmod(pixels[..., :channels], np.uint16(257))
    result = np.zeros(pixels.shape, np.float32)
    for corner in product((0, 1), repeat=channels):
        near = np.minimum(below + np.asarray(corner, np.uint16), 255).astype(np.uint8)
        image = PIL.Image.fromarray(near if channels == 3 else near[..., 0])
        share = np.where(corner, between, 257 - between).prod(axis=-1, dtype=np.float32)
        result += share[..., None] * np.asarray(to_srgb(image, profile))
    return np.asarray((result / 257 ** (channels - 1)).round(), np.uint16)


def _transform(mode: str, profile: bytes | None) -> Any:
    """LittleCMS's transform from an image's mode to sRGB; None where there is nothing to do."""
    from PIL import ImageCms

    if not profile and mode != "LAB":
        return None
    source = ImageCms.createProfile("LAB") if mode == "LAB" else io.BytesIO(profile or b"")
    try:
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except ImageCms.PyCMSError:  # damaged, or of another colour space
        return None
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, -1, 3)
    if mode == "RGB":
        moved = np.asarray(transform.apply(PIL.Image.fromarray(grid)), np.int16) - grid
        return transform if abs(moved).max() > 1 else None
    return transform
