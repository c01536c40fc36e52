"""Images on disk, and the two ways the papers turn [0, 1] into 8 bits."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from torch import Tensor

from llve_common.errors import MediaError
from llve_common.io.atomic import replacing

# What Pillow raises for damaged files, depending on the byte that is wrong.
_DAMAGE = (
    OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error,
    PIL.Image.DecompressionBombError,
)  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")

Pixels = NDArray[np.uint8 | np.uint16]
Rounding = Literal["truncate", "round", "half-even"]


@dataclass(frozen=True)
class Image:
    """A decoded image.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16; a grey source has three equal channels.
        alpha: (H, W) of the same type, or None where the source has no transparency.
    """

    pixels: Pixels
    alpha: Pixels | None = None


def read_image(path: Path) -> Image:
    """Decode an image file to RGB, upright as its EXIF orientation says.

    A ``.npy`` file holds (H, W, 3) uint8 or uint16 in the order BGR, as the SDSD data set does.

    Raises:
        MediaError: no such file, not an image, truncated, or of a kind that is not supported.
    """
    if not path.is_file():
        raise MediaError("no such image file", where=path, mend="check the path")
    try:
        if path.suffix.lower() == ".npy":
            return Image(np.ascontiguousarray(_open_array(path)[..., ::-1]))
        return _decode_16_bit(path) if _has_16_bits(path) else _decode_8_bit(path)
    except (*_DAMAGE, cv2.error) as error:
        raise MediaError(
            "the image cannot be decoded",
            where=path,
            got=error,
            expected=f"a whole image file of one of the kinds {', '.join(IMAGE_SUFFIXES)}",
            mend="replace or remove the file",
        ) from error


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels as stored, from the file's header alone.

    Raises:
        MediaError: the header cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            height, width = _open_array(path).shape[:2]
            return height, width
        with PIL.Image.open(path) as image:
            width, height = image.size
    except _DAMAGE as error:
        mend = "replace or remove the file"
        raise MediaError(
            "not an image that can be read", where=path, got=error, mend=mend
        ) from error
    return height, width


def size_of(pixels: Pixels) -> str:
    """The size of an image (H, W, ...), as ``WIDTHxHEIGHT``."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def write_image(path: Path, pixels: Pixels, alpha: Pixels | None = None) -> None:
    """Write an image whole or not at all; the format follows the suffix.

    Args:
        path: target; its folder is made where it is missing.
        pixels: (H, W, 3) RGB, uint8 or uint16.
        alpha: (H, W) of the same type, or None.

    Raises:
        MediaError: the suffix is unknown, or cannot hold 16 bits or transparency, or the file
            cannot be written.
    """
    suffix = path.suffix.lower()
    _refuse_what_the_format_cannot_hold(path, pixels, alpha)
    planes = pixels if alpha is None else np.dstack([pixels, alpha])
    with replacing(path) as temporary:
        if suffix == ".npy":
            np.save(temporary, pixels[..., ::-1])
        elif planes.dtype == np.uint8:
            lossy = suffix in {".jpg", ".jpeg", ".webp"}
            options: dict[str, Any] = {"quality": 95} if lossy else {}
            try:
                PIL.Image.fromarray(planes).save(temporary, **options)
            except ValueError as error:
                what, got = "this format cannot hold the image", f"{error} ({size_of(planes)})"
                raise MediaError(what, where=path, got=got, expected=".png") from error
        else:
            order = cv2.COLOR_RGB2BGR if alpha is None else cv2.COLOR_RGBA2BGRA
            _, encoded = cv2.imencode(suffix, cv2.cvtColor(planes, order))
            temporary.write_bytes(encoded.tobytes())


def in_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Pixels as uint8, of 16 bits the upper 8, as the papers' tests read them; any shape."""
    return np.asarray(pixels >> 8 if pixels.dtype == np.uint16 else pixels, np.uint8)


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) integers to a float32 tensor (3, H, W) in [0, 1], by division by the maximum."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32))
    return planes / np.iinfo(pixels.dtype).max


