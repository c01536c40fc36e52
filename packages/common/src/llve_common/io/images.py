"""Images on disk, and the two ways the papers turn [0, 1] into 8 bits."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from llve_common.errors import MediaError, UserError
from llve_common.io import decoders, encoders
from llve_common.io.atomic import replacing
from llve_common.io.metadata import Metadata, options_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor


WRITTEN = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF",
    ".tiff": "TIFF", ".bmp": "BMP", ".webp": "WEBP", ".avif": "AVIF", ".jp2": "JPEG2000",
    ".npy": "NPY",
}  # fmt: skip
"""The suffixes of files that images are written to, with Pillow's name of the kind."""
OF_16_BITS = {"PNG", "TIFF", "NPY"}
OF_TRANSPARENCY = {"PNG", "TIFF", "WEBP", "AVIF", "JPEG2000"}
IMAGE_SUFFIXES = (
    *WRITTEN, ".apng", ".gif", ".heic", ".heif", ".hif", ".mpo", *decoders.RAW_SUFFIXES,
)  # fmt: skip
"""What is read; those of `WRITTEN` are written too."""
READ = (
    "a whole PNG, JPEG, TIFF, BMP, WebP, AVIF, GIF, JPEG 2000 or .npy file, or by the extra photos "
    "HEIF or a camera's raw file"
)

Pixels = NDArray[np.uint8 | np.uint16]
"""Integers in files; networks take float32 in [0, 1] too, of programs that hold such."""
Rounding = Literal["truncate", "round", "half-even"]
NOT_A_NUMBER = "the enhanced image holds values that are not a number (NaN)"


@dataclass(frozen=True)
class Image:
    """A decoded image.

    Attributes:
        pixels: (H, W, 3) RGB, uint8 or uint16; a grey source has three equal channels.
        alpha: (H, W) of the same type, or None where the source has no transparency.
        metadata: what the file says beside, as far as it holds for a picture made of this one.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = field(default_factory=dict)


def read_image(path: Path, *, srgb: bool = False) -> Image:
    """Decode an image file to RGB, upright as its EXIF orientation says.

    What the file holds decides, not its suffix, but for ``.npy`` and cameras' raw files. A ``.npy``
    file holds (H, W, 3) uint8 or uint16 in the order BGR, as the SDSD data set does.

    Args:
        path: the file.
        srgb: convert to sRGB by the file's ICC profile, as it is meant to be seen. Otherwise the
            pixels are those stored, which the published tests and trainings read.

    Raises:
        MediaError: no such file, not an image, truncated, too large for the memory that is left, or
            of a kind that is not supported.
    """
    if not path.is_file():
        raise MediaError("no such image file", where=path, mend="check the path")
    with explained(path, "the image cannot be decoded"):
        if path.suffix.lower() == ".npy":
            return Image(np.ascontiguousarray(_open_array(path)[..., ::-1]))
        if path.suffix.lower() in decoders.RAW_SUFFIXES:
            return Image(*decoders.decode_raw(path))
        with decoders.opened(path) as file:
            return Image(*decoders.decode(path, file, srgb=srgb))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels as stored, from the file's header alone.

    Raises:
        MediaError: the header cannot be read.
    """
    with explained(path, "not an image that can be read"):
        if path.suffix.lower() == ".npy":
            height, width = _open_array(path).shape[:2]
            return height, width
        if path.suffix.lower() in decoders.RAW_SUFFIXES:
            with decoders.opened_raw(path) as raw:
                return raw.sizes.height, raw.sizes.width
        with decoders.opened(path) as file:
            return file.height, file.width


