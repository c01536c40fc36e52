"""Images as files, with their metadata, where Pillow is slow or has no such RGB."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

_LONGEST = 1_000_000


def encoded(kind: str, planes: NDArray[np.uint8 | np.uint16], options: Mapping[str, Any]) -> bytes:
    """RGB or RGBA (H, W, 3 or 4) as a file of a kind that Pillow names; ``options`` as for it.

    In memory: a full disk is then the writer's error alone, and OpenJPEG would try for ever.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: the kind cannot hold it.
    """
    if kind == "PNG":
        return _png(planes, options)
    if planes.dtype == np.uint16:
        return _tiff_of_16_bits(planes.astype(np.uint16), options)
    file = io.BytesIO()
    quality = {"quality": 95} if kind in {"JPEG", "WEBP", "AVIF"} else {}
    PIL.Image.fromarray(planes).save(file, kind, **quality, **options)
    return file.getvalue()


def _png(planes: NDArray[np.uint8 | np.uint16], options: Mapping[str, Any]) -> bytes:
    """A PNG.

    OpenCV packs run lengths: photographs get as small as by Pillow, in a tenth of the time, and
    other threads go on meanwhile.
    """
    import cv2
    from PIL.PngImagePlugin import putchunk

    order = cv2.COLOR_RGB2BGR if planes.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    if max(planes.shape) > _LONGEST:
        raise ValueError(f"OpenCV writes no PNG with a side of more than {_LONGEST} pixels")
    data = cv2.imencode(".png", cv2.cvtColor(planes, order))[1].tobytes()
    chunks = io.BytesIO()
    for name, text, *_ in options["pnginfo"].chunks:
        putchunk(chunks, name, text)
    if "exif" in options:
        putchunk(chunks, b"eXIf", options["exif"].tobytes().removeprefix(b"Exif\0\0"))
    if "dpi" in options:
        a_metre = [round(each / 0.0254) for each in options["dpi"]]
        putchunk(chunks, b"pHYs", struct.pack(">IIB", *a_metre, 1))
    header = 8 + 25  # the signature and the first chunk
    return data[:header] + chunks.getvalue() + data[header:]


def _tiff_of_16_bits(planes: NDArray[np.uint16], options: Mapping[str, Any]) -> bytes:
    """A TIFF of 16 bits, deflated by the differences along rows."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    height, width, samples = planes.shape
    differences = planes.astype("<u2")
    differences[:, 1:] -= planes[:, :-1]
    data = zlib.compress(differences.tobytes(), 1)
    tags = {256: width, 257: height, 258: (16,) * samples, 259: 8, 262: 2, 273: 0, 277: samples}
    tags |= {278: height, 279: len(data), 284: 1, 317: 2}
    if samples == 4:
        tags[338] = 2
    if "dpi" in options:
        tags |= {282: options["dpi"][0], 283: options["dpi"][1], 296: 2}
    directory = ImageFileDirectory_v2()
    for tag, value in (options["tiffinfo"] | tags).items():
        directory[tag] = value
    file = io.BytesIO()
    directory.save(file)
    return file.getvalue() + data
