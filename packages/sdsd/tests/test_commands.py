"""The console commands on a tiny set."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from llve_common.io.images import read_image
from llve_common.testing.conformance import run_command, write_pairs
from llve_common.weights.files import read_weights, write_weights
from llve_sdsd.__main__ import app
from llve_sdsd.network import RetinexNet
from llve_sdsd.paper import PAPER

SMALL = (
    "network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1",
    "data.size=null", "data.crop=16", "train.batch_size=2", "train.workers=0",
    "run.tensorboard=false", "run.log_every=1",
)  # fmt: skip

run = partial(run_command, app)


def narrow(**arguments):
    return RetinexNet(nf=8, groups=2, front_blocks=1, back_blocks=1, **arguments)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A clip to train on, and two of the test's twelve."""
    folder = tmp_path_factory.mktemp("set")
    for name in ("pair1", "pair13", "pair15"):
        write_pairs(folder / "input" / name, folder / "GT" / name, 6, (16, 32))
    return folder


def test_train_test_enhance(tmp_path, root):
    plan = ("train.iterations=2", "train.save_every=1", "train.validate_every=1")
    run("train", "--data_path", root, *SMALL, *plan, "--save", tmp_path, "--name", "run")
    models = tmp_path / "run" / "models"
    # Twice scored, and said once what it is scored on.
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("validation: psnr") == 2
    assert log.count("10 of the test's 12 clips are missing") == 1

    out, model = tmp_path / "out", models / "latest_G.pth"
    words = ("test", "--data_path", root, "data.size=null", "--model", model, "--save_path", out)
    output = run(*words, "--save-images")
    assert "mean of 2 clips" in output
    assert "10 of the test's 12 clips are missing" in " ".join(output.split())
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rounding"] == "half-even"
    assert summary["ssim"] == "gaussian11"
    assert len(list((out / "images").glob("*/*/*.png"))) == 2 * 12

    words = ("enhance", root / "input" / "pair13", "-o", tmp_path / "clip", "--weights", model)
    run(*words, "--precision", "fp32")
    enhanced = read_image(tmp_path / "clip" / "0003.png").pixels
    tested = read_image(out / "images" / "output" / "pair13" / "0003.png").pixels
    # The same way through the network: five frames in sight, and the published border mode.
    np.testing.assert_array_equal(enhanced, tested)


def test_only_the_fusion_learns_at_first(tmp_path, root):
    torch.manual_seed(0)
    start = tmp_path / "w.pth"
    write_weights(start, PAPER.to_published(narrow().state_dict()))
    plan = ("train.iterations=3", "train.fusion_only=3", "train.save_every=1")
    words = ("train", "--data_path", root, *SMALL, *plan, "train.validate_every=null")
    run(*words, f"weights={start}", "--save", tmp_path, "--name", "run")
    before = read_weights(start)
    for iteration in (1, 2, 3):
        after = read_weights(tmp_path / "run" / "models" / f"{iteration}_G.pth")
        changed = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
        assert (changed == {"tsa_fusion"}) == (iteration < 3)
    lines = (tmp_path / "run" / "losses.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert [first for first, _ in rates[:2]] == [0.0, 0.0]
    assert rates[2][0] > 0
    assert all(second > 1e-4 for _, second in rates)


@pytest.mark.parametrize(
    ("setting", "argument"),
    [("network.frames=3", {"nframes": 3}), ("network.attention=false", {"attention": False})],
)
def test_other_networks_train_test_and_enhance(tmp_path, root, setting, argument):
    """Which network they are of, and its window, the weights tell."""
    plan = ("train.iterations=1", "train.validate_every=1", "objective.criterion=l1")
    where = ("--save", tmp_path, "--name", "run")
    run("train", "--data_path", root, *SMALL, *plan, setting, *where)
    model = tmp_path / "run" / "models" / "latest_G.pth"
    assert read_weights(model).keys() == narrow(**argument).state_dict().keys()
    run(
        "test", "--data_path", root, "data.size=null", "data.first=2", "data.border=replicate",
        "--model", model, "--save_path", tmp_path / "out",
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"] == 4
    words = ("enhance", root / "input" / "pair13", "-o", tmp_path / "clip", "--weights", model)
    assert "enhanced 6 frames" in run(*words)


def test_a_clip_too_short_for_the_test_is_named(root):
    output = run("test", "--data_path", root, "data.first=4", fails=True)
    assert "pair13: the clip is too short for the border mode 'new_info'" in output


@pytest.mark.slow  # a minute: torch traces twenty deformable convolutions
def test_the_whole_network_as_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    output = run("weights", "onnx", tmp_path / "sdsd.onnx")
    assert "checked with onnxruntime at 16x16 and 48x80 pixels" in output