def result_suffix(path: Path, suffix: str | None = None) -> str:
    """The suffix of an image's result: that one, or .png where a file of that kind cannot hold it.

    It is by default the image's own. A picture that cannot be decoded gets the one that is asked
    for: reading it says why.
    """
    suffix = suffix or path.suffix
    kind = WRITTEN.get(suffix.lower())
    if kind is None:
        return ".jpg" if suffix.lower() == ".mpo" else ".png"
    if kind not in {"PNG", "TIFF", "NPY"}:
        with suppress(Exception), decoders.opened(path) as file:
            too_deep = kind not in OF_16_BITS and decoders.has_16_bits(path, file)
            too_clear = kind not in OF_TRANSPARENCY and decoders.is_transparent(file)
            if too_deep or too_clear:
                return ".png"
    return suffix


def size_of(pixels: Pixels) -> str:
    """The size of an image (H, W, ...), as ``WIDTHxHEIGHT``."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def write_image(
    path: Path, pixels: Pixels, alpha: Pixels | None = None, metadata: Metadata | None = None
) -> None:
    """Write an image whole or not at all; the format follows the suffix.

    Args:
        path: target; its folder is made where it is missing.
        pixels: (H, W, 3) sRGB, uint8 or uint16.
        alpha: (H, W) of the same type, or None.
        metadata: of a read image, kept as far as the format holds it; None writes none.

    Raises:
        MediaError: the suffix is unknown, or cannot hold 16 bits or transparency, or the file
            cannot be written.
    """
    kind = _kind_that_holds(path, pixels, alpha)
    planes = pixels if alpha is None else np.dstack([pixels, alpha])
    options = options_of(kind, metadata or {})
    with replacing(path) as temporary:
        if kind == "NPY":
            with temporary.open("wb") as file:  # else .npy would end the name of an .NPY
                np.save(file, pixels[..., ::-1])
        else:
            try:
                data = encoders.encoded(kind, planes, options)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                what, got = "this format cannot hold the image", f"{error} ({size_of(planes)})"
                raise MediaError(what, where=path, got=got, expected=".png or .npy") from error
            temporary.write_bytes(data)


def in_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Pixels as uint8, of 16 bits the upper 8, as the papers' tests read them; any shape."""
    return np.asarray(pixels >> 8 if pixels.dtype == np.uint16 else pixels, np.uint8)


