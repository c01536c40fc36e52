"""The console commands on a tiny set, and on a real clip where it is at hand."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from llve_common.data.lowlight import Darkening, darken
from llve_common.io.images import read_image, to_tensor, write_image
from llve_common.metrics.fidelity import psnr
from llve_common.testing.conformance import run_command, write_pairs
from llve_common.testing.motion import moved_views
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights, write_weights
from llve_stcd.__main__ import app
from llve_stcd.matchers import dis_matches, matcher_images
from llve_stcd.network import STCD
from llve_stcd.picture import matches_picture

SHORT = (
    "network.nf=8", "data.size=[40,28]", "train.batch_size=2", "train.workers=0",
    "train.iterations=2", "train.save_every=1", "run.tensorboard=false", "run.log_every=1",
)  # fmt: skip
HEIGHT, WIDTH = 30, 42
"""No multiples of 4: training needs such, testing and enhancing pad and cut."""

run = partial(run_command, app)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A clip to train on, and two of the test's twelve."""
    folder = tmp_path_factory.mktemp("set")
    for name in ("pair1", "pair13", "pair15"):
        write_pairs(folder / "input" / name, folder / "GT" / name, 4, (HEIGHT, WIDTH))
    return folder


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """The folder of a run by dense inverse search, whose matches are kept."""
    folder = tmp_path_factory.mktemp("runs")
    chosen = (f"objective.matcher.cache={folder / 'cache'}", "train.validate_every=1")
    run("train", "--data_path", root, *SHORT, *chosen, "--save", folder, "--name", "run")
    return folder / "run"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    write_weights(tmp_path / "w.pth", STCD(nf=8).state_dict())
    return tmp_path / "w.pth"


def test_the_losses_and_the_log_of_a_run(trained):
    lines = map(json.loads, (trained / "losses.jsonl").read_text().splitlines())
    for losses in [line["losses"] for line in lines if "losses" in line]:
        assert list(losses) == ["pixel", "smoothness", "correspondence", "total"]
        *named, total = losses.values()
        assert min(named) > 0
        assert math.isclose(total, sum(named), rel_tol=1e-5)
    log = (trained / "train.log").read_text()
    assert "matcher: dis" in log
    assert "pairs (" in log


def test_the_cache_of_matches_changes_nothing(trained, root, tmp_path):
    more = ("train.validate_every=null", "--save", tmp_path, "--name", "run")
    run("train", "--data_path", root, *SHORT, *more)
    wanted, cached = (
        read_weights(folder / "models" / "latest_G.pth") for folder in (tmp_path / "run", trained)
    )
    torch.testing.assert_close(cached, wanted, rtol=0, atol=0)


def test_test_and_enhance(tmp_path, root, trained):
    out, model = tmp_path / "out", trained / "models" / "latest_G.pth"
    words = ("test", "--data_path", root, "data.size=null", "--model", model, "--save_path", out)
    output = " ".join(run(*words).split())
    assert "mean of 2 clips" in output
    assert "10 of the test's 12 clips are missing" in output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rounding"] == "half-even"
    assert summary["ssim"] == "gaussian11"
    assert summary["mean_of_frames"].keys() == summary["mean_of_clips"].keys()
    assert len(list((out / "images").glob("*/*/*.png"))) == 3 * 8
    page = (out / "index.html").read_text()
    for words in ("In detail", "pair13, 0002.png", "view-independent", "shading"):
        assert words in page
    truth = read_image(root / "GT" / "pair13" / "0002.png").pixels
    written = read_image(out / "images" / "GT" / "pair13" / "0002.png").pixels
    np.testing.assert_array_equal(written, truth)
    words = ("enhance", root / "input" / "pair13", "-o", tmp_path / "clip", "--weights", model)
    run(*words, "--precision", "fp32")
    for name in ("0002.png", "0003.png"):
        tested = read_image(out / "images" / "output" / "pair13" / name).pixels
        np.testing.assert_array_equal(read_image(tmp_path / "clip" / name).pixels, tested)


