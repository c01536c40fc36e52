"""The commands end to end, on tiny videos."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from llve_common.data.synthetic import read_photograph
from llve_common.flow.raft import Raft
from llve_common.io.images import read_image, write_image
from llve_common.testing.conformance import dark_frames, run_command, write_pairs, write_video
from llve_common.weights.files import write_weights
from llve_tcenet.__main__ import app

run = partial(run_command, app)


@pytest.fixture
def videos(tmp_path):
    """A folder with a video of seven frames, and a clip of six."""
    folder = tmp_path / "ordinary"
    folder.mkdir()
    write_video(folder / "a.mp4", dark_frames(7, 24, 32))
    for number, pixels in enumerate(dark_frames(6, 24, 32)):
        write_image(folder / "clips" / "b" / f"{number}.png", pixels)
    return folder


@pytest.fixture
def pairs(tmp_path):
    """Makes one video, or those of the names given; the folders of all in low and normal light."""

    def make(frames, *names):
        low, normal = tmp_path / "low", tmp_path / "normal"
        for name in names or ("a",):
            write_pairs(low / name, normal / name, frames)
        return low, normal

    return make


# Simulation


def test_simulate(tmp_path, videos):
    out = tmp_path / "set"
    shutil.copytree(videos / "clips" / "b", videos / os.fsdecode(b"c\n\xff"))
    assert "3 clips, 19 frames" in run("simulate", videos, out, "--seed", 3)
    names = (out / "train_list.txt").read_text().splitlines()
    assert names == ["a", r"c\n\udcff", "clips_b"]
    assert [(out / "normal" / each).is_dir() for each in names] == [True] * 3
    drawn = json.loads((out / "low_and_noise" / "a.json").read_text())
    assert {"alpha", "beta", "gamma", "shot_gain", "read_std", "seed", "frames"} <= drawn.keys()
    for side in ("low_and_noise", "normal"):
        names = sorted(file.name for file in (out / side / "clips_b").iterdir())
        assert names == [f"{number:05d}.png" for number in range(6)]
    low, normal = (
        read_image(out / side / "clips_b" / "00002.png").pixels
        for side in ("low_and_noise", "normal")
    )
    np.testing.assert_array_equal(normal, read_image(videos / "clips" / "b" / "2.png").pixels)
    assert low.mean() < normal.mean()
    output = run("simulate", videos, out, "--seed", 1, fails=True)
    assert "the clip is there already, made otherwise" in output


def test_simulation_goes_on_where_it_was_stopped(tmp_path, videos):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run("simulate", videos, whole)
    run("simulate", videos, broken)
    # As if it had been stopped within the first clip: no parameters yet, a frame missing.
    (broken / "low_and_noise" / "a.json").unlink()
    (broken / "low_and_noise" / "a" / "00004.png").unlink()
    kept = broken / "low_and_noise" / "clips_b" / "00000.png"
    before = kept.stat().st_mtime_ns
    run("simulate", videos, broken)
    assert kept.stat().st_mtime_ns == before
    files = [file.relative_to(whole) for file in whole.rglob("*") if file.is_file()]
    assert len(files) == 29
    for file in files:
        assert (whole / file).read_bytes() == (broken / file).read_bytes()


@pytest.mark.parametrize(
    "content", ["[]", "[" * 100_000, '{"seed": 0}', "\xff", "{'frames': 1e999}"]
)
def test_damaged_parameters_of_a_clip_are_one_message(tmp_path, videos, content):
    run("simulate", videos, tmp_path / "set")
    file = tmp_path / "set" / "low_and_noise" / "a.json"
    file.write_text(content)
    output = run("simulate", videos, tmp_path / "set", fails=True)
    assert f"{file}: the content is not what llve writes" in output


@pytest.mark.parametrize(("place", "source"), [("b", "."), ("b/empty", "..")])
def test_simulate_a_folder_by_its_dots(tmp_path, videos, monkeypatch, place, source):
    (videos / "clips" / "b" / "empty").mkdir()
    monkeypatch.chdir(videos / "clips" / place)
    run("simulate", source, tmp_path / "set")
    for side in ("low_and_noise", "normal"):
        names = sorted(file.name for file in (tmp_path / "set" / side / "b").iterdir())
        assert names == [f"{number:05d}.png" for number in range(6)]


def test_two_sources_of_one_name_are_refused(tmp_path, videos):
    write_pairs(videos / "a", tmp_path / "unused", 6)
    write_pairs(videos / "scene.1", videos / "scene.2", 6)
    output = run("simulate", videos, tmp_path / "set", fails=True)
    assert "a: two sources would become one clip" in output
    shutil.rmtree(videos / "a")
    run("simulate", videos, tmp_path / "set")
    assert (tmp_path / "set" / "normal" / "scene.2").is_dir()


# Training


def test_train_on_what_simulate_made(tmp_path, videos, pairs):
    run("simulate", videos, tmp_path / "set")
    low, normal = pairs(6, "a", "b")
    run(
        "--mode", "train", "--version", "Mine", "--data_path", low, "--target_path", normal,
        "--syn_dir", tmp_path / "set" / "low_and_noise",
        "--syn_ref_dir", tmp_path / "set" / "normal", "--syn_list_dir", tmp_path / "set",
        "--total_epochs", 2, "--repeat_times", 1, "--train_batch_size", 2, "--lr_init", "1e-4",
        "--crop_size", 16, "--threads", 0, "--no-perceptual", "--flow", "dis",
        "--save_root_dir", tmp_path / "runs", "--use_tensorboard", "false", "run.log_every=1",
        f"data.validation.low={low}", f"data.validation.normal={normal}",
    )  # fmt: skip
    [folder] = (tmp_path / "runs").iterdir()
    names = sorted(file.name for file in (folder / "models").iterdir())
    assert names == ["Mine_epoch_1.pth", "Mine_epoch_2.pth"]
    content = torch.load(folder / "models" / "Mine_epoch_2.pth", weights_only=True)
    assert content.keys() == {"G_net", "epoch", "g_optimizer", "lr_scheduler_g"}
    assert content["epoch"] == 2
    assert len(content["g_optimizer"]["state"]) == 147
    first = json.loads((folder / "losses.jsonl").read_text().splitlines()[0])["losses"]
    assert {"charbonnier", "edge", "temporal", "total"} == first.keys()
    log = (folder / "train.log").read_text()
    assert "without the perceptual loss" in log
    assert "uses DIS flow, not RAFT" in log
    assert log.count("validation: psnr") == 2


def test_missing_networks_say_what_does_without_them(tmp_path, pairs):
    low, normal = pairs(6)
    options = ["--data_path", low, "--target_path", normal]
    options += ["--syn_dir", low, "--syn_ref_dir", normal]
    where = ["--raft_model_path", tmp_path / "raft.pth", "--vgg", tmp_path / "vgg.pth"]
    output = run("train", *options, *where, fails=True)
    assert "the weights of VGG-19 are not here" in output
    assert "perceptual: off" in output
    output = run("train", *options, *where, "--no-perceptual", fails=True)
    assert "the weights of RAFT are not here" in output
    assert "flow: dis" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train train.crop=40", "crop has to be a multiple of 16"),
        ("train train.batch_size=1", "greater than or equal to 2"),
        ("train train.scale_min=3", "scale_min is larger"),
        ("train train.accumulate=3", "at least 2 samples"),
        ("train version=../../x", "string should match pattern"),
        ("train train.workers=2147483648", "less than or equal to 256"),
        ("train --use_pretrained_raft=maybe", "input should be True or False"),
        ("train --geometry_aug 0", "--geometry_aug: input should be '1'"),
        ("test --is_test_psnr_ssim maybe", "--is_test_psnr_ssim: input should be True or False"),
        ("test --version ../x", "string should match pattern"),
    ],
)
def test_settings_that_cannot_work(words, message):
    assert message in run(*words.split(), fails=True)


# Testing and enhancing


def test_test(tmp_path, random_weights, pairs):
    low, normal = pairs(8, "a", "b", "c")
    (tmp_path / "test_list.txt").write_text("a\nb\n")
    output = run(
        "--mode", "test", "--SDSD_dir", low, "--SDSD_ref_dir", normal, "--SDSD_list_dir", tmp_path,
        "--model", random_weights, "--save_path", tmp_path / "out",
    )  # fmt: skip
    written = sorted(file.name for file in (tmp_path / "out" / "frames" / "a").iterdir())
    assert written == [f"000{number}.png" for number in range(2, 6)]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 8
    assert {"psnr", "ssim", "warping_error", "mabd", "mabd_mse"} <= summary["mean_of_clips"].keys()
    assert "MABD" in output
    assert "lower is steadier" in output


def test_warping_error_along_the_flow_of_raft(tmp_path, random_weights):
    low, raft = tmp_path / "low", tmp_path / "raft-tiny.pth"
    for number in range(6):
        moving = read_photograph("chelsea")[90:130, 100 + number : 148 + number]
        write_image(low / "a" / f"{number}.png", moving)
    command = ["test", "--data_path", low, "--model", random_weights]
    output = run(*command, "--save_path", tmp_path / "none", "--raft", raft, fails=True)
    assert f"{raft}: the weights of RAFT are not here" in output
    assert "without --raft it is by DIS" in output
    assert not (tmp_path / "none").exists()
    torch.manual_seed(0)
    write_weights(raft, Raft(small=True).state_dict())
    run(*command, "--save_path", tmp_path / "dis")
    run(*command, "--save_path", tmp_path / "raft", "--raft", raft)
    errors = {}
    for name, said in (("dis", "DIS"), ("raft", "RAFT, raft-tiny.pth, sha256 ")):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["warping_error_flow"].startswith(said)
        assert f"warping error by {said}" in (tmp_path / name / "index.html").read_text()
        errors[name] = summary["mean_of_clips"]["input_warping_error"]
    assert errors["dis"] != errors["raft"]


def test_pad_gives_every_frame(tmp_path, random_weights, pairs):
    low, _ = pairs(4)
    command = ["test", "--data_path", low, "--model", random_weights]
    output = run(*command, "--save_path", tmp_path / "out", fails=True)
    assert "shorter than the network's window" in output
    run(*command, "--save_path", tmp_path / "out", "--pad")
    assert len(list((tmp_path / "out" / "frames" / "a").iterdir())) == 4


def test_all_of_16_bits_are_tested(tmp_path):
    """DRV's frames: of the upper 8 bits of these, nothing would be left."""
    frames = np.random.default_rng(0).integers(0, 256, (7, 24, 32, 3)).astype(np.uint16)
    for number, pixels in enumerate(frames):
        write_image(tmp_path / "VBM4D_rawRGB" / "a" / f"{number}.png", pixels)
        write_image(tmp_path / "long" / "a" / f"{number}.png", 255 * pixels)
    run("test", "--DRV_dir", tmp_path / "VBM4D_rawRGB", "--save_path", tmp_path / "out")
    run("enhance", tmp_path / "VBM4D_rawRGB" / "a", "-o", tmp_path / "whole")
    for name in ("2.png", "3.png"):
        tested = read_image(tmp_path / "out" / "frames" / "a" / name).pixels
        whole = read_image(tmp_path / "whole" / name).pixels
        assert (tested.dtype, whole.dtype) == (np.uint8, np.uint16)
        np.testing.assert_array_equal(tested, whole.astype(np.int64) * 255 // 65535)
        assert tested.std() > 1


def test_pictures(tmp_path, random_weights, pairs):
    low, _ = pairs(7)
    command = ["test", "--data_path", low, "--model", random_weights, "--pictures"]
    command += ["--save_path", tmp_path / "out"]
    missing = tmp_path / "raft.pth"
    output = run(*command, "--raft_model_path", missing, fails=True)
    assert f"{missing}: the weights of RAFT are not here" in output
    assert not (tmp_path / "out").exists()
    assert "of 2 windows, by DIS" in run(*command, "--flow", "dis").replace("\n", "")
    for kind in ("flo", "warp", "mask"):
        folder = tmp_path / "out" / kind / "a"
        assert sorted(file.name for file in folder.iterdir()) == ["0002.png", "0003.png"]
        assert read_image(folder / "0002.png").pixels.shape == (24, 32, 3)
