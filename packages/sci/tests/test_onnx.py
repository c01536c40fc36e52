"""SCI as ONNX: the command, and what onnxruntime makes of its file."""

import sys

import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from llve_common.enhance.frames import enhance_frames
from llve_common.paper.contract import Model
from llve_common.weights.files import file_digest, write_weights
from llve_common.weights.network import bundled_weights, load_model
from llve_sci.__main__ import app
from llve_sci.network import Cascade
from llve_sci.paper import PAPER
from llve_sci.weights import to_published

CPU = torch.device("cpu")


def run(*words, code=0):
    result = CliRunner().invoke(app, ["weights", "onnx", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def enhance_with(path, frames):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [enhanced] = session.run(["enhanced"], {"frames": frames.numpy()})
    return torch.from_numpy(enhanced)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "sci.onnx"
    return path, run(path)


def test_the_command_says_what_it_wrote(exported):
    path, output = exported
    assert "bundled: trained by llve" in output
    assert f"wrote {path}: ONNX opset 20" in output
    assert "checked with onnxruntime at 1x1 and 17x33 pixels: largest difference" in output
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["weights_sha256"] == file_digest(bundled_weights(PAPER))
    assert [one.name for one in path.parent.iterdir()] == ["sci.onnx"]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 19), (17, 33), (64, 48)])
@pytest.mark.parametrize("count", [1, 3])
def test_any_size_is_enhanced_alike(exported, count, size):
    network = load_model(PAPER, None, CPU).network
    frames = torch.rand(count, 1, 3, *size)
    expected = enhance_frames(Model(PAPER, network), frames)
    got = enhance_with(exported[0], frames)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_weights_of_the_whole_cascade_under_published_names(tmp_path):
    torch.manual_seed(1)
    weights, path = tmp_path / "mine.pt", tmp_path / "mine.onnx"
    write_weights(weights, to_published(Cascade().state_dict()))
    assert str(weights) in run("--weights", weights, path)
    network = load_model(PAPER, weights, CPU).network
    frames = torch.rand(1, 1, 3, 7, 9)
    expected = enhance_frames(Model(PAPER, network), frames)
    torch.testing.assert_close(enhance_with(path, frames), expected, atol=1e-5, rtol=0)
    # Training's calibration is no part of what is used.
    assert not [one.name for one in onnx.load(path).graph.initializer if "calibrate" in one.name]


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    output = run(tmp_path / "sci.onnx", code=1)
    assert "pip install 'llve-common[onnx]'" in output
    assert list(tmp_path.iterdir()) == []


def test_bad_weights_and_names(tmp_path):
    assert "no such weights file" in run(
        "--weights", tmp_path / "no.pt", tmp_path / "a.onnx", code=1
    )
    assert "expected: the suffix .onnx" in run(tmp_path / "sci.pt", code=1)
    assert list(tmp_path.iterdir()) == []