def white(dtype: np.dtype[Any]) -> float:
    """What stands for 1 in pixels of a type: the largest integer, or 1 itself."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def to_tensor(pixels: Pixels, device: torch.device | None = None) -> Tensor:
    """(H, W, 3) pixels to a float32 tensor (3, H, W) in [0, 1], by division by white."""
    import torch

    if device is None or device.type != "cuda":
        floats = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        return (torch.from_numpy(floats) / white(pixels.dtype)).to(device)
    # The bytes travel, and become floats there.
    planes = to_levels(pixels, device).permute(2, 0, 1)
    units = planes.to(torch.float32, memory_format=torch.contiguous_format)
    # By a tensor: PyTorch multiplies by the reciprocal of a number, which rounds otherwise.
    return units.div_(torch.full((), white(pixels.dtype), device=device))


def to_levels(pixels: Pixels, device: torch.device) -> Tensor:
    """(H, W, 3) pixels to a tensor like them, from memory that a CUDA device reads by itself."""
    import torch

    levels = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).pin_memory()
    return levels.to(device, non_blocking=True)


def to_pixels(image: Tensor, rounding: Rounding, dtype: np.dtype[Any] | None = None) -> Pixels:
    """A float tensor (3, H, W) in units of 1 to (H, W, 3) pixels, clipped to their range.

    Args:
        image: any floating type; values outside [0, 1] are clipped.
        rounding: ``truncate`` gives floor(255 x), ``round`` gives floor(255 x + 0.5), and
            ``half-even`` the nearest integer, halves to the even one; floats are not rounded.
        dtype: uint8 (default), uint16 or float32.

    Raises:
        MediaError: the image holds values that are not a number.
    """
    return begin_pixels(image, rounding, dtype)()


def begin_pixels(
    image: Tensor, rounding: Rounding, dtype: np.dtype[Any] | None = None
) -> Callable[[], Pixels]:
    """The same as a call that waits for the device: a CUDA device can work on more meanwhile."""
    import torch

    target = np.dtype(np.uint8) if dtype is None else dtype
    nan = torch.isnan(image).any()
    # Half precision can neither hold 65535 nor tell neighbouring levels apart.
    levels = image.to(torch.promote_types(image.dtype, torch.float32)) * white(target)
    round_(levels, rounding, target)
    if levels.is_cuda:
        levels = levels.permute(1, 2, 0).to(getattr(torch, target.name))
        return begin_levels(levels.contiguous(), nan)

    def finish() -> Pixels:
        if bool(nan):
            raise MediaError(NOT_A_NUMBER)
        pixels: Pixels = levels.cpu().numpy().astype(target)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    return finish


def begin_levels(levels: Tensor, faults: Tensor) -> Callable[[], Pixels]:
    """Levels (H, W, 3) on a CUDA device to pixels like them, as a call that waits for the device.

    The call raises a MediaError where ``faults``, one value on the device, is not 0: the image
    holds values that are not a number.
    """
    import torch

    arriving, said = (_to_host(each) for each in (levels, faults))
    arrived = torch.cuda.Event()
    # By default the event would be the current device's, which may be another.
    arrived.record(torch.cuda.current_stream(levels.device))

    def finish() -> Pixels:
        arrived.synchronize()
        if bool(said):
            raise MediaError(NOT_A_NUMBER)
        pixels: Pixels = arriving.numpy()
        return pixels

    return finish


def round_(levels: Tensor, rounding: Rounding, dtype: np.dtype[Any]) -> None:
    """Round and clip the levels of a type as :func:`to_pixels`, but for truncation, in place."""
    if rounding == "round" and dtype.kind != "f":
        levels.add_(0.5)
    elif rounding == "half-even" and dtype.kind != "f":
        levels.round_()
    levels.clamp_(0.0, white(dtype))


def _to_host(tensor: Tensor) -> Tensor:
    """A copy on its way into memory that the device writes by itself."""
    import torch

    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def to_webp(pixels: Pixels) -> bytes:
    """Pixels (H, W, 3), uint8 RGB, as a WebP file for a page: small, and not exact.

    Of what WebP has no room for, every second pixel is kept, or every third, and so on.
    """
    step = -(-max(pixels.shape[:2]) // 16383)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[::step, ::step]).save(buffer, "WEBP", quality=90, method=2)
    return buffer.getvalue()


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Decoders raise anything for damaged files, depending on the byte that is wrong."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        got = "there is not enough memory" if isinstance(error, MemoryError) else error
        raise MediaError(
            what,
            where=path,
            got=str(got) or type(error).__name__,
            expected=READ,
            mend="replace or remove the file",
        ) from error


def _open_array(path: Path) -> NDArray[np.uint8 | np.uint16]:
    """A frame stored by NumPy, left on disk until it is looked at."""
    array = np.lib.format.open_memmap(path, mode="r")
    own = array.dtype.newbyteorder("=")
    if array.ndim != 3 or array.shape[2] != 3 or own not in (np.uint8, np.uint16):
        raise ValueError(f"{array.dtype} {array.shape}, not uint8 or uint16 (H, W, 3)")
    return np.asarray(array, own)


def _kind_that_holds(path: Path, pixels: Pixels, alpha: Pixels | None) -> str:
    kind = WRITTEN.get(path.suffix.lower())
    if kind is None:
        got, known = path.suffix or "no suffix", ", ".join(WRITTEN)
        raise MediaError("unknown image format", where=path, got=got, expected=known)
    if pixels.dtype == np.uint16 and kind not in OF_16_BITS:
        raise MediaError("this format cannot hold 16 bits", where=path, expected=".png or .tif")
    if alpha is not None and kind not in OF_TRANSPARENCY:
        raise MediaError("this format cannot hold transparency", where=path, expected=".png")
    return kind
