import io
import struct
import tempfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from llve_common.enhance.enhancer import Enhancer
from llve_common.enhance.files import enhance_job
from llve_common.enhance.frames import frame_enhancer
from llve_common.io.images import read_image
from llve_common.io.profiles import from_linear, to_linear

# Adobe RGB (1998): its primaries at D50, and its curve of 2.2 = 563 / 256.
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
# From its light to that of sRGB, both at D65, as its standard and IEC 61966-2-1 give them.
TO_SRGB = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])


def icc(space, connection=b"XYZ ", **tags):
    """An ICC profile of version 2."""
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntr" + space + connection
    head = (head.ljust(36, b"\0") + b"acsp").ljust(68, b"\0") + white
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * each) for each in values))


def curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))


def table(channels, first, last):
    """A table of 8 bits that gives grey for all that is neither its first colour nor its last."""
    one = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    ramp = bytes(range(256))
    grid = bytes([first, 128, 128, *MIDDLE * (2**channels - 2), last, 128, 128])
    return b"mft1\0\0\0\0" + bytes([channels, 3, 2, 0]) + one + ramp * channels + grid + ramp * 3


adobe = icc(
    b"RGB ",
    wtpt=xyz((0.9642, 1, 0.8249)),
    **{f"{name}XYZ": xyz(values) for name, values in zip("rgb", ADOBE, strict=True)},
    **{f"{name}TRC": curve(563 / 256) for name in "rgb"},
)
grey_of_gamma_1 = icc(b"GRAY", wtpt=xyz((0.9642, 1, 0.8249)), kTRC=curve(1))
srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MIDDLE = (128, 128, 128)  # L* = 50.2, which is level 119 of sRGB