def to_pixels(image: Tensor, rounding: Rounding, dtype: np.dtype[Any] | None = None) -> Pixels:
    """A float tensor (3, H, W) in units of 1 to (H, W, 3) integers, clipped to their range.

    Args:
        image: any floating type; values outside [0, 1] are clipped.
        rounding: ``truncate`` gives floor(255 x), ``round`` gives floor(255 x + 0.5), and
            ``half-even`` the nearest integer, halves to the even one.
        dtype: uint8 (default) or uint16.

    Raises:
        MediaError: the image holds values that are not a number.
    """
    target = np.dtype(np.uint8) if dtype is None else dtype
    top = float(np.iinfo(target).max)
    if bool(torch.isnan(image).any()):
        raise MediaError("the enhanced image holds values that are not a number (NaN)")
    # Half precision can neither hold 65535 nor tell neighbouring levels apart.
    levels = image.to(torch.promote_types(image.dtype, torch.float32)) * top
    if rounding == "round":
        levels = levels + 0.5
    elif rounding == "half-even":
        levels = levels.round()
    planes: Pixels = levels.clamp(0.0, top).cpu().numpy().astype(target)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _has_16_bits(path: Path) -> bool:
    """Whether a PNG or TIFF needs the 16-bit decoder: Pillow would cut RGB to 8 bits unasked."""
    with path.open("rb") as file:
        head = file.read(26)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return len(head) > 24 and head[24] == 16
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:  # TIFF and BigTIFF
        with PIL.Image.open(path) as image:
            bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return bool(max(bits) == 16)
    return False


def _decode_8_bit(path: Path) -> Image:
    with PIL.Image.open(path) as file:
        _refuse_several(file)
        upright = ImageOps.exif_transpose(file)
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        if transparent:
            planes = np.asarray(upright.convert("RGBA"))
            return Image(planes[..., :3], planes[..., 3])
        if upright.mode == "F" or upright.mode.startswith("I"):
            raise ValueError(f"pixel type {upright.mode} has no defined white level")
        return Image(np.asarray(upright.convert("RGB")))


def _decode_16_bit(path: Path) -> Image:
    with PIL.Image.open(path) as file:
        _refuse_several(file)
        # The decoder turns TIFFs upright itself, but not PNGs.
        orientation = file.getexif().get(0x0112, 1) if file.format == "PNG" else 1
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("damaged 16-bit image")
    planes = _upright(np.asarray(np.atleast_3d(decoded), np.uint16), orientation)
    grey = planes.shape[2] in {1, 2}
    colour = np.repeat(planes[..., :1], 3, axis=2) if grey else planes[..., 2::-1].copy()
    return Image(colour, planes[..., -1].copy() if planes.shape[2] in {2, 4} else None)


def _open_array(path: Path) -> NDArray[np.uint8 | np.uint16]:
    """A frame stored by NumPy, left on disk until it is looked at."""
    array = np.load(path, mmap_mode="r")  # which refuses pickled objects
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{array.dtype} {array.shape}, not uint8 or uint16 (H, W, 3)")
    return np.asarray(array)


def _refuse_several(file: PIL.Image.Image) -> None:
    # A phone's MPO is one photograph, with a preview or a depth map after it.
    if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
        raise ValueError(f"{file.n_frames} pictures in one file")  # type: ignore[attr-defined]


def _upright(planes: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    if orientation in {5, 6, 7, 8}:
        planes = planes.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)


def _refuse_what_the_format_cannot_hold(path: Path, pixels: Pixels, alpha: Pixels | None) -> None:
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise MediaError(
            "unknown image format", where=path, got=suffix or "no suffix", expected=IMAGE_SUFFIXES
        )
    if pixels.dtype == np.uint16 and suffix not in {".png", ".tif", ".tiff", ".npy"}:
        raise MediaError("this format cannot hold 16 bits", where=path, expected=".png or .tif")
    if alpha is not None and suffix in {".jpg", ".jpeg", ".bmp", ".npy"}:
        raise MediaError("this format cannot hold transparency", where=path, expected=".png")
