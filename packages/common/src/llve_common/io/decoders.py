"""Pictures decoded by what their files hold, whatever their names say."""

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from llve_common.errors import MediaError
from llve_common.io.metadata import Metadata, kept_exif, metadata_of, orientation_of
from llve_common.io.profiles import lab_to_srgb_16, to_srgb, to_srgb_16
from llve_common.machine.memory import memory_left

log = logging.getLogger(__name__)

Planes = NDArray[np.uint8 | np.uint16]
N = TypeVar("N", bound=np.generic)

RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2",
    ".sr2", ".srw",
)  # fmt: skip
# No other decoder is started: Pillow has some that run programs, such as Ghostscript for EPS.
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "AVIF", "GIF", "JPEG2000")
# Where files that Pillow reads as 8 bits say how many they have: property pixi, marker SIZ.
_PIXI, _SIZ = rb"pixi\0{4}[\1-\4](.)", rb"\xff\x51.{38}(.)"
_BITS = {"AVIF": _PIXI, "HEIF": _PIXI, "JPEG2000": _SIZ}
_TRANSPARENT = {"RGBA", "LA", "PA", "RGBa", "La"}
# Bytes for each pixel of 8 bits: Pillow's copy, one converted, ours and the enhanced one.
_BYTES = 16
# Of which this many are not worth a look at what is left.
_FEW = 100_000_000
# Beyond this many pixels, a file that holds less than a byte for a thousand is no photograph.
_MANY, _PIXELS_OF_A_BYTE = 179_000_000, 1000
# TIFFs of 16 bits whose headers Pillow does not know: grey with alpha, CIELAB, a sample too many.
_DEEP_TIFFS = {
    (order, photometric, (1,), 1, (16,) * samples, extra): (mode, mode)
    for order in (b"II", b"MM")
    for mode, photometric, samples, extras in (
        ("LA", 0, 2, [(), (0,), (1,), (2,)]), ("LA", 1, 2, [(), (0,), (1,), (2,)]),
        ("LAB", 8, 3, [()]), ("RGBA", 2, 5, [(0, 0), (1, 0), (2, 0)]),
    )
    for extra in extras
}  # fmt: skip
# Pillow's limit and table, and Python's warnings, are the whole process's.
_alone = threading.RLock()

Decoded = tuple[Planes, Planes | None, Metadata]
"""Upright pixels (H, W, 3) and alpha (H, W) or None, both uint8 or uint16, and metadata."""


@contextmanager
def opened(path: Path) -> Iterator[PIL.Image.Image]:
    """A picture whose header is read and whose pixels are not yet decoded.

    Raises:
        MediaError: it needs the extra ``llve-common[photos]``, or more memory than is left.
    """
    formats: tuple[str, ...] = _FORMATS
    if _is_heif(path):
        _extra("pillow_heif", path).register_heif_opener()
        formats = (*_FORMATS, "HEIF")
    with _alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata
        # Pillow's limit is the same on every machine; ours is the memory that is left.
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        kinds = TiffImagePlugin.OPEN_INFO
        TiffImagePlugin.OPEN_INFO = kinds | _DEEP_TIFFS
        try:
            # Pillow maps a file whose path it knows, and garbles a TIFF then that is to be turned.
            with path.open("rb") as handle, PIL.Image.open(handle, formats=formats) as file:
                yield file
        except PIL.UnidentifiedImageError:
            raise ValueError("it holds no picture of these kinds") from None
        finally:
            PIL.Image.MAX_IMAGE_PIXELS, TiffImagePlugin.OPEN_INFO = limit, kinds


