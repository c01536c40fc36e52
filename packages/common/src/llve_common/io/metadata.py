"""What a photograph says of itself beside its pixels, as far as it holds for the enhanced one.

Kept are camera, author, times, exposure and place (EXIF), XMP, IPTC, the resolution in print, and
a PNG's texts. Left out is what the new pixels make wrong: orientation (they are upright),
thumbnail, colour space, the maker's notes (they point to places in the old file), and XMP that
lists further pictures within the file.
"""

import math
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import PIL.Image
from PIL.PngImagePlugin import PngInfo

Metadata = Mapping[str, Any]
"""``exif`` (Pillow's), ``xmp`` and ``iptc`` (bytes), ``dpi`` (two numbers), ``text`` (of a PNG)."""

# Description, make, model, software, date, artist, computer, rating, copyright, Windows' five.
_KEPT = {270, 271, 272, 305, 306, 315, 316, 0x4746, 0x4749, 33432, *range(0x9C9B, 0x9CA0)}
# Of exposure and place: colour space, width, height, maker's notes, interoperability.
_STALE = {0xA001, 0xA002, 0xA003, 0x927C, 0xA005}
_OTHER_PICTURES = re.compile(rb"GContainer|hdrgm|HasExtendedXMP|xmp:Thumbnails")
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))\d")
# What one segment of a JPEG holds, less the names at its start.
_SEGMENT = 65_500


def orientation_of(file: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    with suppress(Exception):
        found = file.getexif().get(0x0112, 1)
        return found if found in range(1, 9) else 1
    return 1


def metadata_of(file: PIL.Image.Image) -> Metadata:
    """What is kept of a decoded file; a damaged part is left out."""
    xmp, dpi = file.info.get("xmp"), file.info.get("dpi")
    found = kept_exif(file)
    if isinstance(xmp, bytes) and not _OTHER_PICTURES.search(xmp):
        found["xmp"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    if iptc := _iptc(file):
        found["iptc"] = iptc
    if isinstance(dpi, tuple) and all(0 < float(each) < math.inf for each in dpi):
        found["dpi"] = tuple(map(float, dpi))
    texts = getattr(file, "text", {}).items()
    other = ("Raw profile type", "XML:com.adobe.xmp")
    found["text"] = {name: str(text) for name, text in texts if not name.startswith(other)}
    return found


def _iptc(file: Any) -> bytes | None:
    """The records of the IPTC, from Photoshop's part of a JPEG or the tag of a TIFF."""
    with suppress(Exception):
        if file.format != "TIFF":
            return bytes(file.info["photoshop"][0x0404])
        # Some writers call the bytes whole numbers, of which Pillow otherwise gives the first.
        stored = bytes(file.tag_v2._tagdata[33723]).rstrip(b"\0")
        return stored if stored.startswith(b"\x1c") else None
    return None


def kept_exif(file: PIL.Image.Image | PIL.Image.Exif) -> dict[str, Any]:
    """The tags that still hold, as ``exif``, if there are any that can be read."""
    with suppress(Exception):
        exif = file if isinstance(file, PIL.Image.Exif) else file.getexif()
        kept = PIL.Image.Exif()
        for tag in _KEPT & exif.keys():
            if not str(exif[tag]).startswith(('{"shape"', "ImageJ=")):  # of other pixels
                kept[tag] = _spelled(exif[tag])
        for part in (0x8769, 0x8825):  # exposure, place
            values = exif.get_ifd(part).items()
            kept[part] = {tag: _spelled(value) for tag, value in values if tag not in _STALE}
            if not kept[part]:
                del kept[part]
        kept.tobytes()  # so that what cannot be written is found here
        return {"exif": kept} if kept else {}
    return {}


def options_of(kind: str, metadata: Metadata) -> dict[str, Any]:
    """The arguments by which Pillow writes metadata into a file of a kind that it names."""
    exif, xmp, iptc, dpi = (metadata.get(name) for name in ("exif", "xmp", "iptc", "dpi"))
    most = _SEGMENT if kind == "JPEG" else math.inf
    options: dict[str, Any] = {}
    if exif and kind in {"JPEG", "PNG", "WEBP", "AVIF"} and len(exif.tobytes()) < most:
        options["exif"] = exif
    if xmp and kind in {"JPEG", "WEBP", "AVIF"} and len(xmp) < most:
        options["xmp"] = xmp
    if dpi and kind in {"JPEG", "PNG", "TIFF", "BMP"}:
        options["dpi"] = dpi
    if iptc and kind == "JPEG" and len(iptc) < most:
        block = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHL", 0x0404, 0, len(iptc)) + iptc
        block += bytes(len(iptc) % 2)
        options["extra"] = b"\xff\xed" + struct.pack(">H", 2 + len(block)) + block
    if kind == "TIFF":
        own = {700: xmp, 33723: iptc}
        options["tiffinfo"] = {**(exif or {}), **{tag: held for tag, held in own.items() if held}}
    if kind == "PNG":
        options["pnginfo"] = texts = PngInfo()
        for name, text in metadata.get("text", {}).items():
            texts.add_itxt(name, text)
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return options


def _spelled(value: Any) -> Any:
    """A tag's value; Pillow reads text as Latin-1, but would write ASCII alone."""
    plain = not isinstance(value, str) or value.isascii()
    return value if plain else value.encode("latin-1", "replace")
