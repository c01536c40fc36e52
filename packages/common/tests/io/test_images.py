import contextlib
import io
import random
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch

from llve_common.errors import MediaError
from llve_common.io.images import (
    image_size,
    read_image,
    to_pixels,
    to_tensor,
    to_webp,
    write_image,
)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, colour, rows=b""):
    """A PNG from its rows; without any, its header promises pixels that are not there."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows or b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".PNG"])
@pytest.mark.parametrize("transparent", [False, True])
def test_lossless_formats_give_the_same_pixels_back(tmp_path, picture, suffix, dtype, transparent):
    pixels = picture(7, 5, dtype)
    alpha = picture(7, 5, dtype, seed=1)[..., 0] if transparent else None
    write_image(tmp_path / f"a{suffix}", pixels, alpha)
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.pixels, pixels)
    np.testing.assert_array_equal(image.alpha, alpha)
    assert image.pixels.dtype == dtype


def test_bmp_is_lossless_and_jpeg_and_webp_are_close(tmp_path):
    across = np.linspace(0, 255, 32)
    pixels = np.stack([np.tile(across, (24, 1))] * 3, -1).astype(np.uint8)
    for suffix, most in ((".bmp", 0), (".jpg", 4), (".jpeg", 4), (".webp", 8)):
        write_image(tmp_path / f"a{suffix}", pixels)
        difference = read_image(tmp_path / f"a{suffix}").pixels.astype(int) - pixels
        assert abs(difference).max() <= most, suffix


@pytest.mark.parametrize("dtype", [">u1", ">u2"])
def test_grey_with_alpha(tmp_path, dtype):
    kind = np.dtype(dtype)
    planes = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (3, 4, 2)).astype(kind)
    rows = b"".join(b"\0" + row.tobytes() for row in planes)
    (tmp_path / "a.png").write_bytes(png(4, 3, 8 * kind.itemsize, 4, rows))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.pixels, np.dstack([planes[..., 0]] * 3))
    np.testing.assert_array_equal(image.alpha, planes[..., 1])


@pytest.mark.parametrize("order", ["<", ">"])
def test_npy_of_16_bits_of_either_byte_order(tmp_path, picture, order):
    pixels = picture(dtype=np.uint16)
    np.save(tmp_path / "a.npy", pixels[..., ::-1].astype(f"{order}u2"))
    found = read_image(tmp_path / "a.npy").pixels
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)


def test_npy_frames_are_blue_green_red(tmp_path):
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 2] = 200
    np.save(tmp_path / "a.npy", red)
    assert (read_image(tmp_path / "a.npy").pixels == [200, 0, 0]).all()
    for name in ("b.npy", "B.NPY"):
        write_image(tmp_path / name, read_image(tmp_path / "a.npy").pixels)
        np.testing.assert_array_equal(np.load(tmp_path / name), red)
    assert len(list(tmp_path.iterdir())) == 3


def stored(array):
    whole = io.BytesIO()
    np.save(whole, array, allow_pickle=True)
    return whole.getvalue()


WHOLE = stored(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("content", {
    "floating": stored(np.zeros((4, 4, 3), np.float32)), "grey": stored(np.zeros((4, 4), np.uint8)),
    "pickled": stored(np.array([{"a": 1}])), "empty": b"", "zip": b"PK\3\4" + bytes(99),
    "cut": WHOLE[:-1], "open": WHOLE.replace(b"}", b" "),
    "no tuple": WHOLE.replace(b"4, 4", b"4(4("), "negative": WHOLE.replace(b"(4, 4", b"(-4,4"),
    "huge": WHOLE.replace(b"(4, 4, 3),", b"(9e9, 4, 3)"),
    "nested": WHOLE[:10] + b"(" * 117 + b"\n" + bytes(48),
}.values(), ids=lambda content: f"{len(content)}-{zlib.crc32(content):x}")  # fmt: skip
def test_npy_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.npy: the image cannot be decoded\n  got: ."):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("options", "alpha"), [({"transparency": 1}, [[255, 0]]), ({}, None)], ids=["with", "without"]
)
def test_palette_with_and_without_transparency(tmp_path, options, alpha):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", **options)
    read = read_image(tmp_path / "a.png")
    assert read.pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert (None if read.alpha is None else read.alpha.tolist()) == alpha


def test_size_comes_from_the_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png(50, 40, 8, 2))
    assert image_size(tmp_path / "a.png") == (40, 50)


FILES = [
    *((f"8{suffix}", np.uint8) for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif")),
    *((f"16{suffix}", np.uint16) for suffix in (".png", ".tif")),
]


@pytest.mark.parametrize(("name", "dtype"), FILES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file_is_named(image_file, capfd, name, dtype, share):
    file = image_file(name, 32, 32, dtype)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MediaError, match="the image cannot be decoded") as caught:
        read_image(file)
    assert caught.value.where == file
    assert capfd.readouterr() == ("", "")  # OpenCV would say it too


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\0" * 100])
def test_file_that_is_no_image_is_named(tmp_path, content):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.png: the image cannot be decoded"):
        read_image(file)
    with pytest.raises(MediaError, match=r"a\.png: not an image that can be read"):
        image_size(file)


def test_no_such_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(MediaError, match=rf"{name}: no such image file"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("side", "said"),
    [(60_000, "size that its header promises"), (10_000, "GB of memory, and 1.5 are left")],
)
def test_huge_header_is_refused_before_memory_is_taken(tmp_path, monkeypatch, bits, side, said):
    monkeypatch.setattr("llve_common.io.decoders.memory_left", lambda: 1_500_000_000)
    (tmp_path / "a.png").write_bytes(png(side, side, bits, 2))
    with pytest.raises(MediaError, match=rf"a\.png: .*{said}"):
        read_image(tmp_path / "a.png")


def test_pages_and_animations_are_refused(tmp_path):
    for dtype in (np.uint8, np.uint16):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 6, 8, 3), dtype), photometric="rgb")
        with pytest.raises(MediaError, match="2 pictures in one file"):
            read_image(tmp_path / "a.tif")
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="3 pictures in one file"):
        read_image(tmp_path / "a.webp")


def test_phone_photograph_with_a_preview_behind_it_is_read(tmp_path):
    photograph, preview = PIL.Image.new("RGB", (16, 8), "white"), PIL.Image.new("RGB", (4, 2))
    options = {"format": "MPO", "save_all": True, "append_images": [preview]}
    photograph.save(tmp_path / "a.jpg", **options)
    pixels = read_image(tmp_path / "a.jpg").pixels
    assert pixels.shape == (8, 16, 3)
    assert pixels.min() == 255


def test_float_image_is_refused(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="pixel type F has no defined white level"):
        read_image(tmp_path / "a.tif")


def test_damage_anywhere_is_one_kind_of_error(image_file, tmp_path):
    """A few hundred damaged files: read, or refused, but never a traceback."""
    chance = random.Random(0)
    for name, dtype in FILES:
        whole = image_file(name, 4, 5, dtype).read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(chance.randrange(1, 6)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            file = tmp_path / f"damaged-{name}"
            file.write_bytes(damaged)
            with contextlib.suppress(MediaError):
                read_image(file)


@pytest.mark.parametrize(
    ("lost", "suffix"),
    [
        *(("16 bits", suffix) for suffix in (".jpg", ".JPG", ".jpeg", ".bmp", ".webp")),
        *(("transparency", suffix) for suffix in (".jpg", ".jpeg", ".bmp")),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path, picture, lost, suffix):
    image = (picture(dtype=np.uint16),) if lost == "16 bits" else (picture(), picture()[..., 0])
    with pytest.raises(MediaError, match=f"this format cannot hold {lost}"):
        write_image(tmp_path / f"a{suffix}", *image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "got"), [("a.gif", "got: .gif"), ("a", "got: no suffix")])
def test_unknown_format_is_refused(tmp_path, picture, name, got):
    with pytest.raises(MediaError, match="unknown image format") as caught:
        write_image(tmp_path / name, picture())
    assert got in str(caught.value)


@pytest.mark.parametrize(("name", "width"), [
    ("a.webp", 17_000), ("a.jpg", 66_000), ("a.png", 1_000_001),
])  # fmt: skip
def test_picture_too_large_for_its_format_leaves_the_old_file(image_file, tmp_path, name, width):
    before = image_file(name).read_bytes()
    with pytest.raises(MediaError, match="this format cannot hold the image") as caught:
        write_image(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    assert caught.value.where == tmp_path / name
    assert f"{width}x1" in str(caught.value)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, before)]


@pytest.mark.parametrize("suffix", [".jpg", ".jp2", ".tif", ".npy"])
def test_a_full_disk_is_one_message(tmp_path, full_disk, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(MediaError, match="cannot be written"):
        write_image(tmp_path / f"a{suffix}", noise)
    assert list(tmp_path.iterdir()) == []


def test_of_what_is_too_wide_for_a_page_s_webp_some_pixels_are_left_out():
    wide = np.repeat(np.uint8([0, 255]), 8192)[None, :, None].repeat(3, 2).repeat(5, 0)
    for pixels, size in ((wide, (8192, 3)), (wide.transpose(1, 0, 2), (3, 8192))):
        shown = PIL.Image.open(io.BytesIO(to_webp(pixels)))
        assert shown.size == size
        assert shown.convert("L").getextrema() == (0, 255)
    assert PIL.Image.open(io.BytesIO(to_webp(wide[:, 1:]))).size == (16383, 5)


def test_tensor_is_planes_in_units_of_one():
    pixels = np.array([[[0, 51, 255], [255, 0, 0]]], np.uint8)
    expected = torch.tensor([[[0.0, 1.0]], [[0.2, 0.0]], [[1.0, 0.0]]])
    torch.testing.assert_close(to_tensor(pixels), expected)
    torch.testing.assert_close(to_tensor(pixels.astype(np.uint16) * 257), expected)


@pytest.mark.parametrize("rounding", ["truncate", "round", "half-even"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_way_to_a_tensor_and_back(rounding, dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(1, -1, 1).repeat(3, 2)
    back = to_pixels(to_tensor(levels), rounding, np.dtype(dtype))
    np.testing.assert_array_equal(back, levels)


@pytest.mark.parametrize(
    ("rounding", "levels"),
    [
        ("truncate", [0, 1, 2, 10, 10, 254, 0, 255]),
        ("round", [1, 2, 3, 10, 11, 255, 0, 255]),
        ("half-even", [0, 2, 2, 10, 11, 255, 0, 255]),
    ],
)
def test_roundings(rounding, levels):
    values = torch.tensor([0.5, 1.5, 2.5, 10.4, 10.6, 254.9, -3.0, 300.0]).div(255).expand(3, 1, 8)
    assert to_pixels(values, rounding)[0, :, 0].tolist() == levels


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_is_rounded_alike(dtype):
    half = torch.full((3, 1, 1), 0.5, dtype=dtype)
    assert to_pixels(half, "round").ravel().tolist() == [128] * 3
    assert to_pixels(half, "truncate", np.dtype(np.uint16)).ravel().tolist() == [32767] * 3


def test_not_a_number_is_refused_and_infinity_is_white():
    image = torch.zeros(3, 2, 2)
    image[1, 0, 1] = torch.inf
    assert to_pixels(image, "round")[0, 1].tolist() == [0, 255, 0]
    image[1, 0, 1] = torch.nan
    with pytest.raises(MediaError, match=r"not a number \(NaN\)"):
        to_pixels(image, "round")