def decode(path: Path, file: PIL.Image.Image, *, srgb: bool) -> Decoded:
    """The pixels of an opened picture, as they are meant to be seen (``srgb``) or stored.

    Raises:
        MediaError: more memory is needed than is left.
        Exception: whatever its decoder makes of a damaged file.
    """
    count = pictures_in(path, file)
    if count > 1:
        raise MediaError(
            f"{count} pictures in one file",
            where=path,
            expected="one; of what moves, a GIF, APNG, WebP or AVIF",
            mend="write each picture into a file of its own, or make a video of them",
        )
    sixteen = has_16_bits(path, file)
    refuse_too_large(path, file.width, file.height, 2 if sixteen else 1)
    profile = file.info.get("icc_profile") if srgb else None
    if sixteen:
        if file.format == "TIFF" and _bits_of_tiff(file) == {12}:
            planes = np.asarray(file, np.uint16)[..., None]
            planes = planes * np.uint16(16) + planes // np.uint16(256)
        elif file.format == "TIFF":
            planes = _tiff_of_16_bits(path)
        elif file.format == "PNG":
            planes = _by_opencv(path.read_bytes())
            clear = file.info.get("transparency")
            if planes.shape[2] == 1 and clear is not None:  # which OpenCV knows of colours alone
                planes = np.dstack([planes, np.where(planes == clear, 0, 65535).astype(np.uint16)])
        else:
            planes = np.asarray(file.convert("I"), np.uint16)[..., None]
        pixels, alpha = _of_16_bits(planes, profile)
    else:
        file.load()
        pixels, alpha = of_8_bits(file, profile)
        if srgb and (bits := _bits_stored(path, file)) > 8:
            log.warning("%s: of its %d bits a channel, 8 are read", path, bits)
    orientation = orientation_of(file)  # which Pillow resets where it has turned a TIFF itself
    upright_alpha = None if alpha is None else upright(alpha, orientation)
    return upright(pixels, orientation), upright_alpha, metadata_of(file)


def upright(planes: NDArray[N], orientation: int) -> NDArray[N]:
    """A stored picture (H, W) or (H, W, channels) as it is seen, contiguous in memory.

    Orientations are 1 (as it is seen) to 8; from 5 on rows and columns change places.
    """
    if orientation > 4:
        planes = planes.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        planes = planes[::-1]
    if orientation in {2, 3, 6, 7}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(planes)


def pictures_in(path: Path, file: PIL.Image.Image) -> int:
    """How many pictures a file holds; previews and smaller copies of one do not count."""
    count: int = getattr(file, "n_frames", 1)
    if count == 1 or file.format in {"MPO", "HEIF"}:  # a phone's photograph, then its depth map
        return 1
    if file.format == "TIFF":
        with _tiff(path) as tiff:
            # Bit 0 of the subfile type: of lower resolution; bit 2: a mask.
            kinds = (page.aspage().subfiletype for page in tiff.pages)
            return sum(not kind & 0b101 for kind in kinds)
    return count


def has_16_bits(path: Path, file: PIL.Image.Image) -> bool:
    """Whether a picture has 16 bits a channel, or 12 of grey; Pillow may cut RGB to 8 unasked."""
    if file.format == "PNG":
        with path.open("rb") as head:
            return head.read(25)[24:] == b"\x10"
    if file.format == "TIFF":
        known = file.tag_v2.get(262) in {0, 1, 2, 8}  # type: ignore[attr-defined]
        return (_bits_of_tiff(file) == {16} and known) or file.mode == "I;16"
    return file.mode.startswith("I;16")


def _bits_of_tiff(file: PIL.Image.Image) -> set[int]:
    return set(file.tag_v2.get(258, (8,)))  # type: ignore[attr-defined]


def _bits_stored(path: Path, file: PIL.Image.Image) -> int:
    if file.format == "TIFF":
        return max(_bits_of_tiff(file))
    if file.format not in _BITS:
        return 8
    with path.open("rb") as opened:
        found = re.search(_BITS[file.format], opened.read(65_536), re.DOTALL)
    # A JPEG 2000 stores one less, and in the highest bit a sign.
    return 8 if found is None else (found[1][0] & 127) + (file.format == "JPEG2000")