def encoded(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_srgb_there_and_back():
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(from_linear(to_linear(values)), values, atol=1e-7)
    np.testing.assert_allclose(to_linear(from_linear(values)), values, atol=1e-7)


def test_srgb_at_known_points():
    np.testing.assert_allclose(
        to_linear(np.array([0, 0.04045, 0.5, 1])), [0, 0.0031308, 0.2140411, 1], atol=1e-6
    )
    assert (np.diff(to_linear(np.linspace(0, 1, 500))) > 0).all()


def as_seen(pixels, profile):
    """What sRGB shows of pixels in units of 1."""
    if profile is adobe:
        return encoded((pixels ** (563 / 256) @ TO_SRGB.T).clip(0, 1))
    return encoded(pixels) if profile is grey_of_gamma_1 else pixels


def store(path, pixels, profile, orientation=1, **options):
    """Write (H, W) or (H, W, 2 to 4), by another writer than ours as far as there is one."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    if pixels.dtype == np.uint8:
        options = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
        PIL.Image.fromarray(pixels).save(path, icc_profile=profile, exif=exif, **options)
    elif path.suffix == ".tif":
        kind = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
        kind |= {"extrasamples": ["unassalpha"]} if pixels.shape[2:] == (4,) else {}
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, pixels, iccprofile=profile, extratags=tags, **kind, **options)
    else:
        tags = io.BytesIO()
        PIL.Image.new("RGB", (1, 1)).save(tags, "PNG", icc_profile=profile, exif=exif)
        swapped = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        cv2.imwrite(str(path), swapped)
        whole, made = path.read_bytes(), tags.getvalue()
        chunk = made[33 : made.index(b"IDAT") - 4]
        path.write_bytes(whole[:33] + chunk + whole[33:])


def test_16_bits_keep_their_steps(tmp_path):
    ramp = np.repeat(np.arange(65536, dtype=np.uint16).reshape(256, 256, 1), 3, axis=2)
    ramp[..., 2] //= 2
    store(tmp_path / "a.tif", ramp, adobe)
    steps = np.diff(read_image(tmp_path / "a.tif", srgb=True).pixels[..., 1].ravel().astype(int))
    assert steps.min() >= 0
    assert steps.max() <= 2


@pytest.mark.parametrize(("mode", "colour", "profile", "seen"), [
    ("CMYK", (0, 255, 0, 255), icc(b"CMYK", b"Lab ", A2B0=table(4, 255, 0)), 119),
    ("RGB", (0, 255, 255), icc(b"RGB ", b"Lab ", A2B0=table(3, 0, 255)), 119),
    ("L", 55, grey_of_gamma_1, 128),
    ("L", 200, adobe, 200),
    ("RGB", (200, 200, 200), grey_of_gamma_1, 200),
    ("RGB", (200, 200, 200), b"damaged", 200),
    ("RGB", (200, 200, 200), adobe[:300], 200),
], ids=range(7))  # fmt: skip
def test_other_profiles(tmp_path, mode, colour, profile, seen):
    PIL.Image.new(mode, (16, 16), colour).save(tmp_path / "a.tif", icc_profile=profile)
    pixels = read_image(tmp_path / "a.tif", srgb=True).pixels
    assert abs(pixels.astype(int) - seen).max() <= 1, pixels[0, 0]
    if mode == "L":
        assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_a_program_s_picture_is_seen_as_the_same_file(model, picture, tmp_path, mode):
    planes = picture(9, 14, np.uint16 if mode == "I;16" else np.uint8)
    given = PIL.Image.fromarray(planes[..., 0] if mode in {"L", "I;16"} else planes)
    given = given if mode == "I;16" else given.convert(mode)
    profile, colours = (adobe, 3) if "RGB" in mode else (grey_of_gamma_1, 1)
    given.save(tmp_path / "a.png", icc_profile=profile)
    given.info["icc_profile"] = profile
    made, seen = Enhancer(model())(given), read_image(tmp_path / "a.png", srgb=True)
    assert (made.mode, made.info) == (mode, {})
    before, after = (np.atleast_3d(np.asarray(each)) for each in (given, made))
    np.testing.assert_array_equal(after[..., :colours], seen.pixels[..., :colours])
    np.testing.assert_array_equal(after[..., colours:], before[..., colours:])
    assert (after[..., :colours] != before[..., :colours]).any()


# What a viewer does for each orientation, by EXIF 2.3, table 6.
TURNED = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).swapaxes(0, 1), 8: lambda p: np.rot90(p),
}  # fmt: skip
KINDS = [(".png", np.uint8), (".tif", np.uint8), (".webp", np.uint8), (".png", np.uint16),
         (".tif", np.uint16)]  # fmt: skip


@pytest.mark.parametrize("orientation", TURNED)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kind=st.sampled_from(KINDS),
    channels=st.sampled_from([1, 3, 4]),
    profile=st.sampled_from([None, adobe, srgb]),
    separate=st.booleans(),
    target=st.sampled_from([".png", ".tif"]),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=10, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_what_a_viewer_shows_goes_through(
    model, size, kind, channels, orientation, profile, separate, target, seed
):
    suffix, dtype = kind
    top = np.iinfo(dtype).max
    draws = np.random.default_rng(seed).integers(0, top + 1, (*size, channels)).astype(dtype)
    stored = draws[..., 0] if channels == 1 else draws
    options = {}
    if separate and suffix == ".tif" and dtype == np.uint16 and channels > 1:
        stored, options = np.moveaxis(stored, -1, 0).copy(), {"planarconfig": "separate"}
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, f"a{suffix}"), Path(folder, f"b{target}")
        store(source, stored, profile, orientation, **options)
        assert enhance_job(frame_enhancer(model()), (source, result)) == 1
        assert {each.name for each in Path(folder).iterdir()} == {source.name, result.name}
        back, untouched = read_image(result), read_image(source).pixels
    shown = TURNED[orientation](draws)
    colour = shown[..., :3].repeat(3 if channels == 1 else 1, axis=2)
    np.testing.assert_array_equal(untouched, colour)
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.alpha, shown[..., 3] if channels == 4 else None)
    off = abs(back.pixels / top - as_seen(colour / top, profile)).max()
    assert off <= (1.2 / 255 if profile is adobe else 0)
