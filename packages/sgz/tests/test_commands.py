"""The console commands on real and on tiny images."""

import json
import logging
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.synthetic import write_image_set
from llve_common.errors import ConfigError
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights, write_weights
from llve_sgz.cli import app
from llve_sgz.config import NetworkSettings, SegmentationSettings, TrainData, TrainSettings
from llve_sgz.data import LowLightImages, fitting_size
from llve_sgz.network import Enhancer
from llve_sgz.paper import build_segmenter, train_plan, training_set


def run(*command, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in command])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture
def images(tmp_path) -> Path:
    return write_image_set(tmp_path / "set", clips=1, frames=1, height=26, width=32)


def train(images, save, *more, fails=False):
    return run(
        "train", "--lowlight_images_path", images / "train" / "low", "--snapshots_folder", save,
        "--num_workers", 0, "--no-seg", "data.size=64", "run.tensorboard=false", *more, fails=fails,
    )  # fmt: skip


# Testing


@pytest.mark.reference
@pytest.mark.parametrize(
    ("scale", "psnr", "ssim", "size"),
    [
        (12, 16.041, 0.5763, (396, 600)),
        pytest.param(1, 15.848, 0.5704, (400, 600), marks=pytest.mark.slow),
    ],
)
def test_published_weights_on_lol(tmp_path, scale, psnr, ssim, size):
    lol = shared_file("data", "lol_eval15")
    output = run(
        "test", "--input_dir", lol / "low", "--target_path", lol / "high", "--test_dir", tmp_path,
        "--weight_dir", shared_file("data", "sgz", "Epoch99.pth"), "--scale_factor", scale,
    )  # fmt: skip
    summary, pairs = json.loads((tmp_path / "summary.json").read_text()), [*(lol / "low").iterdir()]
    assert summary["frames"] == len(pairs)
    assert summary["mean_of_frames"]["psnr"] == pytest.approx(psnr, abs=0.005)
    assert summary["mean_of_frames"]["ssim"] == pytest.approx(ssim, abs=0.0005)
    assert re.search(rf"mean of {len(pairs)} frames.*{psnr}.*{ssim}", output)
    written = sorted(tmp_path.glob("*.png"))
    assert [file.name for file in written] == sorted(p.name for p in pairs)
    assert read_image(written[0]).pixels.shape == (*size, 3)


@pytest.mark.reference
def test_the_published_weights_make_the_published_picture(tmp_path):
    source, target = shared_file("data", "sgz", "F1.png"), tmp_path / "out.png"
    weights = shared_file("data", "sgz", "Epoch99.pth")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "F1.png").write_bytes(source.read_bytes())
    run("test", "--input_dir", tmp_path / "in", "--test_dir", tmp_path, "--weight_dir", weights)
    written = read_image(tmp_path / "F1.png").pixels.astype(int)
    published = read_image(shared_file("data", "sgz", "F1_published.png")).pixels
    assert written.shape == published.shape
    assert np.abs(written - published).max() <= 1
    assert np.count_nonzero(written - published) <= 1e-4 * written.size
    run("enhance", source, "-o", target, "--weights", weights)
    assert read_image(target).pixels.shape == read_image(source).pixels.shape


def test_test_crops_keeps_names_and_reads_subfolders(tmp_path, images):
    pixels = read_image(images / "test" / "low" / "coffee0_0000.png").pixels
    write_image(tmp_path / "in" / "day" / "a.b.jpg", pixels)
    write_image(tmp_path / "in" / "c.png", pixels)
    output = run("test", "--input_dir", tmp_path / "in", "--test_dir", tmp_path / "out")
    assert "wrote 2 images" in output
    assert re.search(r"\d\.\d s to enhance", output)
    for name in ("day/a.b.jpg", "c.png"):
        assert read_image(tmp_path / "out" / name).pixels.shape == (24, 24, 3)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mean_of_frames"] == {}