def is_transparent(file: PIL.Image.Image) -> bool:
    """Whether a picture has an alpha channel or a transparent colour."""
    return file.mode in _TRANSPARENT or "transparency" in file.info


def refuse_too_large(path: Path, width: int, height: int, scale: int) -> None:
    """Refuse a picture of ``scale`` bytes a channel before any memory is taken for its pixels.

    Raises:
        MediaError: it needs more than is left, or promises far more pixels than its file can hold.
    """
    size, needed = path.stat().st_size, width * height * _BYTES * scale
    got, left = f"{width}x{height} in {size} bytes", memory_left() if needed > _FEW else None
    if width * height > max(_MANY, size * _PIXELS_OF_A_BYTE):
        what = "the image cannot be of the size that its header promises"
        raise MediaError(what, where=path, got=got, mend="replace or remove the file")
    if left is not None and needed > left:
        what = f"the image needs {needed / 1e9:.1f} GB of memory, and {left / 1e9:.1f} are left"
        raise MediaError(what, where=path, got=got, mend="make it smaller")


def opened_raw(path: Path) -> Any:
    """A camera's raw file, opened by LibRaw.

    Raises:
        MediaError: it needs the extra ``llve-common[photos]``.
    """
    return _extra("rawpy", path).imread(str(path))


def decode_raw(path: Path) -> Decoded:
    """A camera's raw picture, demosaiced by LibRaw, in sRGB of 16 bits.

    White balance is the camera's at the shot, and brightness is left as it was exposed.
    """
    with opened_raw(path) as raw:
        refuse_too_large(path, raw.sizes.width, raw.sizes.height, 2)
        pixels = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, output_bps=16, gamma=(2.4, 12.92)
        )
    exif = PIL.Image.Exif()
    with suppress(Exception), path.open("rb") as file:  # most of these files are TIFF inside
        exif.load_from_fp(file)
        return pixels, None, kept_exif(exif)
    return pixels, None, {}


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(64)
    brands = {head[at : at + 4] for at in range(8, 64, 4)}
    heif = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
    return head[4:8] == b"ftyp" and bool(brands & heif) and not brands & {b"avif", b"avis"}


def _extra(name: str, path: Path) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MediaError(
            f"photographs of this kind are read by {name}, which is not installed",
            where=path,
            mend="pip install 'llve-common[photos]', or in a checkout: pip install -e "
            "'packages/common[photos]'",
        ) from error


def of_8_bits(file: PIL.Image.Image, profile: bytes | None) -> tuple[Planes, Planes | None]:
    """Pixels, converted to sRGB by a profile, and alpha of a picture of 8 bits, not turned."""
    if file.mode in {"F", "I"}:
        raise ValueError(f"pixel type {file.mode} has no defined white level")
    alpha = None
    if is_transparent(file):
        alpha = np.asarray(file.convert("RGBA").getchannel("A"))
    if file.mode in {"L", "LA", "La", "1"}:
        opaque = file.convert("L")
    elif file.mode == "LAB":
        # In 16 bits, light has 257 times the number, and the others, which have signs, 256 times.
        deep = np.asarray(file) * np.array([257, 256, 256], np.uint16)
        if file.tag_v2.get(284) == 2:  # type: ignore[attr-defined]
            deep[..., 1:] ^= 1 << 15  # Pillow takes planes for numbers without signs
        return (lab_to_srgb_16(deep) / 257).round().astype(np.uint8), alpha
    elif file.mode == "CMYK":
        opaque = file
    else:
        opaque = (file if alpha is None else file.convert("RGBA")).convert("RGB")
    return np.asarray(to_srgb(opaque, profile)), alpha


