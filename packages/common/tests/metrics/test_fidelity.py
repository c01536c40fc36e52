import csv
import importlib.util
import math
import re
import sys
import types

import numpy as np
import pytest
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from llve_common.errors import DataError, UserError
from llve_common.evaluate.scores import FrameScore, Scores
from llve_common.io.images import read_image, to_pixels
from llve_common.metrics.fidelity import fsim, psnr, ssim
from llve_common.testing.reference import (
    cases,
    reference_arrays,
    reference_json,
    require_known,
    shared_file,
)

PUBLISHED, TCENET = "sdsd_stcd/metrics", "tcenet/metrics"
SKIMAGE = {
    "skimage7": {},
    "gaussian11": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}


def noisy(image, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def photograph():
    return skimage.data.astronaut()[100:240, 200:281]


@pytest.mark.parametrize("definition", list(SKIMAGE))
@pytest.mark.parametrize("size", [(140, 81), (11, 11), (33, 12), (12, 47)])
def test_ssim_is_that_of_scikit_image(photograph, definition, size):
    image = photograph[: size[0], : size[1]]
    for sigma in (3, 25):
        other = noisy(image, sigma)
        expected = structural_similarity(
            image, other, data_range=255, channel_axis=-1, **SKIMAGE[definition]
        )
        assert ssim(other, image, definition) == pytest.approx(expected, abs=1e-9)


def test_psnr_is_that_of_scikit_image(photograph):
    for sigma in (1, 25):
        other = noisy(photograph, sigma)
        expected = peak_signal_noise_ratio(photograph, other, data_range=255)
        assert psnr(other, photograph) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_values_count_on_the_same_scale(photograph, kind):
    other = noisy(photograph, 25)
    image, target = other.astype(kind), photograph.astype(kind)
    assert psnr(image, target) == psnr(other, photograph)
    assert ssim(image, target, "skimage7") == ssim(other, photograph, "skimage7")
    # What is beyond white still counts.
    assert psnr(image + 300, target) < psnr(np.minimum(image + 300, 255), target)


@pytest.mark.parametrize("definition", list(SKIMAGE))
def test_equal_images(photograph, definition):
    assert psnr(photograph, photograph) == math.inf
    assert ssim(photograph, photograph, definition) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("definition", "least"), [("skimage7", 7), ("gaussian11", 11)])
def test_image_smaller_than_the_window(definition, least):
    image = np.zeros((least, least + 9, 3), np.uint8)
    assert ssim(image, image, definition) == 1
    with pytest.raises(DataError, match=rf"too small for SSIM \({definition}\)") as caught:
        ssim(image[1:], image[1:], definition)
    assert f"got: {least + 9}x{least - 1}" in str(caught.value)
    assert f"at least {least} pixels" in str(caught.value)


def test_images_that_are_not_alike():
    image = np.zeros((12, 12, 3), np.uint8)
    for other in (image[:11], image[..., 0], image.astype(np.float32), image.astype(np.int16)):
        for call in (lambda: psnr(image, other), lambda: ssim(image, other, "skimage7")):  # noqa: B023
            with pytest.raises(DataError, match="not alike") as caught:
                call()
            assert str(other.shape) in str(caught.value)


@pytest.fixture
def piq(monkeypatch):
    """Skips where piq is not installed; makes its FSIM importable where torchvision is not.

    FSIM uses nothing of torchvision, but piq imports it, and no CPU build of it is on PyPI.
    """
    spec = importlib.util.find_spec("piq")
    if spec is None:
        pytest.skip("piq is not installed: pip install 'llve-common[fsim]'")
    try:
        importlib.import_module("piq")
    except (ImportError, RuntimeError):
        package = types.ModuleType("piq")
        package.__path__ = spec.submodule_search_locations
        monkeypatch.setitem(sys.modules, "piq", package)


def test_fsim_falls_with_the_noise(piq, photograph):
    scores = [fsim(noisy(photograph, sigma), photograph) for sigma in (0, 5, 25, 80)]
    assert scores[0] == pytest.approx(1, abs=1e-12)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.9


