"""The console commands on a tiny set, and on a real clip where it is at hand."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.lowlight import Darkening, darken
from llve_common.io.images import read_image, to_tensor, write_image
from llve_common.metrics.fidelity import psnr
from llve_common.testing.motion import moved_views
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_checkpoint, read_weights, write_weights
from llve_stcd.__main__ import app
from llve_stcd.matchers import dis_matches, matcher_images
from llve_stcd.network import STCD
from llve_stcd.picture import matches_picture

SMALL = (
    "network.nf=8", "data.size=[40,28]", "train.batch_size=2", "train.workers=0",
    "run.tensorboard=false", "run.log_every=1",
)  # fmt: skip
HEIGHT, WIDTH = 30, 42
"""No multiples of 4: training needs such, testing and enhancing pad and cut."""


def run(*words, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    size = ("--height", HEIGHT, "--width", WIDTH)
    run("data", "synthetic", folder, "--clips", 1, "--frames", 5, *size)
    return folder / "indoor_np"


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    write_weights(tmp_path / "w.pth", STCD(nf=8).state_dict())
    return tmp_path / "w.pth"


def losses(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_train_resume_test_enhance(tmp_path, root):
    """A run that stops and goes on ends as one that never stopped; its weights test and enhance."""
    plan = ("train.iterations=20", "train.save_every=10", "train.validate_every=10")
    words = (*SMALL, *plan, "train.lr=3e-3", "--save", tmp_path / "runs")
    train = ("train", "--data_path", root, *words)
    run(*train, "--name", "whole")
    run(*train, "--name", "broken")
    whole, broken = (tmp_path / "runs" / name for name in ("whole", "broken"))
    (broken / "checkpoints" / "00000020.ckpt").unlink()
    (broken / "models" / "latest_G.pth").unlink()
    run("train", "--resume", broken)
    for name in ("models/latest_G.pth", "models/20_G.pth", "models/10_G.pth"):
        one, other = read_weights(whole / name), read_weights(broken / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    lines = losses(whole)
    assert [line["losses"] for line in lines] == [line["losses"] for line in losses(broken)]
    first, last = (
        np.mean([line["losses"]["pixel"] for line in part]) for part in (lines[:6], lines[-6:])
    )
    assert last < 0.8 * first
    # What matched stands in the log and in the checkpoint.
    assert "matcher: dis" in (whole / "train.log").read_text()
    checkpoint = read_checkpoint(whole / "checkpoints" / "00000020.ckpt")
    assert checkpoint["settings"]["objective"]["matcher"]["kind"] == "dis"
    # Twice scored, and said once what it is scored on.
    log = (whole / "train.log").read_text()
    assert log.count("validation: psnr") == 2
    assert log.count("10 of the test's 12 clips are missing") == 1
    assert len(list((whole / "val_images").iterdir())) == 2
    assert "keeps its settings" in run("train", "--resume", whole, "--name", "x", fails=True)

    out = tmp_path / "out"
    model = whole / "models" / "latest_G.pth"
    words = ("test", "--data_path", root, "data.size=null", "--model", model, "--save_path", out)
    output = " ".join(run(*words).split())
    assert "mean of 2 clips" in output
    assert "10 of the test's 12 clips are missing" in output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rounding"] == "half-even"
    assert summary["ssim"] == "gaussian11"
    assert summary["mean_of_clips"]["psnr"] > summary["mean_of_clips"]["input_psnr"]
    assert summary["mean_of_frames"].keys() == summary["mean_of_clips"].keys()
    assert len(list((out / "images").glob("*/*/*.png"))) == 3 * 10
    page = (out / "index.html").read_text()
    for words in ("In detail", "pair13, 0002.npy", "view-independent", "shading"):
        assert words in page
    truth = read_image(root / "GT" / "pair13" / "0002.npy").pixels
    written = read_image(out / "images" / "GT" / "pair13" / "0002.png").pixels
    np.testing.assert_array_equal(written, truth)

    target = tmp_path / "clip"
    run("enhance", root / "input" / "pair13", "-o", target, "--weights", model)
    for name in ("0003", "0004"):
        enhanced = read_image(target / f"{name}.npy").pixels
        tested = read_image(out / "images" / "output" / "pair13" / f"{name}.png").pixels
        np.testing.assert_array_equal(enhanced, tested)


def test_pictures_alone_need_no_ground_truth(tmp_path, root, weights):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "input").symlink_to(root / "input")
    words = ("test", "--data_path", tmp_path / "set", "data.size=null", "--model", weights)
    output = run(*words, "--no-save-images", fails=True)
    assert "nothing to score" in output
    run(*words, "data.first=2", "--save_path", tmp_path / "out")
    sides = {each.name for each in (tmp_path / "out" / "images").iterdir()}
    assert sides == {"input", "output"}


def test_a_test_may_write_no_picture(tmp_path, root, weights):
    words = ("test", "--data_path", root, "data.size=[32,16]", "data.first=1", "--model", weights)
    run(*words, "--save_path", tmp_path / "out", "--no-save-images")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "scores.jsonl", "summary.json", "summary.md",
    ]  # fmt: skip


def test_decompose(tmp_path, root, weights):
    first, second = (root / "input" / "pair13" / f"000{number}.npy" for number in (1, 2))
    target = tmp_path / "parts.png"
    run("decompose", first, second, "-o", target, "--weights", weights)
    picture = read_image(target).pixels
    assert picture.shape == (HEIGHT, 4 * WIDTH + 3 * 8, 3)
    low, rgb, ill, product = (picture[:, (WIDTH + 8) * n :][:, :WIDTH] / 255 for n in range(4))
    np.testing.assert_array_equal(low, read_image(first).pixels / 255)
    np.testing.assert_allclose(rgb * ill, product, atol=1.6 / 255)
    # The product is what enhancing gives.
    run("enhance", root / "input" / "pair13", "-o", tmp_path / "clip", "--weights", weights)
    enhanced = read_image(tmp_path / "clip" / "0001.npy").pixels / 255
    np.testing.assert_allclose(product, enhanced, atol=1.1 / 255)


def test_decompose_refuses_what_it_cannot_do(tmp_path, root, weights):
    frame = root / "input" / "pair13" / "0000.npy"
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
    run("enhance", tmp_path / "bikes")
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