def test_test_rounds_what_the_network_gives(tmp_path, images):
    low = images / "test" / "low"
    torch.manual_seed(0)
    network = Enhancer(12)
    write_weights(tmp_path / "new.pth", network.state_dict())
    run(
        "test", "--input_dir", low, "--test_dir", tmp_path / "out",
        "--weight_dir", tmp_path / "new.pth",
    )  # fmt: skip
    image = to_tensor(read_image(low / "coffee0_0000.png").pixels)[None, :, :24, :24]
    with torch.no_grad():
        expected = to_pixels(network(image)[0][0], "round")
    written = read_image(tmp_path / "out" / "coffee0_0000.png").pixels
    np.testing.assert_array_equal(written, expected)


def test_ground_truth_is_cropped_alike(tmp_path, images):
    low, high = images / "test" / "low", images / "test" / "high"
    run("test", "--input_dir", low, "--target_path", high, "--test_dir", tmp_path / "a")
    for folder in (low, high):
        for file in folder.iterdir():
            write_image(file, read_image(file).pixels[:24, :24])
    run("test", "--input_dir", low, "--target_path", high, "--test_dir", tmp_path / "b")
    cropped, small = (
        json.loads((tmp_path / name / "summary.json").read_text())["mean_of_frames"]
        for name in ("a", "b")
    )
    assert cropped == small
    assert cropped["psnr"] > 0


def test_an_image_too_small_to_crop_is_named(tmp_path):
    write_image(tmp_path / "in" / "tiny.png", np.zeros((11, 40, 3), np.uint8))
    output = run("test", "--input_dir", tmp_path / "in", "--test_dir", tmp_path / "o", fails=True)
    assert f"{tmp_path / 'in' / 'tiny.png'}: the image is too small to be cropped" in output
    assert "got: 40x11" in output
    run("enhance", tmp_path / "in" / "tiny.png", "-o", tmp_path / "out.png")
    assert read_image(tmp_path / "out.png").pixels.shape == (11, 40, 3)


# Training


def test_training_goes_on_from_the_weights_given(tmp_path, images):
    start = tmp_path / "start.pth"
    torch.manual_seed(3)
    write_weights(start, Enhancer(4, "tc").state_dict())
    train(
        images, tmp_path / "EXP", "--num_epochs", 2, "--train_batch_size", 2, "--display_iter", 1,
        "--scale_factor", 4, "--conv_type", "tc", "--lr", "1e-3", "--pretrain_dir", start,
    )  # fmt: skip
    [folder] = (tmp_path / "EXP").glob("Train-*")
    assert {file.name for file in folder.glob("*.pth")} == {"Epoch0.pth", "Epoch1.pth"}
    published = torch.load(folder / "Epoch1.pth", weights_only=True)
    assert published.keys() == Enhancer(1, "tc").state_dict().keys()
    moved = published["e_conv2.conv.weight"] - read_weights(start)["e_conv2.conv.weight"]
    assert 0 < moved.abs().max() < 0.01
    assert len((folder / "losses.jsonl").read_text().splitlines()) == 6
    inspected = run("weights", "inspect", folder / "Epoch1.pth")
    assert "67,299 parameters" in inspected


def test_load_pretrain_false_means_false(tmp_path, images):
    start = tmp_path / "start.pth"
    write_weights(start, {k: v + 1 for k, v in Enhancer().state_dict().items()})
    more = ("--epochs", 1, "--load_pretrain", "False", "--pretrain_dir", start)
    train(images, tmp_path / "EXP", *more)
    [folder] = (tmp_path / "EXP").glob("Train-*")
    state = read_weights(folder / "Epoch0.pth")
    assert state["e_conv1.point_conv.bias"].mean() < 0.5


