"""From the colours of an ICC profile to sRGB, which the networks were trained on."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

# Rows at a time, so that numbers in floating point take little memory.
_ROWS = 256


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
            converted = transform.apply(image.convert(mode) if mode != image.mode else image)
            return _grey(converted) if image.mode == "L" else converted
    return image.convert("RGB")


def to_srgb_16(pixels: NDArray[np.uint16], profile: bytes) -> NDArray[np.uint16]:
    """As :func:`to_srgb`, for (H, W, 3) of 16 bits, which Pillow does not pass to LittleCMS.

    Profiles of curves and a matrix, which nearly all are, are computed here in full precision
    (ICC.1, section F.3). With others, of tables, a pixel moves by what its upper 8 bits move.
    """
    grey = bool((pixels == pixels[..., :1]).all())
    image = PIL.Image.fromarray(np.asarray(pixels >> 8, np.uint8))
    converted = to_srgb(image.getchannel("G") if grey else image, profile)
    moved = np.asarray(converted, np.int32) - np.asarray(image)
    if not moved.any():
        return pixels
    try:
        result = _by_curves_and_matrix(pixels, *_curves_and_matrix(profile))
    except (LookupError, ValueError):
        result = np.asarray((pixels + 257 * moved).clip(0, 65535), np.uint16)
    return result[..., 1:2].repeat(3, axis=2) if grey else result


def _by_curves_and_matrix(
    pixels: NDArray[np.uint16], curves: list[NDArray[np.float32]], matrix: NDArray[np.float32]
) -> NDArray[np.uint16]:
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), _ROWS):
        rows = pixels[start : start + _ROWS]
        linear = np.stack([curve[rows[..., each]] for each, curve in enumerate(curves)], axis=-1)
        linear = (linear @ matrix.T).clip(0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        result[start : start + _ROWS] = (65535 * encoded).round()
    return result


def _transform(mode: str, profile: bytes | None) -> Any:
    """LittleCMS's transform from an image's mode to sRGB; None where there is nothing to do."""
    from PIL import ImageCms

    try:
        lab = mode == "LAB"
        source = ImageCms.createProfile("LAB") if lab else io.BytesIO(profile or b"")
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB")
    except ImageCms.PyCMSError:  # damaged, or of another colour space
        return None
    return None if mode == "RGB" and _moves_nothing(transform) else transform


def _grey(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.merge("RGB", [image.getchannel("G")] * 3)


def _moves_nothing(transform: Any) -> bool:
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, -1, 3)
    after = np.asarray(transform.apply(PIL.Image.fromarray(grid)), np.int16)
    return int(abs(after - grid).max()) <= 1


def _curves_and_matrix(profile: bytes) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Three tables from 16 bits to linear light, and the matrix from there to linear sRGB.

    Raises:
        LookupError, ValueError: the profile is of another kind.
    """
    from PIL import ImageCms

    tags = _tags(profile)
    if b"kTRC" in tags:
        return [_curve(tags[b"kTRC"])] * 3, np.eye(3, dtype=np.float32)
    if b"A2B0" in tags:
        raise ValueError("a profile of tables")
    ours, srgb = (
        np.stack([_numbers(each[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)
        for each in (
            tags,
            _tags(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        )
    )
    curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return curves, np.asarray(np.linalg.inv(srgb) @ ours, np.float32)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    count = int.from_bytes(profile[128:132], "big")
    table = np.frombuffer(profile, ">u4", 3 * count, 132).reshape(-1, 3)
    names = (profile[at : at + 4] for at in range(132, 132 + 12 * count, 12))
    return {
        name: profile[start : start + size]
        for name, (_, start, size) in zip(names, table.tolist(), strict=True)
    }


def _numbers(tag: bytes, start: int, count: int) -> NDArray[np.float64]:
    return np.frombuffer(tag, ">i4", count, start) / 65536


def _curve(tag: bytes) -> NDArray[np.float32]:
    """A curve of ICC.1 sections 10.6 (``curv``) and 10.18 (``para``) at every 16-bit level."""
    x = np.linspace(0, 1, 65536)
    count = int.from_bytes(tag[8:12], "big")
    if tag[:4] == b"curv" and count == 0:
        y = x
    elif tag[:4] == b"curv" and count == 1:
        y = x ** (np.frombuffer(tag, ">u2", 1, 12)[0] / 256)
    elif tag[:4] == b"curv":
        y = np.interp(x, np.linspace(0, 1, count), np.frombuffer(tag, ">u2", count, 12) / 65535)
    else:
        kind = int.from_bytes(tag[8:10], "big")
        given = _numbers(tag, 12, (1, 3, 4, 5, 7)[kind])
        g, a, b, c, d, e, f = np.append(given, [1, 1, 0, 0, 0, 0, 0][len(given) :])
        if kind in {1, 2}:  # the offset is added on both sides of the zero of a x + b
            c, d, e, f = 0, -b / a, c, c
        y = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return y.astype(np.float32)