@pytest.mark.reference
def test_official_values_of_fsim(piq):
    with shared_file("reference", "quality", "results_official.csv").open() as file:
        header, *rows = csv.reader(file)
    [official] = [row[1:] for row in rows if row[0] == "fsim"]
    for name, value in zip(header[1:], official, strict=True):
        image, target = (
            read_image(shared_file("reference", "quality", side, name)).pixels
            for side in ("dist", "ref")
        )
        # They call it FSIM, and it is FSIMc.
        assert fsim(image, target, chromatic=True) == pytest.approx(float(value), abs=1e-4)


def test_only_fsimc_sees_colours(piq, photograph):
    assert fsim(photograph, photograph[..., ::-1]) > fsim(
        photograph, photograph[..., ::-1], chromatic=True
    )


@pytest.mark.parametrize("fault", [ImportError("No module named 'piq'"), RuntimeError("no nms")])
def test_without_piq_fsim_says_what_to_install(monkeypatch, photograph, fault):
    def fail(name):
        raise fault

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UserError, match="needs the library piq") as caught:
        fsim(photograph, photograph)
    for part in (str(fault), r"pip install 'llve-common[fsim]'", "torchvision"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((9, 9), np.uint8), ((9, 9, 1), np.uint8), ((1, 9, 3), np.uint8), ((9, 9, 3), np.float32)],
)
def test_fsim_refuses_other_images(shape, kind):
    image = np.zeros(shape, kind)
    with pytest.raises(DataError, match="does not take such images"):
        fsim(image, image)


# The published values


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="pairs"))
def test_gaussian_ssim_and_psnr_of_the_published_code(case):
    arrays = reference_arrays(PUBLISHED)
    pair = [arrays[f"pairs/{case.name}/{side}"] for side in "ab"]
    image, target = (each[..., 0] if each.shape[-1] == 1 else each for each in pair)
    assert psnr(image, target) == pytest.approx(case.settings["psnr"], abs=1e-9)
    assert ssim(image, target, "gaussian11") == pytest.approx(case.settings["ssim"], abs=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(TCENET, joint="_"))
def test_uniform_ssim_psnr_and_fsim_of_the_published_code(case, request):
    if "identical" in case.name:
        assert case.settings is True or case.settings["psnr"] == "inf"
        image = np.zeros((8, 8, 3), np.uint8)
        assert psnr(image, image) == math.inf
        return
    pair, expected = tcenet_pair(case), case.settings["u8_path"]
    assert psnr(*pair) == pytest.approx(expected["psnr"], abs=1e-9)
    assert ssim(*pair, "skimage7") == pytest.approx(expected["ssim"], abs=1e-9)
    if expected := case.settings.get("float_path"):
        white = np.float32(255)
        image, target = case["pred_f32"] * white, case["gt_u8"] / white * white
        assert psnr(image, target) == pytest.approx(expected["psnr"], abs=1e-6)
        assert ssim(image, target, "skimage7") == pytest.approx(expected["ssim"], abs=1e-6)
    if expected := case.settings.get("fsim"):
        request.getfixturevalue("piq")
        # The published form and piq reduce images of some sizes differently (the set's README).
        halves = min(pair[0].shape[:2]) / 256
        alike = round(halves) <= 2 and halves % 1 != 0.5
        for chromatic, name in ((False, "fsim"), (True, "fsimc")):
            value = fsim(*pair, chromatic=chromatic)
            assert value == pytest.approx(expected[f"piq_{name}"], abs=1e-6)
            definition = expected[f"{name}_definition"]
            assert value == pytest.approx(definition, abs=1e-5 if alike else 1e-3)


