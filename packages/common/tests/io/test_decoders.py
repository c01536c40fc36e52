import itertools
import struct
import warnings
import zlib

import av
import cv2
import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import pillow_heif
import pytest
import tifffile
from PIL import ImageCms
from PIL.PngImagePlugin import putchunk

from llve_common.errors import MediaError
from llve_common.io.images import image_size, read_image, result_suffix, write_image
from llve_common.machine.memory import memory_left
from llve_common.video import is_image

RED = (200, 10, 30)
DEEP = np.random.default_rng(0).integers(0, 65536, (40, 24, 4)).astype(np.uint16)
ONE = np.full((4, 6, 4), 10_000, np.uint16)
ONE[..., 3] = 20_000


@pytest.mark.parametrize("options", [
    {}, {"compression": "deflate", "predictor": True}, {"rowsperstrip": 7}, {"tile": (16, 16)},
    {"byteorder": ">"}, {"bigtiff": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize(
    ("samples", "separate"), [*itertools.product([2, 3, 4], [False, True]), (5, False)]
)
def test_16_bit_tiff_of_any_layout(tmp_path, options, separate, samples):
    """Grey with alpha, RGB, RGB with alpha, and with a further sample behind it."""
    planes = np.dstack([DEEP, DEEP[..., 0]])[..., :samples]
    kind = {"photometric": "rgb" if samples > 2 else "minisblack", "metadata": None}
    kind["planarconfig"] = "separate" if separate else "contig"
    extra = {2: ["unassalpha"], 3: [], 4: ["unassalpha"], 5: ["unassalpha", "unspecified"]}
    kind["extrasamples"] = extra[samples]
    stored = np.moveaxis(planes, -1, 0) if separate else planes
    tifffile.imwrite(tmp_path / "a.tif", stored, **kind, **options)
    image = read_image(tmp_path / "a.tif")
    colours = DEEP[..., :3] if samples > 2 else DEEP[..., :1].repeat(3, axis=2)
    np.testing.assert_array_equal(image.pixels, colours)
    alpha = {2: DEEP[..., 1], 4: DEEP[..., 3], 5: DEEP[..., 3]}.get(samples)
    np.testing.assert_array_equal(image.alpha, alpha)
    assert result_suffix(tmp_path / "a.tif") == ".tif"


def test_16_bit_png_of_grey_with_a_transparent_level(tmp_path):
    grey = DEEP[..., 0]
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 16, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    clear = struct.pack(">H", grey[3, 4])
    with (tmp_path / "a.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        parts = ((b"IHDR", head), (b"tRNS", clear), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        for name, data in parts:
            putchunk(file, name, data)
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, grey[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(image.alpha, np.where(grey == grey[3, 4], 0, 65535))


def test_12_bits_of_grey_become_16(tmp_path):
    packed = np.frombuffer(bytes.fromhex("0000643e8fff"), np.uint8)[None]
    tifffile.imwrite(tmp_path / "a.tif", packed, byteorder="<")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tiff:
        for tag, value in ((256, 4), (258, 12)):
            tiff.pages[0].tags[tag].overwrite(value)
    assert read_image(tmp_path / "a.tif").pixels[0, :, 1].tolist() == [0, 1600, 16003, 65535]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("separate", [False, True], ids=["contiguous", "planes"])
def test_cielab_tiff_has_the_colours_of_littlecms(tmp_path, dtype, separate):
    """The numbers of a and b have signs; what sRGB lacks is cut."""
    signed = np.arange(-60, 61, 20)
    lab = np.stack(np.meshgrid(signed, signed, np.arange(0, 256, 15)), -1).reshape(21, 42, 3)
    lab = np.roll(lab, 1, axis=-1)
    scale = [257, 256, 256] if dtype == np.uint16 else 1
    stored = np.asarray(lab * scale, np.int32).astype(dtype)
    kind = {"photometric": "cielab", "planarconfig": "separate" if separate else "contig"}
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(stored, -1, 0) if separate else stored, **kind)
    seen = read_image(tmp_path / "a.tif").pixels
    profiles = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
    exactly = ImageCms.buildTransform(*profiles, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
    expected = exactly.apply(PIL.Image.fromarray(lab.astype(np.uint8), "LAB"))
    assert seen.dtype == dtype
    assert abs(seen / (257 if dtype == np.uint16 else 1) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("planes", "kind", "pixel", "alpha"), [
    (ONE, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, (32768,) * 3, 20_000),
    (ONE, {"photometric": "rgb", "extrasamples": ["unspecified"]}, (10_000,) * 3, None),
    (ONE[..., 0], {"photometric": "miniswhite"}, (55_535,) * 3, None),
    (np.uint8(ONE >> 8), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, (127,) * 3, 78),
    (np.full((4, 6, 4), (0, 65535, 65535, 0), np.uint16), {"photometric": "separated"},
     (255, 0, 0), None),
])  # fmt: skip
def test_tiff_means_what_its_tags_say(tmp_path, planes, kind, pixel, alpha):
    tifffile.imwrite(tmp_path / "a.tif", planes, **kind)
    image = read_image(tmp_path / "a.tif")
    assert abs(image.pixels[0, 0].astype(int) - pixel).max() <= 5, image.pixels[0, 0]
    assert (None if image.alpha is None else image.alpha[0, 0]) == alpha


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_smaller_copies_in_a_tiff_are_no_pictures(tmp_path, picture, dtype):
    pixels = picture(16, 24, dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for step, kind in ((1, 0), (2, 1), (4, 1)):
            file.write(pixels[::step, ::step], photometric="rgb", subfiletype=kind)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


def alpha_bmp(path):
    """A BMP of two pixels whose header names a mask for alpha."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 2835, 2835, 0, 0) + masks
    body = header.ljust(108, b"\0") + bytes([*RED[::-1], 77] * 2)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 122) + body)


def heic(path):
    pillow_heif.from_pillow(PIL.Image.new("RGB", (64, 48), RED)).save(path)


def dng(path):
    """Grey in a camera's light, whose white has half as much red; upright it is 96 rows high."""
    mosaic = np.full((64, 96), 8000, np.uint16)
    mosaic[::2, ::2] = 4000
    tifffile.imwrite(path, mosaic, photometric=32803, metadata=None, extratags=[
        (274, "H", 1, 6, True), (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True), (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50708, "s", 0, "Test", True), (50714, "H", 1, 0, True), (50717, "H", 1, 65535, True),
        (50721, "2i", 9, (1, 1, *(0, 1, 0, 1, 0, 1, 1, 1) * 2), True),
        (50728, "2I", 3, (1, 2, 1, 1, 1, 1), True), (50778, "H", 1, 21, True),
    ])  # fmt: skip


def saved(kind, mode="RGB", **options):
    colour = {"RGB": RED, "RGBA": (*RED, 77), "I;16": 10_000}[mode]
    return lambda path: PIL.Image.new(mode, (64, 48), colour).save(path, kind, **options)


MADE = [
    ("a.avif", saved("AVIF", quality=100), RED, ".avif"),
    ("a.jp2", saved("JPEG2000"), RED, ".jp2"),
    ("deep.jp2", saved("JPEG2000", "I;16"), (10_000,) * 3, ".png"),
    ("a.jfif", saved("JPEG", quality=100), RED, ".jfif"),
    ("a.mpo", saved("MPO", quality=100), RED, ".jpg"),
    ("a.gif", saved("GIF"), RED, ".png"),
    ("still.apng", saved("PNG"), RED, ".png"),
    ("a.bmp", saved("BMP"), RED, ".bmp"),
    ("clear.bmp", alpha_bmp, RED, ".png"),
    ("a.heic", heic, RED, ".png"),
    ("a.dng", dng, None, ".png"),
    ("heic.jpg", heic, RED, ".jpg"),
    ("avif.png", saved("AVIF", quality=100), RED, ".png"),
    ("clear.jpg", saved("PNG", "RGBA"), RED, ".png"),
]


@pytest.mark.parametrize(("name", "make", "colour", "suffix"), MADE, ids=lambda each: str(each)[:9])
def test_every_kind_is_read_by_its_content_and_its_result_can_be_written(
    tmp_path, name, make, colour, suffix
):
    make(tmp_path / name)
    assert is_image(tmp_path / name)
    image = read_image(tmp_path / name)
    if colour is None:
        height, width = 96, 64
        assert image.pixels.shape == (height, width, 3)
        middle = image.pixels[20:-20, 20:-20].astype(int)
        assert np.ptp(middle) <= 3  # balanced: grey
        expected = 65535 * (1.055 * (8000 / 65535) ** (1 / 2.4) - 0.055)
        assert abs(middle.mean() / expected - 1) < 0.02  # no brighter than exposed
    else:
        assert image_size(tmp_path / name) == image.pixels.shape[:2]
        assert abs(image.pixels.astype(int) - colour).max() <= 2
    assert result_suffix(tmp_path / name) == suffix
    write_image(tmp_path / f"b{suffix}", image.pixels, image.alpha)
    back = read_image(tmp_path / f"b{suffix}").pixels.astype(int)
    assert abs(back - image.pixels).max() <= 3


def deep_heic(path):
    stored = np.full((48, 64, 3), 10_000, np.uint16).tobytes()
    pillow_heif.from_bytes(mode="RGB;16", size=(64, 48), data=stored).save(path)


def deep_jp2(path):
    cv2.imwrite(str(path), np.full((48, 64, 3), 10_000, np.uint16))


def deep_cmyk(path):
    cmyk = np.full((48, 64, 4), (0, 0, 0, 55_500), np.uint16)
    tifffile.imwrite(path, cmyk, photometric="separated")


def deep_avif(path):
    with av.open(path, "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", 25, options={"svtav1-params": "log-level=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40, np.uint8))
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.parametrize(
    ("name", "make", "bits"),
    [("a.heic", deep_heic, 10), ("a.jp2", deep_jp2, 16), ("a.avif", deep_avif, 10),
     ("a.tif", deep_cmyk, 16),
     ("b.heic", heic, 0), ("b.jp2", saved("JPEG2000"), 0), ("b.avif", saved("AVIF"), 0)],
)  # fmt: skip
def test_bits_that_are_not_read_are_said(tmp_path, caplog, name, make, bits):
    make(tmp_path / name)
    pixels = read_image(tmp_path / name, srgb=True).pixels
    if bits:
        assert abs(pixels.astype(int) - 39).max() <= 2
        assert f"{name}: of its {bits} bits a channel, 8 are read" in caplog.text
    else:
        assert caplog.text == ""


@pytest.mark.parametrize("kind", ["BMP", "PNG", "JPEG", "GIF", "TIFF", "WEBP"])
def test_no_byte_where_the_head_ends_matters(tmp_path, kind):
    """A file whose first 64 KiB end with a line feed was refused."""
    PIL.Image.new("RGB", (8, 6), (10, 10, 10)).save(tmp_path / "a", kind)
    with (tmp_path / "a").open("ab") as file:
        file.write(bytes([10]) * 65_536)
    assert read_image(tmp_path / "a", srgb=True).pixels.shape == (6, 8, 3)


@pytest.mark.parametrize(("name", "make"), [("a.heic", heic), ("a.dng", dng)])
def test_missing_extra_is_named(tmp_path, monkeypatch, name, make):
    make(tmp_path / name)
    for module in ("pillow_heif", "rawpy"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MediaError, match=r"which is not installed\n .*\[photos\]") as caught:
        read_image(tmp_path / name)
    assert caught.value.where == tmp_path / name


@pytest.mark.parametrize("kind", ["EPS", "TGA", "SGI", "PCX", "ICO", "PPM", "DDS"])
def test_no_other_decoder_is_started(tmp_path, monkeypatch, kind):
    started = []
    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *given: started.append(given))
    PIL.Image.new("RGB", (16, 16), RED).save(tmp_path / "a.png", kind)
    with pytest.raises(MediaError, match="it holds no picture of these kinds") as caught:
        read_image(tmp_path / "a.png")
    assert "expected: a whole PNG, JPEG, TIFF" in str(caught.value)
    assert started == []


def test_large_photographs_are_read_without_a_word(tmp_path, monkeypatch, image_file):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.jpg", "a.tif", "a.webp"):
            assert read_image(image_file(name, 20, 30)).pixels.shape == (20, 30, 3)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


def test_memory_left_is_bounded_by_the_process(monkeypatch):
    resource = pytest.importorskip("resource")
    free = memory_left()
    if free is None:
        pytest.skip("this system does not tell")
    assert free > 10_000_000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_000_000, 1_000_000))
    assert memory_left() <= 1_000_000
