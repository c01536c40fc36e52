"""Measures without ground truth, against published values and by hand."""

import csv
import math
import re

import cv2
import numpy as np
import pytest

from llve_common.errors import DataError
from llve_common.io.images import read_image
from llve_common.metrics import quality
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.testing.reference import reference_arrays, reference_json, shared_file


def published(name):
    """A file that the reference names from ../shared, or from ../shared/reference."""
    return read_image(shared_file(*name.split("/"))).pixels


@pytest.mark.reference
def test_niqe_is_the_published_python_form():
    values = reference_json("quality/niqe")["values"]
    assert values
    for name, expected in values.items():
        found = quality.niqe(published(name))
        assert found == pytest.approx(expected["niqe"], abs=1e-3), name


@pytest.mark.reference
def test_official_values_of_several_measures():
    with shared_file("reference", "quality", "results_official.csv").open() as file:
        header, *rows = csv.reader(file)
    official = {row[0]: dict(zip(header[1:], map(float, row[1:]), strict=True)) for row in rows}
    for name in header[1:]:
        image, target = (published(f"reference/quality/{side}/{name}") for side in ("dist", "ref"))
        greys = [np.rint(quality.grey(each)) for each in (image, target)]
        assert psnr(image, target) == pytest.approx(official["psnr"][name], abs=0.006)
        assert ssim(*greys, "gaussian11") == pytest.approx(official["ssim"][name], abs=1e-4)
        entropy = quality.discrete_entropy(image)
        assert entropy == pytest.approx(official["entropy"][name], abs=1e-3)
        # The authors' MATLAB release, which converts to grey another way.
        assert quality.niqe(image) == pytest.approx(official["niqe"][name], rel=0.04)


def test_niqe_needs_two_blocks(picture):
    with pytest.raises(DataError, match="two blocks of 96x96"):
        quality.niqe(picture(191, 96))
    image = picture(192, 96)
    assert quality.niqe(image) > 0
    image[96:] = 7
    for flat in (image, 0 * image):
        with pytest.raises(DataError, match=r"two blocks .* not flat"):
            quality.niqe(flat)
        assert quality.further(flat).keys() == {"de", "eme"}


def test_lightness_order_by_hand():
    source = np.zeros((1, 3, 3), np.uint8)
    source[0, :, 1] = 10, 20, 30
    image = np.zeros_like(source)
    image[0, :, 2] = 10, 30, 20
    # The last two have changed places: each has one pixel in another order than before.
    assert quality.loe(image, source) == pytest.approx(2 / 3)
    assert quality.loe(source * 2, source) == 0
    with pytest.raises(DataError, match="differ in size"):
        quality.loe(image, source[:, :2])


@pytest.mark.parametrize("short", [100, 69, 138, 427])
def test_lightness_order_samples_a_regular_grid(short):
    levels = np.linspace(0, 255, 2 * short).astype(np.uint8)
    source = np.repeat(levels[:, None, None], short, 1).repeat(3, 2)
    # Upside down: of 100 x 50 samples each has another order to all that are not in its row.
    assert quality.loe(source[::-1], source) == 99 * 50


def test_entropy_and_enhancement_by_hand():
    image = np.zeros((16, 16, 3), np.uint8)
    assert quality.discrete_entropy(image) == 0
    assert quality.eme(image) == 0
    image[::2] = 255
    assert quality.discrete_entropy(image) == pytest.approx(1)
    assert quality.eme(image) == pytest.approx(20 * math.log(256))
    assert quality.eme(image, blocks=(16, 1), c=0.5) == 0
    with pytest.raises(DataError, match="too small for EME"):
        quality.eme(image, blocks=(17, 1))


@pytest.mark.reference
def test_luma_of_the_published_code():
    """Rounded, or of floating-point images; nothing here takes chroma, or goes back to RGB."""
    arrays = reference_arrays("sdsd_stcd/data_stcd")
    names = {name for name in arrays if name.startswith("color/")}
    for name in names - {"color/input_uint8", "color/ycbcr2rgb"}:
        order, real = re.fullmatch(r"color/(rgb|bgr)2ycbcr(?:_y)?(_float)?", name).groups()
        found = quality.luma(arrays["color/input_uint8"][..., :: 1 if order == "rgb" else -1])
        expected = arrays[name] if arrays[name].ndim == 2 else arrays[name][..., 0]
        if real:
            np.testing.assert_allclose(found / 255, expected, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(np.rint(found), expected)


def test_luma_and_matched_mean_by_hand():
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(quality.luma(colours), [[235, 16, 81.481]])
    image = np.full((2, 2, 3), 40, np.uint8)
    np.testing.assert_allclose(quality.scaled_to_mean(image, 2 * image), 80)
    np.testing.assert_allclose(quality.scaled_to_mean(0 * image, image), 0)


def test_colour_error_is_of_near_grey_objects_alone():
    target = np.full((4, 4, 3), 128, np.uint8)
    target[:2] = 200, 30, 30  # not grey
    target[2] = 5  # grey, but too dark to have a cast
    image = target.copy()
    image[:3] = 0, 255, 0
    assert quality.colour_error(image, target) == 0
    image[3] = 128, 128, 160
    _, *cast = cv2.cvtColor(np.float32([[[128, 128, 160]]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    assert quality.colour_error(image, target) == pytest.approx(math.hypot(*cast), abs=0.01)
    assert quality.colour_error(image[:2], target[:2]) is None
