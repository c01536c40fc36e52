"""The commands end to end, on the embedded set."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.synthetic import write_clip_set
from llve_common.flow.raft import Raft
from llve_common.io.images import read_image, write_image
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.weights.files import write_weights
from llve_tcenet.__main__ import app


def run(*command, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in command])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def losses(folder):
    lines = (folder / "losses.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"] for line in lines]


@pytest.fixture
def videos(tmp_path):
    """A folder with a video of seven frames, and a clip of six."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "ordinary"
    info = VideoInfo(folder / "a.mp4", 48, 40, Fraction(25), Fraction(1, 12800))
    folder.mkdir()
    with VideoWriter(folder / "a.mp4", info, width=48, height=40) as writer:
        for number in range(7):
            writer.write(rng.integers(0, 256, (40, 48, 3), np.uint8), Fraction(number, 25))
    for number in range(6):
        pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
        write_image(folder / "clips" / "b" / f"{number}.png", pixels)
    return folder


# Simulation


def test_simulate(tmp_path, videos):
    out = tmp_path / "set"
    assert "2 clips, 13 frames" in run("simulate", videos, out, "--seed", 3)
    assert (out / "train_list.txt").read_text().split() == ["a", "clips_b"]
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


def test_simulation_with_another_seed_needs_another_folder(tmp_path, videos):
    run("simulate", videos, tmp_path / "set")
    output = run("simulate", videos, tmp_path / "set", "--seed", 1, fails=True)
    assert "the clip is there already, made otherwise" in output


def test_two_sources_of_one_name_are_refused(tmp_path, videos):
    (videos / "a").mkdir()
    for number in range(6):
        write_image(videos / "a" / f"{number}.png", np.zeros((40, 48, 3), np.uint8))
    output = run("simulate", videos, tmp_path / "set", fails=True)
    assert "two sources would become one clip" in output


# Training


def test_train_on_what_simulate_made(tmp_path, videos, pairs):
    run("simulate", videos, tmp_path / "set")
    options = pairs(tmp_path / "real")
    place = options.index("--syn_dir")
    options[place + 1] = str(tmp_path / "set" / "low_and_noise")
    options[place + 3] = str(tmp_path / "set" / "normal")
    options.remove("data.synthetic.list=null")
    run(
        "--mode", "train", "--version", "Mine", *options, "--syn_list_dir", tmp_path / "set",
        "--total_epochs", 2, "--repeat_times", 1, "--train_batch_size", 2, "--lr_init", "1e-4",
        "--save_root_dir", tmp_path / "runs", "--use_tensorboard", "false", "run.log_every=1",
        f"data.validation.low={tmp_path / 'real' / 'input'}",
        f"data.validation.normal={tmp_path / 'real' / 'GT'}",
    )  # fmt: skip
    [folder] = (tmp_path / "runs").iterdir()
    names = sorted(file.name for file in (folder / "models").iterdir())
    assert names == ["Mine_epoch_1.pth", "Mine_epoch_2.pth"]
    content = torch.load(folder / "models" / "Mine_epoch_2.pth", weights_only=True)
    assert content.keys() == {"G_net", "epoch", "g_optimizer", "lr_scheduler_g"}
    assert content["epoch"] == 2
    assert len(content["g_optimizer"]["state"]) == 147
    assert {"charbonnier", "edge", "temporal", "total"} == losses(folder)[0].keys()
    log = (folder / "train.log").read_text()
    assert "without the perceptual loss" in log
    assert "uses DIS flow, not RAFT" in log
    assert log.count("validation: psnr") == 2


def test_missing_networks_say_what_does_without_them(tmp_path, pairs):
    options = [word for word in pairs(tmp_path / "set") if not word.startswith("objective.")]
    where = ["--raft_model_path", tmp_path / "raft.pth", "--vgg", tmp_path / "vgg.pth"]
    output = run("train", *options, *where, fails=True)
    assert "the weights of VGG-19 are not here" in output
    assert "perceptual: off" in output
    output = run("train", *options, *where, "--no-perceptual", fails=True)
    assert "the weights of RAFT are not here" in output
    assert "flow: dis" in output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.crop=40", "crop has to be a multiple of 16"),
        ("train.batch_size=1", "greater than or equal to 2"),
        ("train.scale_min=3", "scale_min is larger"),
        ("train.accumulate=3", "at least 2 samples"),
    ],
)
def test_settings_that_cannot_work(tmp_path, pairs, override, message):
    assert message in run("train", *pairs(tmp_path / "set"), override, fails=True)


