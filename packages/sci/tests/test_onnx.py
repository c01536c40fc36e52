"""SCI as ONNX: the command, and what onnxruntime makes of its file."""

from functools import partial

import onnx
import onnxruntime
import pytest
import torch

from llve_common.enhance.frames import enhance_frames
from llve_common.io.digest import file_digest
from llve_common.testing.conformance import run_command
from llve_common.weights.files import write_weights
from llve_common.weights.network import load_model
from llve_sci.__main__ import app
from llve_sci.network import Cascade
from llve_sci.paper import PAPER
from llve_sci.weights import to_published

run = partial(run_command, app, "weights", "onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Weights of the whole cascade under their published names, their ONNX file, what was said."""
    folder = tmp_path_factory.mktemp("onnx")
    weights, path = folder / "mine.pt", folder / "new" / "mine.onnx"
    torch.manual_seed(1)
    write_weights(weights, to_published(Cascade().state_dict()))
    return weights, path, run("--weights", weights, path)


def test_the_command_says_what_it_wrote(exported):
    weights, path, output = exported
    assert str(weights) in output
    assert f"wrote {path}: ONNX opset 20" in output
    assert "checked with onnxruntime at 1x1 and 17x33 pixels: largest difference" in output
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts["weights_sha256"] == file_digest(weights)
    assert [one.name for one in path.parent.iterdir()] == ["mine.onnx"]
    # Training's calibration is no part of what is used.
    assert not [one.name for one in model.graph.initializer if "calibrate" in one.name]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 19), (17, 33), (64, 48)])
@pytest.mark.parametrize("count", [1, 3])
def test_any_size_is_enhanced_alike(exported, count, size):
    weights, path, _ = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    frames = torch.rand(count, 1, 3, *size)
    [got] = session.run(["enhanced"], {"frames": frames.numpy()})
    expected = enhance_frames(load_model(PAPER, weights, torch.device("cpu")), frames)
    torch.testing.assert_close(torch.from_numpy(got), expected, atol=1e-5, rtol=0)
