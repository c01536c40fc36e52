"""The console commands on a tiny set."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.clip import paired_clips, read_frame
from llve_common.data.sdsd.layout import low_and_high
from llve_common.io.images import read_image
from llve_common.weights.files import read_weights, write_weights
from llve_sdsd.__main__ import app
from llve_sdsd.network import RetinexNet
from llve_sdsd.paper import PAPER

SMALL = (
    "network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1",
    "data.size=null", "data.crop=16", "train.batch_size=2", "train.workers=0",
    "run.tensorboard=false", "run.log_every=1",
)  # fmt: skip


def run(*words, fails=False):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    run("data", "synthetic", folder, "--clips", 1, "--frames", 6, "--height", 32, "--width", 48)
    return folder / "indoor_np"


def weights_of(folder, **arguments):
    torch.manual_seed(0)
    network = RetinexNet(nf=8, groups=2, front_blocks=1, back_blocks=1, **arguments)
    write_weights(folder / "w.pth", PAPER.to_published(network.state_dict()))
    return folder / "w.pth"


def losses(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_train_resume_test_enhance(tmp_path, root):
    """A run that stops and goes on ends as one that never stopped; its weights test and enhance."""
    plan = ("train.iterations=4", "train.save_every=2", "train.validate_every=2", "train.seed=3")
    train = ("train", "--data_path", root, *SMALL, *plan, "--save", tmp_path / "runs")
    run(*train, "--name", "whole")
    run(*train, "--name", "broken")
    whole, broken = (tmp_path / "runs" / name for name in ("whole", "broken"))
    (broken / "checkpoints" / "00000004.ckpt").unlink()
    (broken / "models" / "latest_G.pth").unlink()
    run("train", "--resume", broken)
    for name in ("models/latest_G.pth", "models/4_G.pth", "models/2_G.pth"):
        one, other = read_weights(whole / name), read_weights(broken / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert [line["losses"] for line in losses(whole)] == [x["losses"] for x in losses(broken)]
    # Twice scored, and said once what it is scored on.
    log = (whole / "train.log").read_text()
    assert log.count("validation: psnr") == 2
    assert log.count("10 of the test's 12 clips are missing") == 1
    assert len(list((whole / "val_images").iterdir())) == 2
    assert "keeps its settings" in run("train", "--resume", whole, "--name", "x", fails=True)

    out = tmp_path / "out"
    model = whole / "models" / "latest_G.pth"
    words = ("test", "--data_path", root, "data.size=null", "--model", model, "--save_path", out)
    output = run(*words, "--save-images")
    assert "mean of 2 clips" in output
    assert "10 of the test's 12 clips are missing" in " ".join(output.split())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rounding"] == "half-even"
    assert summary["ssim"] == "gaussian11"
    assert len(list((out / "images").glob("*/*/*.png"))) == 2 * 12

    target = tmp_path / "clip"
    run("enhance", root / "input" / "pair13", "-o", target, "--weights", model)
    enhanced = read_image(target / "0003.npy").pixels
    tested = read_image(out / "images" / "output" / "pair13" / "0003.png").pixels
    # The same way through the network: five frames in sight, and the published border mode.
    np.testing.assert_array_equal(enhanced, tested)


def test_only_the_fusion_learns_at_first(tmp_path, root):
    start = weights_of(tmp_path)
    plan = ("train.iterations=3", "train.fusion_only=3", "train.save_every=1")
    words = ("train", "--data_path", root, *SMALL, *plan, "train.validate_every=null")
    run(*words, f"weights={start}", "--save", tmp_path, "--name", "run")
    before = read_weights(start)
    for iteration in (1, 2, 3):
        after = read_weights(tmp_path / "run" / "models" / f"{iteration}_G.pth")
        changed = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
        assert (changed == {"tsa_fusion"}) == (iteration < 3)
    rates = [line["lr"] for line in losses(tmp_path / "run")]
    assert [first for first, _ in rates[:2]] == [0.0, 0.0]
    assert rates[2][0] > 0
    assert all(second > 1e-4 for _, second in rates)


@pytest.mark.parametrize("more", [{"nframes": 3}, {"attention": False}])
def test_other_networks_train_and_test(tmp_path, root, more):
    setting = "network.frames=3" if "nframes" in more else "network.attention=false"
    plan = ("train.iterations=1", "train.validate_every=1", "objective.criterion=l1")
    where = ("--save", tmp_path, "--name", "run")
    run("train", "--data_path", root, *SMALL, *plan, setting, *where)
    model = tmp_path / "run" / "models" / "latest_G.pth"
    assert (
        read_weights(model).keys()
        == RetinexNet(nf=8, groups=2, front_blocks=1, back_blocks=1, **more).state_dict().keys()
    )
    run(
        "test", "--data_path", root, "data.size=null", "data.first=2", "data.border=replicate",
        "--model", model, "--save_path", tmp_path / "out",
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 4


def test_windows_are_the_weights_own(tmp_path, root):
    model = weights_of(tmp_path, nframes=3)
    words = ("enhance", root / "input" / "pair13", "-o", tmp_path / "out", "--weights", model)
    assert "enhanced 6 frames" in run(*words)


def test_frames_are_resized_before_anything_is_done_with_them(tmp_path, root):
    model = weights_of(tmp_path)
    run(
        "test", "--data_path", root, "data.size=[32,16]", "--model", model, "--save-images",
        "--save_path", tmp_path / "out",
    )  # fmt: skip
    clip = next(each for each in paired_clips(*low_and_high(root)) if each.name == "pair13")
    written = read_image(tmp_path / "out" / "images" / "input" / "pair13" / "0002.png").pixels
    np.testing.assert_array_equal(written, read_frame(clip.frames[2], (32, 16)))


def test_a_clip_too_short_for_the_test_is_named(tmp_path, root):
    output = run("test", "--data_path", root, "data.first=4", fails=True)
    assert "pair13: the clip is too short for the border mode 'new_info'" in output


def test_published_launch_line(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    output = run("train", "-opt", "a.yml", "--launcher", "pytorch", fails=True)
    assert "torchrun --nproc_per_node=" in output
    assert "train -opt a.yml" in output
