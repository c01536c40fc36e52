"""The console commands on real and on tiny images."""

import json
import logging
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from recipes import is_published_lol

from llve_common.errors import ConfigError
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.testing.conformance import run_command, write_pairs
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights, write_weights
from llve_sgz.__main__ import app
from llve_sgz.config import NetworkSettings, SegmentationSettings, TrainData, TrainSettings
from llve_sgz.data import fitting_size
from llve_sgz.network import Enhancer
from llve_sgz.paper import build_segmenter, train_plan, training_set

run = partial(run_command, app)


@pytest.fixture
def images(tmp_path) -> Path:
    write_pairs(tmp_path / "low", tmp_path / "high")
    return tmp_path / "low"


def train(images, save, *more, fails=False):
    return run(
        "train", "--lowlight_images_path", images, "--snapshots_folder", save,
        "--num_workers", 0, "--no-seg", "data.size=64", "run.tensorboard=false", *more, fails=fails,
    )  # fmt: skip


# Testing


@pytest.mark.reference
@pytest.mark.parametrize(
    ("scale", "psnr", "ssim"),
    [(12, 16.041, 0.5763), pytest.param(1, 15.848, 0.5704, marks=pytest.mark.slow)],
)
def test_published_weights_on_lol(tmp_path, scale, psnr, ssim):
    lol = shared_file("data", "lol_eval15")
    output = run(
        "test", "--input_dir", lol / "low", "--target_path", lol / "high", "--test_dir", tmp_path,
        "--weight_dir", shared_file("data", "sgz", "Epoch99.pth"), "--scale_factor", scale,
    )  # fmt: skip
    summary, pairs = json.loads((tmp_path / "summary.json").read_text()), [*(lol / "low").iterdir()]
    assert summary["frames"] == len(pairs)
    means = summary["mean_of_frames"]
    if is_published_lol(lol):
        assert means["psnr"] == pytest.approx(psnr, abs=0.005)
        assert means["ssim"] == pytest.approx(ssim, abs=0.0005)
    said = rf"mean of {len(pairs)} frames.*{means['psnr']:.3f}.*{means['ssim']:.4f}"
    assert re.search(said, output)
    written = sorted(tmp_path.glob("*.png"))
    assert [file.name for file in written] == sorted(p.name for p in pairs)
    for file in written:
        height, width = read_image(lol / "low" / file.name).pixels.shape[:2]
        wanted = (height // scale * scale, width // scale * scale, 3)
        assert read_image(file).pixels.shape == wanted


def test_test_crops_rounds_keeps_names_and_reads_subfolders(tmp_path, images):
    pixels = read_image(images / "0000.png").pixels[:, :26]
    write_image(tmp_path / "in" / "day" / "a.b.jpg", pixels)
    write_image(tmp_path / "in" / "c.png", pixels)
    PIL.Image.fromarray(pixels).save(tmp_path / "in" / "read-only.gif")
    torch.manual_seed(0)
    network = Enhancer(12)
    write_weights(tmp_path / "new.pth", network.state_dict())
    words = ("--input_dir", tmp_path / "in", "--weight_dir", tmp_path / "new.pth")
    output = run("test", *words, "--test_dir", tmp_path / "out")
    assert "wrote 3 images" in output
    assert re.search(r"\d\.\d s to enhance", output)
    assert read_image(tmp_path / "out" / "day" / "a.b.jpg").pixels.shape == (24, 24, 3)
    with torch.no_grad():
        expected = to_pixels(network(to_tensor(pixels)[None, ..., :24, :24])[0][0], "round")
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "c.png").pixels, expected)
    run(
        "test", "--input_dir", tmp_path / "in" / "read-only.gif", *words[2:], "--test_dir", tmp_path
    )
    assert (tmp_path / "read-only.png").is_file()
    assert (tmp_path / "out" / "read-only.png").is_file()


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
    assert len((folder / "losses.jsonl").read_text().splitlines()) == 4
    assert "67,299 parameters" in run("weights", "inspect", folder / "Epoch1.pth")
    again = ("--epochs", 1, "--load_pretrain", "False", "--conv_type", "tc", "--pretrain_dir")
    train(images, tmp_path / "new", *again, folder / "Epoch1.pth")
    [folder] = (tmp_path / "new").glob("Train-*")
    state = read_weights(folder / "Epoch0.pth")
    assert (state["e_conv2.conv.weight"] - published["e_conv2.conv.weight"]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--load_pretrain", "True"), "load_pretrain needs the weights to load (--pretrain_dir)"),
        (("--load_pretrain", "perhaps"), "load_pretrain: got 'perhaps'"),
        (("--conv_type", "dc"), "'dc' is listed by the published code, which never defined it"),
        (("--conv_type", "xy"), "'dsc' or 'tc'"),
        (("--seg", "--seg-weights", "none.pth"), "none.pth: no such weights file"),
    ],
)
def test_mistakes_are_said_before_a_run_begins(tmp_path, images, words, said):
    assert said in train(images, tmp_path / "EXP", *words, fails=True)
    assert not (tmp_path / "EXP").exists()


def test_the_segmentation_branch_trains_and_is_neither_saved_nor_changed(tmp_path, images):
    train(images, tmp_path / "EXP", "--epochs", 1, "--batch_size", 3, "--seg")
    [folder] = (tmp_path / "EXP").glob("Train-*")
    [said] = re.findall(".*at random initialisation.*", (folder / "train.log").read_text())
    assert "--seg-weights" in said
    assert "--no-seg" in said
    losses = json.loads((folder / "losses.jsonl").read_text().splitlines()[0])["losses"]
    assert losses["segmentation"] > 0
    assert read_weights(folder / "Epoch0.pth").keys() == Enhancer().state_dict().keys()


def test_the_segmenter_is_frozen_and_in_training_mode():
    segmenter = build_segmenter(SegmentationSettings(), torch.device("cpu"))
    assert segmenter.training
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())


def test_a_scale_factor_that_does_not_divide_the_size(images, caplog):
    assert fitting_size(512, 12) == 516
    assert fitting_size(512, 5) == 510
    assert fitting_size(512, 8) == 512
    with pytest.raises(ConfigError, match="larger than the images"):
        fitting_size(64, 65)
    network, data = NetworkSettings(scale_factor=12), TrainData(train=images, size=64)
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
    data = training_set(TrainSettings(data=TrainData(train=tmp_path, size=64)))
    assert sorted(path.name for path in data.files) == ["clear.png", "deep.png"]
    for index in range(2):
        sample = data.sample(index, random.Random(0))["low"]
        assert sample.shape == (3, 64, 64)
        torch.testing.assert_close(sample, torch.full_like(sample, 40 / 255))