def _of_16_bits(planes: NDArray[np.uint16], profile: bytes | None) -> tuple[Planes, Planes | None]:
    grey = planes.shape[2] < 3
    colour = planes[..., :1].repeat(3, axis=2) if grey else planes[..., :3].copy()
    alpha = planes[..., -1].copy() if planes.shape[2] in {2, 4} else None
    return to_srgb_16(colour, profile) if profile else colour, alpha


def _by_opencv(data: bytes) -> NDArray[np.uint16]:
    """(H, W, 1 to 4), not turned where it is a PNG."""
    import cv2

    messages: Any = getattr(cv2.utils, "logging", cv2)  # of OpenCV 5, and of 4
    level = messages.setLogLevel(0)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        messages.setLogLevel(level)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("damaged 16-bit image")
    planes = np.asarray(np.atleast_3d(decoded), np.uint16)
    return planes if planes.shape[2] < 3 else planes[..., [2, 1, 0, 3][: planes.shape[2]]]


def _tiff_of_16_bits(path: Path) -> NDArray[np.uint16]:
    """Grey or RGB (H, W, 1 to 4), with straight alpha, not turned; CIELAB is converted to sRGB."""
    whole = path.read_bytes()
    with _tiff(io.BytesIO(whole)) as tiff:
        page: Any = tiff.pages[0]
        if page.sampleformat != 1:
            raise ValueError(f"16-bit numbers of sample format {page.sampleformat}")
        planes = _samples(whole, page)
    colours = 3 if page.photometric in {2, 8} else 1
    if page.photometric == 8:
        planes[..., :3] = lab_to_srgb_16(planes[..., :3])
    if page.photometric == 0:
        planes[..., 0] = ~planes[..., 0]
    kind = 2 if not page.extrasamples else page.extrasamples[0]
    if planes.shape[2] > colours and kind == 1:
        alpha = planes[..., colours : colours + 1].astype(np.float32)
        straight = planes[..., :colours] * (65535 / np.maximum(alpha, 1))
        planes[..., :colours] = straight.round().clip(0, 65535)
    return planes[..., : colours + (kind in {1, 2})]


def _samples(whole: bytes, page: Any) -> NDArray[np.uint16]:
    """The numbers (H, W, samples) that a TIFF stores.

    OpenCV knows all compressions, but few kinds of samples. So it is given copies whose tags make
    every number a grey pixel: one for each plane, or one that is several times as wide.
    """
    samples, width = page.samplesperpixel, page.imagewidth
    tags = {258: 16, 277: 1, 262: 1, 284: 1, 338: 0, 274: 1}
    if page.planarconfig == 2 and samples > 1:
        count = len(page.dataoffsets) // samples
        offsets, lengths = (324, 325) if page.is_tiled else (273, 279)
        planes = []
        for own in (slice(first, first + count) for first in range(0, samples * count, count)):
            place = {offsets: page.dataoffsets[own], lengths: page.databytecounts[own]}
            planes.append(_by_opencv(_with_tags(whole, tags | place)))
        return np.dstack(planes)
    wide = {256: samples * width, 322: samples * page.tilewidth, 317: 1}
    numbers = _by_opencv(_with_tags(whole, tags | wide)).reshape(-1, width, samples)
    if page.predictor == 2:  # what is stored of a pixel is its difference to the one before
        for column in range(0, width, page.tilewidth or width):
            block = numbers[:, column : column + (page.tilewidth or width)]
            np.cumsum(block, axis=1, dtype=np.uint16, out=block)
    return numbers


def _with_tags(whole: bytes, tags: dict[int, Any]) -> bytes:
    """A TIFF with other values of the tags that it has."""
    copy = io.BytesIO(whole)
    with _tiff(copy, mode="r+") as tiff:
        present: Any = tiff.pages[0].tags
        for code, value in tags.items():
            if code in present:
                present[code].overwrite(value)
        return copy.getvalue()


def _tiff(file: Any, **options: Any) -> Any:
    import tifffile

    # It would name each odd tag, beside our error.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return tifffile.TiffFile(file, **options)
