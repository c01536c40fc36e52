import re
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.IptcImagePlugin
import pytest
import tifffile

from llve_common.clips.frames import open_sink, open_source
from llve_common.enhance.files import enhance_all
from llve_common.enhance.frames import ready
from llve_common.enhance.jobs import plan_jobs
from llve_common.io.images import OF_16_BITS, WRITTEN, read_image, write_image

TAKEN = "2020:01:02 03:04:05"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" t="\xc3\xbc"/></x:xmpmeta>'
EXIF = {306: TAKEN, 271: b"Cam\xe9ra", 33432: "me", 0x0112: 6}
EXPOSURE = {36867: TAKEN, 33434: (1, 50), 0xA001: 2, 0x927C: b"notes" * 9, 0xA002: 8}
PLACE = {1: "N", 2: (1.0, 2.0, 3.5)}
# Two records of IPTC, as they are stored: its version, and a city.
IPTC = b"\x1c\x02\0\0\x02\0\x04\x1c\x02\x5a\0\x05Paris"
# What no other than a PNG, TIFF, JPEG, WebP or AVIF holds here.
SILENT = {"BMP", "JPEG2000", "NPY"}


def photograph(path):
    tags = PIL.Image.Exif()
    tags.update({**EXIF, 0x8769: EXPOSURE, 0x8825: PLACE})
    picture = PIL.Image.new("RGB", (8, 4), (200, 10, 30))
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC + b"\0"
    block = b"\xff\xed" + struct.pack(">H", 2 + len(block)) + block
    picture.save(path, exif=tags, xmp=XMP, dpi=(300, 300), quality=100, extra=block)
    return path


def iptc_of(path):
    with PIL.Image.open(path) as file:
        return PIL.IptcImagePlugin.getiptcinfo(file)


def said(path):
    """EXIF of a file, of its exposure and its place, its XMP and its resolution."""
    with PIL.Image.open(path) as file:
        file.load()
        exif, dpi = file.getexif(), file.info.get("dpi")
        parts = dict(exif.get_ifd(0x8769)), dict(exif.get_ifd(0x8825))
        return dict(exif), *parts, file.info.get("xmp"), dpi and round(dpi[0])


@pytest.mark.parametrize(("suffix", "deep"), [
    *((suffix, False) for suffix in WRITTEN),
    *((suffix, True) for suffix, kind in WRITTEN.items() if kind in OF_16_BITS),
])  # fmt: skip
def test_what_still_holds_is_kept_and_can_be_left_out(tmp_path, suffix, deep):
    image = read_image(photograph(tmp_path / "a.jpg"))
    pixels = image.pixels.astype(np.uint16) * 257 if deep else image.pixels
    assert pixels.shape == (8, 4, 3)
    with open_source(tmp_path / "a.jpg") as source:
        frame = next(source.frames)
        assert frame.image.metadata.keys() >= {"exif", "xmp", "dpi"}
        for name, strip in (("kept", False), ("bare", True)):
            with open_sink(tmp_path / f"{name}{suffix}", source, strip=strip) as write:
                write(frame)
    write_image(tmp_path / f"kept{suffix}", pixels, metadata=image.metadata)
    for name in ("kept", "bare"):
        assert read_image(tmp_path / f"{name}{suffix}").pixels.shape == (8, 4, 3)
    if suffix == ".npy":
        return
    exif, exposure, place, xmp, dpi = said(tmp_path / f"kept{suffix}")
    bare = said(tmp_path / f"bare{suffix}")
    assert dpi == (None if WRITTEN[suffix] in {"JPEG2000", "WEBP", "AVIF"} else 300)
    assert not {306, 271, 33432, 0x8769, 0x8825, 700} & bare[0].keys()
    assert not bare[3]
    assert iptc_of(tmp_path / f"bare{suffix}") is None
    kept = {(2, 0): b"\0\x04", (2, 90): b"Paris"} if WRITTEN[suffix] in {"JPEG", "TIFF"} else None
    assert iptc_of(tmp_path / f"kept{suffix}") == kept
    if WRITTEN[suffix] not in SILENT:
        assert exif[306] == TAKEN
        assert exif[271] in ("Caméra", "Cam\xe9ra")
        assert exif.get(0x0112, 1) == 1
        assert exposure == {36867: TAKEN, 33434: (1, 50)}
        assert place == PLACE
        assert xmp == XMP.replace(b'"6"', b'"1"')


def test_texts_of_a_png_are_kept(tmp_path, picture):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("Creation Time", "früh")
    info.add_text("Raw profile type exif", "exif\n0\n")
    PIL.Image.fromarray(picture()).save(tmp_path / "a.png", pnginfo=info)
    for deep in (False, True):
        image = read_image(tmp_path / "a.png")
        pixels = image.pixels.astype(np.uint16) if deep else image.pixels
        write_image(tmp_path / "b.png", pixels, metadata=image.metadata)
        with PIL.Image.open(tmp_path / "b.png") as file:
            assert file.text == {"Creation Time": "früh"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_iptc_of_a_tiff_that_calls_it_numbers(tmp_path, picture, order):
    numbers = np.frombuffer(IPTC.ljust(20, b"\0"), f"{order}u4")
    tag = (33723, "I", len(numbers), tuple(map(int, numbers)), True)
    tifffile.imwrite(tmp_path / "a.tif", picture(), byteorder=order, extratags=[tag])
    assert read_image(tmp_path / "a.tif").metadata["iptc"] == IPTC


@pytest.mark.parametrize("block", [
    b"garbage", b"", b"II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05", b"MM\0*\0\0\0\x08",
])  # fmt: skip
def test_damaged_exif_costs_exif_alone(tmp_path, picture, block, recwarn):
    PIL.Image.fromarray(picture()).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + block))
    (tmp_path / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, picture())
    assert "exif" not in image.metadata
    assert recwarn.list == []


def test_what_a_jpeg_cannot_hold_is_left_out(tmp_path, picture):
    exif = PIL.Image.Exif()
    exif[270] = "x" * 70_000
    write_image(tmp_path / "a.jpg", picture(), metadata={"exif": exif, "xmp": b"x" * 70_000})
    assert not said(tmp_path / "a.jpg")[0]
    # A list of further pictures, which the result does not have, does not hold of it.
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=b"<hdrgm:Version=1/>")
    assert "xmp" not in read_image(tmp_path / "a.jpg").metadata


def test_results_get_a_suffix_that_holds_them(tmp_path, model, paper):
    folder = tmp_path / "in"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), (9, 9, 99)).save(folder / "a.gif")
    PIL.Image.new("RGBA", (8, 8), (9, 9, 99, 7)).save(folder / "b.jpg", "PNG")
    photograph(folder / "c.jpg")
    jobs = plan_jobs("image", [folder], tmp_path / "out")
    assert [target.name for _, target in jobs] == ["a.png", "b.png", "c.jpg"]
    result = enhance_all(ready(model()), jobs)
    assert result.failures == ()
    assert read_image(tmp_path / "out" / "b.png").alpha.max() == 7
    assert re.fullmatch(r"2020.*", said(tmp_path / "out" / "c.jpg")[0][306])