def test_a_video_too_short_to_train_on(tmp_path, pairs):
    options = pairs(tmp_path / "set", frames=5)
    assert "the video is too short for a window" in run("train", *options, fails=True)


# Testing and enhancing


def test_test(tmp_path, random_weights):
    write_clip_set(tmp_path / "set", suffix=".png", clips=1, frames=8, height=40, width=48)
    (tmp_path / "test_list.txt").write_text("pair13\npair15\n")
    low, normal = tmp_path / "set" / "input", tmp_path / "set" / "GT"
    output = run(
        "--mode", "test", "--SDSD_dir", low, "--SDSD_ref_dir", normal, "--SDSD_list_dir", tmp_path,
        "--model", random_weights, "--save_path", tmp_path / "out",
    )  # fmt: skip
    frames = sorted((low / "pair13").iterdir())
    written = sorted(file.name for file in (tmp_path / "out" / "frames" / "pair13").iterdir())
    assert written == [f"{frame.stem}.png" for frame in frames[2:-2]]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 8
    assert {"psnr", "ssim", "warping_error", "mabd", "mabd_mse"} <= summary["mean_of_clips"].keys()
    assert "MABD" in output
    assert "lower is steadier" in output


def test_warping_error_along_the_flow_of_raft(tmp_path, random_weights):
    write_clip_set(tmp_path / "set", suffix=".png", clips=1, frames=6, height=40, width=48)
    low, raft = tmp_path / "set" / "input" / "pair13", tmp_path / "raft-tiny.pth"
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


def test_pad_gives_every_frame(tmp_path, random_weights):
    write_clip_set(tmp_path / "set", suffix=".png", clips=1, frames=4, height=40, width=48)
    low = tmp_path / "set" / "input"
    command = ["test", "--data_path", low / "pair13", "--model", random_weights]
    output = run(*command, "--save_path", tmp_path / "out", fails=True)
    assert "shorter than the network's window" in output
    run(*command, "--save_path", tmp_path / "out", "--pad")
    assert len(list((tmp_path / "out" / "frames" / "pair13").iterdir())) == 4


def test_pictures(tmp_path, random_weights):
    write_clip_set(tmp_path / "set", suffix=".png", clips=1, frames=7, height=40, width=48)
    low = tmp_path / "set" / "input" / "pair13"
    command = ["test", "--data_path", low, "--model", random_weights, "--pictures"]
    command += ["--save_path", tmp_path / "out"]
    missing = tmp_path / "raft.pth"
    output = run(*command, "--raft_model_path", missing, fails=True)
    assert f"{missing}: the weights of RAFT are not here" in output
    assert not (tmp_path / "out").exists()
    assert "of 2 windows, by DIS" in run(*command, "--flow", "dis").replace("\n", "")
    names = [f"{frame.stem}.png" for frame in sorted(low.iterdir())[2:4]]
    for kind in ("flo", "warp", "mask"):
        folder = tmp_path / "out" / kind / "pair13"
        assert sorted(file.name for file in folder.iterdir()) == names
        assert read_image(folder / names[0]).pixels.shape == (40, 48, 3)


def test_published_names_of_weights(tmp_path, random_weights, monkeypatch):
    """By version and epoch, or the last epoch of the newest run."""
    monkeypatch.chdir(tmp_path)
    write_clip_set(tmp_path / "set", suffix=".png", clips=1, frames=7, height=40, width=48)
    command = ["--mode", "test", "--version", "Mine", "--data_path", tmp_path / "set" / "input"]
    output = run(*command, "--pretrained_model", 7, fails=True)
    assert "no weights of that name" in output
    assert "expected: Mine_epoch_7.pth" in output
    for place in ("Train-1/models/Mine_epoch_7.pth", "Train-2/models/Mine_epoch_3.pth"):
        file = tmp_path / "results" / place
        file.parent.mkdir(parents=True)
        file.write_bytes(random_weights.read_bytes())
    assert "Train-2/models/Mine_epoch_3.pth" in run(*command)
    assert "Train-1/models/Mine_epoch_7.pth" in run(*command, "--pretrained_model", 7)


def test_enhance_without_weights_says_so(tmp_path):
    write_image(tmp_path / "dark.png", np.zeros((8, 8, 3), np.uint8))
    assert "no weights come with this package" in run("enhance", tmp_path / "dark.png", fails=True)
