"""Networks as ONNX: equal to the network, whole or not at all."""

import logging
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from llve_common.errors import ExportError, MediaError
from llve_common.ops.packed import PackedDeformConv2d
from llve_common.paper.contract import Window
from llve_common.weights.onnx import OPSET, export_onnx

ROOT = Path(__file__).resolve().parents[4]


class Halving(nn.Module):
    """Two frames in, two out, by way of half the size."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)

    def forward(self, frames):
        joined = frames.flatten(1, 2)
        return (joined + self.up(self.down(joined))).reshape(frames.shape)


@pytest.fixture
def halving(model):
    torch.manual_seed(0)
    return model(
        Halving().eval(),
        enhance=lambda network, frames: network(frames),
        window=Window(inputs=(0, 1), outputs=(0, 1), multiple=2),
    )


def test_windows_of_several_frames_and_a_multiple(halving, tmp_path):
    path = tmp_path / "new" / "halving.onnx"
    written = export_onnx(halving, path, {"note": "ours"})
    assert written.sizes == ((1, 2, 2), (3, 18, 34))
    assert written.difference < 1e-5
    exported = onnx.load(path)
    onnx.checker.check_model(exported, full_check=True)
    assert {one.domain: one.version for one in exported.opset_import} == {"": OPSET}
    facts = {one.key: one.value for one in exported.metadata_props}
    assert facts == {"paper": "Tiny", "multiple": "2", "rounding": "round", "note": "ours"}
    [given] = exported.graph.input
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert (given.name, sides) == ("frames", ["N", 2, 3, "2*H", "2*W"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    frames = torch.rand(2, 2, 3, 6, 50)
    [got] = session.run(["enhanced"], {"frames": frames.numpy()})
    with torch.inference_mode():
        expected = halving.network(frames)
    torch.testing.assert_close(torch.from_numpy(got), expected, atol=1e-5, rtol=0)
    # The exporter notes where each operator came from in the source, with full paths.
    assert str(ROOT).encode() not in path.read_bytes()
    assert Path(torch.__file__).parents[1].as_posix().encode() not in path.read_bytes()


class Shifting(nn.Module):
    """A deformable convolution in two groups, whose offsets are not 0."""

    def __init__(self):
        super().__init__()
        self.up = nn.Conv2d(3, 4, 1)
        self.shift = PackedDeformConv2d(4, 3, 3, padding=1, deformable_groups=2, extra_channels=4)
        nn.init.normal_(self.shift.conv_offset_mask.weight)

    def forward(self, image):
        features = self.up(image)
        return self.shift(features, features)


def test_a_deformable_convolution_becomes_that_of_onnx(model, tmp_path):
    torch.manual_seed(0)
    shifting = model(
        Shifting().eval(), enhance=lambda network, frames: network(frames[:, 0])[:, None]
    )
    assert export_onnx(shifting, tmp_path / "shifting.onnx").difference < 1e-5
    kinds = [node.op_type for node in onnx.load(tmp_path / "shifting.onnx").graph.node]
    assert kinds.count("DeformConv") == 1


def on_a_value(network, frames):
    return frames if frames.mean() > 0.5 else -frames


def one_height(network, frames):
    return frames if frames.shape[3] == 16 else -frames


def no_operator(network, frames):
    return torch.linalg.svdvals(frames)[..., None] * frames


def otherwise_when_exported(network, frames):
    return frames * (1.001 if torch.compiler.is_exporting() else 1.0)


def not_a_number(network, frames):
    return torch.log(frames - 2)


def another_shape(network, frames):
    return frames if torch.compiler.is_exporting() else frames[:, :, :1]


@pytest.mark.parametrize(
    ("enhance", "message"),
    [
        (on_a_value, "cannot be written as ONNX\n  got: GuardOnDataDependentSymNode"),
        (one_height, "onnxruntime cannot run what was exported"),
        (no_operator, "cannot be written as ONNX\n  got: DispatchError"),
        (otherwise_when_exported, "does not compute what the network does"),
        (not_a_number, "a difference of nan for N, H, W = \\(1, 1, 1\\)"),
        (another_shape, "got: \\(1, 1, 3, 1, 1\\) for .*\n  expected: \\(1, 1, 1, 1, 1\\)"),
    ],
)
def test_what_cannot_be_exported_leaves_the_folder_as_it_was(
    model, tmp_path, capfd, enhance, message
):
    path = tmp_path / "old.onnx"
    path.write_bytes(b"what stood here")
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(model(enhance=enhance), path)
    assert str(caught.value).startswith(f"{path}: ")
    assert [one.name for one in tmp_path.iterdir()] == ["old.onnx"]
    assert path.read_bytes() == b"what stood here"
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


def test_a_runtime_that_refuses(model, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("not implemented\nat length")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ExportError, match="cannot run") as caught:
        export_onnx(model(), tmp_path / "tiny.onnx")
    assert "got: RuntimeError: not implemented, for frames (1, 1, 3, 1, 1)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_library_that_is_missing(model, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExportError, match="libraries that are not installed") as caught:
        export_onnx(model(), tmp_path / "tiny.onnx")
    assert "pip install 'llve-common[onnx]'" in str(caught.value)
    assert "pip install -e 'packages/tiny[onnx]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_and_a_folder_that_cannot_be(model, tmp_path):
    with pytest.raises(ExportError, match="expected: the suffix"):
        export_onnx(model(), tmp_path / "tiny.pt")
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be written"):
        export_onnx(model(), tmp_path / "file" / "tiny.onnx")