def test_load_pretrain_without_a_file_says_what_is_missing(tmp_path, images):
    output = train(images, tmp_path / "EXP", "--load_pretrain", "True", fails=True)
    assert "load_pretrain needs the weights to load (--pretrain_dir)" in output
    output = train(images, tmp_path / "EXP", "--load_pretrain", "perhaps", fails=True)
    assert "load_pretrain: got 'perhaps'" in output


def test_the_undefined_convolution_is_refused(tmp_path, images):
    output = train(images, tmp_path / "EXP", "--conv_type", "dc", fails=True)
    assert "'dc' is listed by the published code, which never defined it" in output
    output = train(images, tmp_path / "EXP", "--conv_type", "xy", fails=True)
    assert "'dsc' or 'tc'" in output
    assert not (tmp_path / "EXP").exists()


def test_the_segmentation_branch_trains_and_is_neither_saved_nor_changed(tmp_path, images):
    train(images, tmp_path / "EXP", "--epochs", 1, "--batch_size", 5, "--seg")
    [folder] = (tmp_path / "EXP").glob("Train-*")
    assert (folder / "train.log").read_text().count("at random initialisation") == 1
    losses = json.loads((folder / "losses.jsonl").read_text().splitlines()[0])["losses"]
    assert losses["segmentation"] > 0
    assert read_weights(folder / "Epoch0.pth").keys() == Enhancer().state_dict().keys()


def test_random_initialisation_is_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        segmenter = build_segmenter(SegmentationSettings(), torch.device("cpu"))
        assert build_segmenter(SegmentationSettings(use=False), torch.device("cpu")) is None
    assert segmenter.training
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())
    [record] = caplog.records
    assert "at random initialisation" in record.message
    assert "--seg-weights" in record.message
    assert "--no-seg" in record.message


def test_missing_segmentation_weights_stop_before_a_run_begins(tmp_path, images):
    output = train(
        images, tmp_path / "EXP", "--seg", "--seg-weights", tmp_path / "none.pth", fails=True
    )
    assert f"{tmp_path / 'none.pth'}: no such weights file" in output
    assert not (tmp_path / "EXP").exists()


def test_a_scale_factor_that_does_not_divide_the_size(images, caplog):
    assert fitting_size(512, 12) == 516
    assert fitting_size(512, 5) == 510
    assert fitting_size(512, 8) == 512
    with pytest.raises(ConfigError, match="larger than the images"):
        fitting_size(64, 65)
    network, data = NetworkSettings(scale_factor=12), TrainData(train=images / "train/low", size=64)
    with caplog.at_level(logging.WARNING):
        assert training_set(TrainSettings(network=network, data=data)).size == 60
    assert "resized to 60x60, not 64x64" in caplog.text


def test_every_epoch_saves_weights():
    class Settings:
        class train:  # noqa: N801
            epochs, snapshot_every = 2, 10

    assert train_plan(Settings, 4).weights_every == 4
    assert train_plan(Settings, 25).weights_every == 10


# Data


def test_the_folder_is_read_flat_and_any_image_serves(tmp_path):
    grey = np.full((20, 30, 3), 40, np.uint8)
    write_image(tmp_path / "clear.png", grey, np.full((20, 30), 128, np.uint8))
    write_image(tmp_path / "deep.png", np.full((20, 30, 3), 40 * 257, np.uint16))
    write_image(tmp_path / "below" / "not-read.jpg", grey)
    data = LowLightImages(tmp_path, 64)
    assert sorted(path.name for path in data.paths) == ["clear.png", "deep.png"]
    for index in range(2):
        sample = data.sample(index, random.Random(0))["low"]
        assert sample.shape == (3, 64, 64)
        torch.testing.assert_close(sample, torch.full_like(sample, 40 / 255))


def test_a_text_file_that_ends_in_jpg_is_no_training_image(tmp_path, images):
    (images / "train" / "low" / "a.jpg").write_text("hello")
    output = train(images, tmp_path / "EXP", fails=True)
    assert f"{images / 'train' / 'low' / 'a.jpg'}: not an image that can be read" in output
