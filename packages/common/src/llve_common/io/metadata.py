"""What a photograph says of itself beside its pixels, as far as it holds for the enhanced one.

Kept are camera, author, times, exposure and place (EXIF), XMP, the resolution in print, and a
PNG's texts. Left out is what the new pixels make wrong: orientation (they are upright), thumbnail,
colour space, the maker's notes (they point to places in the old file), and XMP that lists further
pictures within the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import PIL.Image

Metadata = Mapping[str, Any]
"""``exif`` (Pillow's), ``xmp`` (bytes), ``dpi`` (two numbers), ``text`` (of a PNG)."""

_EXIF, _GPS = 0x8769, 0x8825
# Description, make, model, software, date, artist, computer, rating, copyright, Windows' five.
_TAGS = {270, 271, 272, 305, 306, 315, 316, 0x4746, 0x4749, 33432, *range(0x9C9B, 0x9CA0)}
_COLOUR_SPACE, _WIDTH, _HEIGHT, _MAKERS_NOTES, _INTEROPERABILITY = (
    0xA001, 0xA002, 0xA003, 0x927C, 0xA005,
)  # fmt: skip
_STALE = {_COLOUR_SPACE, _WIDTH, _HEIGHT, _MAKERS_NOTES, _INTEROPERABILITY}
_OTHER_PICTURES = re.compile(rb"GContainer|hdrgm|xmpNote:HasExtendedXMP|xmp:Thumbnails", re.I)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))\d")
# What one segment of a JPEG holds, less the names at its start.
_SEGMENT = 65_500


def orientation_of(file: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    try:
        found = file.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  (whatever a damaged block makes of Pillow)
        return 1
    return found if found in range(1, 9) else 1


def metadata_of(file: PIL.Image.Image) -> Metadata:
    """What is kept of a decoded file; a damaged part is left out."""
    info, found = file.info, dict[str, Any]()
    with suppress(Exception):
        exif = kept_exif(file.getexif())
        exif.tobytes()  # so that what cannot be written is found here
        found |= {"exif": exif} if exif else {}
    xmp = info.get("xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    if isinstance(xmp, bytes) and not _OTHER_PICTURES.search(xmp):
        found["xmp"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    dpi = info.get("dpi")
    if isinstance(dpi, tuple) and all(0 < float(each) < math.inf for each in dpi):
        found["dpi"] = tuple(map(float, dpi))
    text = {
        name: str(value)
        for name, value in getattr(file, "text", {}).items()
        if not name.startswith(("Raw profile type", "XML:com.adobe.xmp"))
    }
    return found | ({"text": text} if text else {})


def kept_exif(exif: PIL.Image.Exif) -> PIL.Image.Exif:
    """The tags that still hold, in a block of their own."""
    kept = PIL.Image.Exif()
    for tag, value in exif.items():
        if tag in _TAGS and not str(value).startswith(('{"shape"', "ImageJ=")):  # of other pixels
            kept[tag] = _spelled(value)
    for part in (_EXIF, _GPS):
        values = {tag: _spelled(v) for tag, v in exif.get_ifd(part).items() if tag not in _STALE}
        if values:
            kept[part] = values
    return kept


def options_of(kind: str, metadata: Metadata) -> dict[str, Any]:
    """The arguments by which Pillow writes metadata into a file of a kind that it names."""
    from PIL.PngImagePlugin import PngInfo

    exif, xmp, dpi = (metadata.get(name) for name in ("exif", "xmp", "dpi"))
    options: dict[str, Any] = {}
    if exif and kind in {"JPEG", "PNG", "WEBP", "AVIF"}:
        options["exif"] = exif
    if xmp and kind in {"JPEG", "WEBP", "AVIF"}:
        options["xmp"] = xmp
    if dpi and kind in {"JPEG", "PNG", "TIFF", "BMP"}:
        options["dpi"] = dpi
    if kind == "JPEG":
        for name in ("exif", "xmp"):
            block = options.get(name, b"")
            size = len(block if isinstance(block, bytes) else block.tobytes())
            if size > _SEGMENT:
                del options[name]
    if kind == "PNG":
        options["pnginfo"] = texts = PngInfo()
        for name, value in metadata.get("text", {}).items():
            texts.add_itxt(name, value)
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    if kind == "TIFF":
        options["tiffinfo"] = {**(exif or {}), **({700: xmp} if xmp else {})}
    return options


def _spelled(value: Any) -> Any:
    """A tag's value; Pillow reads text as Latin-1, but would write ASCII alone."""
    plain = not isinstance(value, str) or value.isascii()
    return value if plain else value.encode("latin-1", "replace")