def test_decompose(tmp_path, root, weights):
    first, second = (root / "input" / "pair13" / f"000{number}.png" for number in (1, 2))
    target = tmp_path / "parts.png"
    run("decompose", first, second, "-o", target, "--weights", weights)
    picture = read_image(target).pixels
    assert picture.shape == (HEIGHT, 4 * WIDTH + 3 * 8, 3)
    low, rgb, ill, product = (picture[:, (WIDTH + 8) * n :][:, :WIDTH] / 255 for n in range(4))
    np.testing.assert_array_equal(low, read_image(first).pixels / 255)
    np.testing.assert_allclose(rgb * ill, product, atol=1.6 / 255)
    # The product is what enhancing gives.
    run("enhance", root / "input" / "pair13", "-o", tmp_path / "clip", "--weights", weights)
    enhanced = read_image(tmp_path / "clip" / "0001.png").pixels / 255
    np.testing.assert_allclose(product, enhanced, atol=1.1 / 255)


def test_decompose_refuses_what_it_cannot_do(tmp_path, root, weights):
    frame = root / "input" / "pair13" / "0000.png"
    write_image(tmp_path / "other.png", np.zeros((8, 8, 3), np.uint8))
    words = ("decompose", frame, tmp_path / "other.png", "--weights", weights)
    assert "differ in size" in run(*words, "-o", tmp_path / "x.png", fails=True)
    words = ("decompose", frame, tmp_path / "other.png", "-o", tmp_path / "other.png")
    assert "written over another image that is read" in run(*words, fails=True)


def test_match(tmp_path):
    first, second, _, _ = moved_views((6, 0))
    for name, image in (("a.png", first), ("b.png", second)):
        write_image(tmp_path / name, image)
    output = run("match", tmp_path / "a.png", tmp_path / "b.png")
    assert "matcher: dis" in output
    pair = [matcher_images(to_tensor(image)[None]) for image in (first, second)]
    expected = matches_picture(pair[0][0], pair[1][0], dis_matches(*pair))
    np.testing.assert_array_equal(read_image(tmp_path / "a-matches.png").pixels, expected)


def test_match_by_dkm_names_the_weights_it_lacks(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    words = ("match", tmp_path / "a.png", tmp_path / "a.png", "--matcher", "dkm")
    output = run(*words, "--place", "outdoor", fails=True)
    assert "DKMv3_outdoor.pth" in output
    assert "github.com/Parskatt/DKM" in output
    assert not (tmp_path / "a-matches.png").exists()


@pytest.mark.reference
def test_a_real_clip_in_simulated_low_light(tmp_path):
    """By the bundled weights, which learned from photographs alone."""
    clip = sorted(shared_file("data", "video", "bikes").iterdir())
    darkening = Darkening(alpha=0.95, beta=0.6, gamma=2.6, shot_gain=2e-4, read_std=1e-3)
    rng = np.random.default_rng(0)
    truth = [read_image(path).pixels for path in clip]
    dark = [darken(frame, darkening, rng) for frame in truth]
    for path, frame in zip(clip, dark, strict=True):
        write_image(tmp_path / "bikes" / path.name, frame)
    run("enhance", tmp_path / "bikes", "--precision", "fp32")
    bright = [read_image(tmp_path / "bikes-enhanced" / path.name).pixels for path in clip]
    before, after = (
        np.mean([psnr(one, other) for one, other in zip(frames, truth, strict=True)])
        for frames in (dark, bright)
    )
    assert after > before + 1
    first, second = (tmp_path / "bikes" / path.name for path in clip[:2])
    run("decompose", first, second, "-o", tmp_path / "parts.png")
    product = read_image(tmp_path / "parts.png").pixels[:, -truth[0].shape[1] :]
    assert np.abs(product.astype(int) - bright[0]).max() <= 1
