"""From the colours of an ICC profile to sRGB, which the networks were trained on; sRGB's curve."""

import io
from itertools import product
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_D50 = np.array([0.96422, 1, 0.82521], np.float32)
# From the white D50 to that of sRGB by Bradford's way.
_XYZ_TO_SRGB = np.array(
    [
        [3.1338561, -0.9787684, 0.0719453],
        [-1.6168667, 1.9161415, -0.2289914],
        [-0.4906146, 0.0334540, 1.4052427],
    ],
    np.float32,
)


def to_srgb(image: PIL.Image.Image, profile: bytes | None) -> PIL.Image.Image:
    """An image of mode L, RGB or CMYK as sRGB, mode RGB, by LittleCMS with perceptual intent.

    Grey stays grey. A profile that is damaged, of another colour space, or moves no colour by more
    than a level, as that of sRGB itself, changes nothing.

    Args:
        image: 8 bits a channel.
        profile: the ICC profile; an image without one is left to Pillow.
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


def lab_to_srgb_16(planes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """CIELAB (H, W, 3) as a TIFF stores it in 16 bits, of the white D50, as sRGB.

    LittleCMS, which interpolates in a table where its source is CIELAB, is up to 26 levels of 8
    bits off near the border of sRGB.
    """
    a, b = (planes[..., axis].view(np.int16) / np.float32(256) for axis in (1, 2))
    y = (planes[..., 0] * np.float32(100 / 65535) + 16) / 116
    root = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29)) * _D50
    linear = (xyz @ _XYZ_TO_SRGB).clip(0, 1)
    return np.asarray((from_linear(linear) * 65535).round(), np.uint16)


def to_linear(srgb: Floats) -> Floats:
    """SRGB values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def from_linear(linear: Floats) -> Floats:
    """Linear light in [0, 1] to sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _transform(mode: str, profile: bytes | None) -> Any:
    """LittleCMS's transform from an image's mode to sRGB; None where there is nothing to do."""
    from PIL import ImageCms

    if not profile:
        return None
    srgb = ImageCms.createProfile("sRGB")
    try:
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, mode, "RGB")
    except ImageCms.PyCMSError:  # damaged, or of another colour space
        return None
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, -1, 3)
    if mode == "RGB":
        moved = np.asarray(transform.apply(PIL.Image.fromarray(grid)), np.int16) - grid
        return transform if abs(moved).max() > 1 else None
    return transform
