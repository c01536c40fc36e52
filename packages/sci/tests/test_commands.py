"""The console commands on real and on tiny images."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import check_pixels, is_published_lol

import llve
from llve_common.__main__ import app as llve_app
from llve_common.enhance.frames import enhance_frames
from llve_common.io.digest import file_digest
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.testing.conformance import run_command, write_pairs
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights
from llve_common.weights.network import bundled_weights, load_model
from llve_common.weights.published import find_published, published_weights
from llve_sci.__main__ import app
from llve_sci.paper import PAPER

run = partial(run_command, app)


@pytest.fixture
def images(tmp_path) -> Path:
    write_pairs(tmp_path / "low", tmp_path / "high", 2)
    return tmp_path


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
    means = summary["mean_of_frames"]
    if is_published_lol(lol):
        assert means["psnr"] == pytest.approx(psnr, abs=0.005)
        assert means["ssim"] == pytest.approx(ssim, abs=0.0005)
        assert means["input_psnr"] == pytest.approx(7.773, abs=0.001)
        assert means["input_ssim"] == pytest.approx(0.1914, abs=0.0001)
    said = rf"mean of {len(pairs)} frames.*{means['psnr']:.3f}.*{means['ssim']:.4f}"
    assert re.search(said, output)
    assert len(list(tmp_path.glob("*.png"))) == len(pairs)


@pytest.mark.reference
def test_published_weights_by_name_wherever_weights_are_taken(tmp_path, images, monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", "torch")  # compiled ones are kept in the cache too
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for each in published_weights(PAPER).values():
        each.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared_file("data", "sci", "weights", each.file), each.path)
        assert each.is_here, "size and SHA-256 are those of weights.toml"
    name, low = "published:medium", images / "low"
    digest, one = file_digest(find_published(PAPER, "medium").path), low / "0000.png"
    assert digest in run("weights", "inspect", name)
    run("weights", "import", name, tmp_path / "own.safetensors")
    run("weights", "export", name, tmp_path / "back.pt")
    run("weights", "average", name, name, "-o", tmp_path / "mean.pt")
    assert digest[:12] in run("enhance", one, "-o", tmp_path / "a.png", "--weights", name)
    pixels = llve.load("sci", weights=name, device="cpu")(read_image(one).pixels)
    assert np.array_equal(pixels, read_image(tmp_path / "a.png").pixels)
    run("test", "--data_path", low, "--save_path", tmp_path / "out", "--model", name)
    assert json.loads((tmp_path / "out/summary.json").read_text())["weights_sha256"] == digest
    run(
        "finetune", "--data_path", low, "--save", tmp_path / "EXP", "--model", name,
        "train.epochs=1", "run.name=tuned", "run.tensorboard=false",
    )  # fmt: skip
    compare = ["compare", one, "--papers", "sci", "-o", tmp_path / "page"]
    given = [word for each in ("easy", "medium") for word in ("--weights", f"sci=published:{each}")]
    assert "sci-medium" in run_command(llve_app, *compare, *given)


def test_test_without_ground_truth_writes_pictures_only(tmp_path, images):
    """Under the images' names, dots and all; once more where the results lie among the images."""
    (images / "low" / "notes.txt").write_text("not an image")
    write_image(images / "low" / "a.b.c.jpg", np.zeros((8, 8, 3), np.uint8))
    out = images / "low" / "out"
    for _ in range(2):
        run("test", "--data_path", images / "low", "--save_path", out)
    names = {file.name for file in out.iterdir()}
    pictures = {"0000.png", "0001.png", "a.b.c.png"}
    assert names == pictures | {"command.txt", "index.html", "scores.jsonl", "summary.json"}
    assert json.loads((out / "summary.json").read_text())["mean_of_frames"] == {}


def test_test_of_one_image(tmp_path, images):
    words = ("--target_path", images / "high", "--save_path", tmp_path / "out")
    (images / "high" / "0001.png").unlink()
    assert "mean of 1 frames" in run("test", "--data_path", images / "low" / "0000.png", *words)
    assert (tmp_path / "out" / "0000.png").is_file()
    said = run("test", "--data_path", tmp_path / "none.png", *words[2:], fails=True)
    assert "none.png: no such image file" in said


@pytest.mark.reference
def test_a_real_clip_is_the_network_applied_to_its_frames(tmp_path):
    source = shared_file("data", "video", "bikes")
    run("enhance", source, "-o", tmp_path / "out")
    model = load_model(PAPER, None, torch.device("cpu"))
    frames = sorted(source.glob("*.png"))
    assert frames
    for frame in frames[::5]:
        enhanced = enhance_frames(model, to_tensor(read_image(frame).pixels)[None, None])[0, 0]
        written = read_image(tmp_path / "out" / frame.name).pixels
        check_pixels(to_pixels(enhanced, "truncate"), written)


def test_pictures_and_scores_of_a_training(tmp_path, images):
    run(
        "train", "--batch_size", 2, "--epochs", 2, "--stage", 2, "run.tensorboard=false",
        "--data_path", images / "low", "--save", tmp_path / "EXP",
        f"data.preview={images / 'low'}", f"data.validation.low={images / 'low'}",
        f"data.validation.high={images / 'high'}",
    )  # fmt: skip
    [folder] = (tmp_path / "EXP").glob("Train-*")
    names = {file.name for file in (folder / "model_epochs").iterdir()}
    assert names == {"weights_0.pt", "weights_1.pt"}
    published = torch.load(folder / "model_epochs" / "weights_1.pt", weights_only=True)
    assert len(published) == 83
    previews = {file.name for file in (folder / "image_epochs").iterdir()}
    assert previews == {f"000{number}_{epoch}.png" for number in (0, 1) for epoch in (0, 1)}
    assert "validation: psnr" in (folder / "train.log").read_text()


@pytest.mark.parametrize(("more", "moved"), [((), 10), (("train.freeze_after=null",), 12)])
def test_finetune(tmp_path, images, more, moved):
    """Batch norm stands still from the first preview on, unless that is refused.

    Previews among the images are not previewed.
    """
    low = images / "low"
    output = run(
        "finetune", "--data_path", low, "--epochs", 6, "--save", low, "run.tensorboard=false", *more
    )
    [folder] = low.glob("Finetune-*")
    assert str(folder) in output.replace("\n", "")
    assert {file.name for file in (folder / "image_steps").iterdir()} == {
        f"000{number}_{step}_ref_.png" for number in (0, 1) for step in (10, 12)
    }
    before, after = (
        read_weights(file)["enhance.conv.1.num_batches_tracked"]
        for file in (bundled_weights(PAPER), folder / "model_steps" / "weights_12.pt")
    )
    assert after - before == moved


def test_an_image_too_small_to_train_on(tmp_path):
    write_image(tmp_path / "in" / "fine.png", np.zeros((3, 3, 3), np.uint8))
    write_image(tmp_path / "in" / "tiny.png", np.zeros((2, 9, 3), np.uint8))
    output = run("train", "--data_path", tmp_path / "in", "--save", tmp_path / "EXP", fails=True)
    assert f"{tmp_path / 'in' / 'tiny.png'}: the image is too small to train on" in output
    assert "got: 9x2" in output
    assert not (tmp_path / "EXP").exists()
