"""The console commands on real and on tiny images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.synthetic import write_image_set
from llve_common.errors import DataError
from llve_common.io.images import read_image, write_image
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights
from llve_sci.cli import app
from llve_sci.data import LowLightImages


def run(*command, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in command])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture
def images(tmp_path) -> Path:
    return write_image_set(tmp_path / "set", clips=1, frames=1, height=24, width=32)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("weights", "psnr", "ssim"),
    [("medium", 14.784, 0.5254), ("easy", 9.580, 0.3668), ("difficult", 13.806, 0.5283)],
)
def test_published_weights_on_lol(tmp_path, weights, psnr, ssim):
    lol = shared_file("data", "lol_eval15")
    model = shared_file("data", "sci", "weights", f"{weights}.pt")
    output = run(
        "test", "--data_path", lol / "low", "--target_path", lol / "high",
        "--save_path", tmp_path, "--model", model,
    )  # fmt: skip
    summary, pairs = json.loads((tmp_path / "summary.json").read_text()), [*(lol / "low").iterdir()]
    assert summary["frames"] == len(pairs)
    assert summary["mean_of_frames"]["psnr"] == pytest.approx(psnr, abs=0.005)
    assert summary["mean_of_frames"]["ssim"] == pytest.approx(ssim, abs=0.0005)
    assert summary["mean_of_frames"]["input_psnr"] == pytest.approx(7.773, abs=0.001)
    assert summary["mean_of_frames"]["input_ssim"] == pytest.approx(0.1914, abs=0.0001)
    assert re.search(rf"mean of {len(pairs)} frames.*{psnr}.*{ssim}", output)
    assert len(list(tmp_path.glob("*.png"))) == len(pairs)


def test_test_without_ground_truth_writes_pictures_only(tmp_path, images):
    (images / "test" / "low" / "notes.txt").write_text("not an image")
    run("test", "--data_path", images / "test" / "low", "--save_path", tmp_path / "out")
    sources = {file.stem for file in (images / "test" / "low").glob("*.png")}
    assert {file.stem for file in (tmp_path / "out").glob("*.png")} == sources
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mean_of_frames"] == {}
    assert not (tmp_path / "out" / "summary.md").exists()


def test_test_keeps_the_stem_and_its_dots(tmp_path):
    write_image(tmp_path / "in" / "a.b.c.jpg", np.zeros((8, 8, 3), np.uint8))
    run("test", "--data_path", tmp_path / "in", "--save_path", tmp_path / "out")
    assert (tmp_path / "out" / "a.b.c.png").is_file()


def test_two_inputs_of_one_stem_are_refused_before_anything_is_written(tmp_path):
    for suffix in ("png", "bmp"):
        write_image(tmp_path / "in" / f"a.{suffix}", np.zeros((8, 8, 3), np.uint8))
    output = run(
        "test", "--data_path", tmp_path / "in", "--save_path", tmp_path / "out", fails=True
    )
    assert "two inputs would be written to the same file" in output
    assert not (tmp_path / "out").exists()


def test_ground_truth_that_does_not_match_is_named(tmp_path, images):
    victim = sorted((images / "test" / "high").glob("*.png"))[0]
    victim.unlink()
    output = run(
        "test", "--data_path", images / "test" / "low", "--save_path", tmp_path / "out",
        "--target_path", images / "test" / "high", fails=True,
    )  # fmt: skip
    assert f"{images / 'test' / 'low' / victim.name} has no ground truth" in output


def test_pictures_and_scores_of_a_training(tmp_path, images):
    run(
        "train", "--batch_size", 2, "--epochs", 2, "--stage", 2, "run.tensorboard=false",
        "--data_path", images / "train" / "low", "--save", tmp_path / "EXP",
        f"data.preview={images / 'test' / 'low'}",
        f"data.validation.low={images / 'test' / 'low'}",
        f"data.validation.high={images / 'test' / 'high'}",
    )  # fmt: skip
    [folder] = (tmp_path / "EXP").glob("Train-*")
    names = {file.name for file in (folder / "model_epochs").iterdir()}
    assert names == {"weights_0.pt", "weights_1.pt"}
    published = torch.load(folder / "model_epochs" / "weights_1.pt", weights_only=True)
    assert len(published) == 83
    previews = {file.name for file in (folder / "image_epochs").iterdir()}
    assert "coffee0_0000_0.png" in previews
    assert "coffee0_0000_1.png" in previews
    assert "validation: psnr" in (folder / "train.log").read_text()


def test_finetune(tmp_path, images):
    output = run(
        "finetune", "--data_path", images / "test" / "low", "--epochs", 6,
        "--save", tmp_path / "EXP", "run.tensorboard=false",
    )  # fmt: skip
    [folder] = (tmp_path / "EXP").glob("Finetune-*")
    assert str(folder) in output.replace("\n", "")
    assert {file.name for file in (folder / "image_steps").iterdir()} == {
        f"{name}_0000_{step}_ref_.png"
        for name in ("coffee0", "stereo_motorcycle0")
        for step in (10, 12)
    }
    frozen = read_weights(folder / "model_steps" / "weights_12.pt")
    assert frozen["enhance.conv.1.num_batches_tracked"] == 10 + bundled_updates()


def bundled_updates() -> int:
    from llve_common.weights.network import bundled_weights
    from llve_sci.paper import PAPER

    state = read_weights(bundled_weights(PAPER))
    return int(state["enhance.conv.1.num_batches_tracked"])


def test_finetune_without_the_published_freeze(tmp_path, images):
    run(
        "finetune", "--data_path", images / "test" / "low", "--epochs", 6,
        "--save", tmp_path / "EXP", "run.tensorboard=false", "train.freeze_after=null",
    )  # fmt: skip
    [folder] = (tmp_path / "EXP").glob("Finetune-*")
    state = read_weights(folder / "model_steps" / "weights_12.pt")
    assert state["enhance.conv.1.num_batches_tracked"] == 12 + bundled_updates()


def test_an_image_too_small_to_train_on(tmp_path):
    write_image(tmp_path / "in" / "fine.png", np.zeros((3, 3, 3), np.uint8))
    write_image(tmp_path / "in" / "tiny.png", np.zeros((2, 9, 3), np.uint8))
    output = run("train", "--data_path", tmp_path / "in", "--save", tmp_path / "EXP", fails=True)
    assert f"{tmp_path / 'in' / 'tiny.png'}: the image is too small to train on" in output
    assert "got: 9x2" in output
    assert not (tmp_path / "EXP").exists()


def test_images_of_several_sizes_need_a_batch_of_one(tmp_path):
    for side in (8, 9):
        write_image(tmp_path / "in" / f"{side}.png", np.zeros((side, 8, 3), np.uint8))
    output = run(
        "train", "--data_path", tmp_path / "in", "--save", tmp_path / "EXP",
        "--batch_size", 2, "--epochs", 1, fails=True,
    )  # fmt: skip
    assert "the images of a batch differ in size" in output
    run(
        "train", "--data_path", tmp_path / "in", "--save", tmp_path / "EXP", "--epochs", 1,
        "run.tensorboard=false",
    )  # fmt: skip


def test_grey_and_transparent_images_are_read_as_colour(tmp_path):
    grey = np.full((8, 8, 3), 40, np.uint8)
    write_image(tmp_path / "clear.png", grey, np.full((8, 8), 128, np.uint8))
    data = LowLightImages(tmp_path)
    assert data.sample(0, None)["low"].shape == (3, 8, 8)
    run("enhance", tmp_path / "clear.png", "-o", tmp_path / "out.png")
    assert (read_image(tmp_path / "out.png").alpha == 128).all()


def test_a_text_file_that_ends_in_png_is_no_training_image(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(Exception, match="not an image that can be read") as caught:
        LowLightImages(tmp_path)
    assert not isinstance(caught.value, DataError)
    assert str(tmp_path / "a.png") in str(caught.value)