def tcenet_pair(case):
    """The image and target of a case of the TCE-Net set."""
    if "gt_u8" in case.arrays:
        return case["pred_u8"], case["gt_u8"]
    # The set describes the pair in words instead of storing it.
    gt, number = case.settings["gt"], r"(\d+)"
    form = r"\(#\*x\+#\*y\+#\*c\+#\*\(\(x//#\+y//#\)%2\)\)%256".replace("#", number)
    a, b, c, d, e, f = (int(each) for each in re.fullmatch(form, gt).groups())
    form = r"\(gt\*#\)//#\+\(\(x\*y\+#\*c\)%#\)".replace("#", number)
    g, h, i, j = (int(each) for each in re.fullmatch(form, case.settings["pred"]).groups())
    rows, columns, channels = np.indices(case.settings["shape"])
    board = (columns // e + rows // f) % 2
    target = (a * columns + b * rows + c * channels + d * board) % 256
    image = (target * g) // h + ((columns * rows + i * channels) % j)
    return image.astype(np.uint8), target.astype(np.uint8)


@pytest.mark.reference
def test_published_odd_pairs():
    listed = reference_json(PUBLISHED)["odd_inputs"]
    black, white = np.zeros((24, 24, 3), np.uint8), np.full((24, 24, 3), 255, np.uint8)
    assert psnr(black, black) == math.inf
    assert listed["identical"] == {"psnr": "inf", "ssim": ssim(black, black, "gaussian11")}
    assert psnr(black, white) == listed["black_vs_white"]["psnr"]
    expected = listed["black_vs_white"]["ssim"]
    assert ssim(black, white, "gaussian11") == pytest.approx(expected, abs=1e-9)
    # Errors there, or, for images smaller than the window, not a number.
    for measure in (psnr, lambda *pair: ssim(*pair, "gaussian11")):
        with pytest.raises(DataError, match="not alike"):
            measure(black, black[:20])
    with pytest.raises(DataError, match="too small"):
        ssim(black[:10], black[:10], "gaussian11")
    # Images of four channels or dimensions: those here have one or three channels.
    require_known(
        listed, "identical", "black_vs_white", "different_shapes_.*", "smaller_than_.*", "four_.*"
    )


@pytest.mark.reference
def test_published_8_bit_images():
    arrays, compared = reference_arrays(PUBLISHED), 0
    for name in reference_json(PUBLISHED)["tensor2img"]:
        values = arrays.get(f"tensor2img/{name}/input", np.zeros(0))
        image = values[0] if values.ndim == 4 and len(values) == 1 else values
        # A frame is one picture of three channels in [0, 1] here: that function has other uses, of
        # grey images, of grids, and of other ranges.
        if image.ndim == 3 and len(image) == 3 and not name.startswith("range"):
            pixels = to_pixels(torch.from_numpy(image), "half-even")
            np.testing.assert_array_equal(pixels[..., ::-1], arrays[f"tensor2img/{name}/output"])
            compared += 1
    assert compared


@pytest.mark.reference
def test_published_means():
    case = reference_json(PUBLISHED)["aggregation"]
    frames = [
        FrameScore(clip, str(number), number, {"psnr": value}, 0.0)
        for clip, values in case["values"].items()
        for number, value in enumerate(values)
    ]
    scores = Scores(tuple(frames))
    for clip, expected in case["per_folder"].items():
        assert scores.per_clip[clip]["psnr"] == pytest.approx(expected, abs=1e-9)
    assert scores.mean_of_clips["psnr"] == pytest.approx(case["mean_of_folder_means"], abs=1e-9)
    expected = case["frame_mean_also_printed_by_stcd_test"]
    assert scores.mean_of_frames["psnr"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.reference
def test_what_of_the_published_metrics_does_not_apply():
    reasons = {
        "flipx4": "no published script calls it, so there is nothing to reproduce with it",
        r"crop_border_\d+_of_\d+": "every published settings file leaves the border uncropped",
        "tensor2img_note": "prose", "ssim_note": "prose", "max_abs_diff_skimage": "a summary",
    }  # fmt: skip
    covered = {"pairs", "odd_inputs", "gaussian_kernel_.*", "tensor2img", "aggregation"}
    require_known(reference_json(PUBLISHED), *covered, *reasons)
    # A downsampling that is tested by itself; nothing here makes frames smaller so.
    arrays = ("(pairs|tensor2img|flipx4)/.*", "duf_downsample/.*")
    require_known(reference_arrays(PUBLISHED), *arrays)
