"""Deformable convolution against values computed by the published implementation."""

import re

import pytest
import torch
from recipes import check_module

from llve_common.ops.deform_conv import deform_conv2d
from llve_common.ops.packed import PackedDeformConv2d
from llve_common.testing.reference import cases, reference_json

pytestmark = pytest.mark.reference
SET = "sdsd_stcd"
TOLERANCE = 2e-6


def error(actual, expected):
    scale = max(1.0, float(expected.abs().max()))
    return float((actual.detach() - expected).abs().max()) / scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", cases(f"{SET}/dcn_op", under="cases"))
def test_operator(case, dtype, implementation):
    if implementation == "triton" and dtype == torch.float64:
        pytest.skip("Triton's kernels sum in float32")
    assert_equals_the_reference(case, dtype, torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torch", "triton"])
@pytest.mark.parametrize("case", cases(f"{SET}/dcn_op", under="cases"))
def test_operator_on_a_gpu(case, name, monkeypatch):
    monkeypatch.setenv("LLVE_DCN", name)
    assert_equals_the_reference(case, torch.float32, torch.device("cuda"))


def assert_equals_the_reference(case, dtype, device):
    """The output and all gradients; the arguments are the case's."""
    stored = {name: torch.from_numpy(case[name]).to(device) for name in case.arrays}
    inputs = {
        key: stored[key].to(dtype).requires_grad_()
        for key in ("input", "offset", "mask", "weight", "bias")
        if key in stored
    }
    assert ("bias" in inputs) == case.settings["bias"]
    output = deform_conv2d(
        **inputs, **{key: case.settings[key] for key in ("stride", "padding", "dilation")}
    )
    output.backward(stored["grad_output"].to(dtype))
    assert output.dtype == dtype
    assert error(output, stored["output"]) <= TOLERANCE
    errors = {key: error(value.grad, stored[f"grad_{key}"]) for key, value in inputs.items()}
    assert max(errors.values()) <= TOLERANCE, errors


def packed(text):
    """The layer of a published constructor: ``DCN(in, out, kernel, stride=..., ...)``."""
    channels = [int(each) for each in re.search(r"DCN\((\d+), (\d+), (\d+)", text).groups()]
    keywords = re.findall(r"(stride|padding|dilation|deformable_groups)=(\d+)", text)
    return PackedDeformConv2d(*channels, **{name: int(value) for name, value in keywords})


@pytest.mark.parametrize("case", cases(f"{SET}/sdsd_modules", "DCNPack_.*", under="cases"))
def test_packed_layer(case, implementation):
    dtype = torch.float32 if implementation == "triton" else torch.float64
    layer = packed(case.settings["arguments"])
    # One input: the offsets are computed from the features themselves.
    check_module(case, layer, lambda *inputs: layer(inputs[0], inputs[-1]), dtype)


def test_fresh_packed_layer():
    facts = reference_json(f"{SET}/sdsd_modules")["DCNPack_at_construction"]
    out_channels, in_channels, kernel, _ = facts["keys"]["weight"]
    groups = facts["keys"]["conv_offset_mask.bias"][0] // (3 * kernel**2)
    layer = PackedDeformConv2d(in_channels, out_channels, kernel, deformable_groups=groups)
    state = layer.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == facts["keys"]
    zero = [key for key, value in state.items() if not value.any()]
    assert zero == ["bias", "conv_offset_mask.weight", "conv_offset_mask.bias"]
    largest = float(layer.weight.detach().abs().max())
    assert 0.95 * facts["bound"] < largest <= facts["bound"] * (1 + 1e-6)


def test_offset_warning(caplog):
    layer = PackedDeformConv2d(2, 2)
    image = torch.rand(1, 2, 4, 4)
    layer(image, image)  # the choice of an implementation is said once
    for name, expected in reference_json(f"{SET}/sdsd_modules")["offset_warning"].items():
        if offset := re.fullmatch(r"warnings_at_\D*(\d+)", name):
            caplog.clear()
            torch.nn.init.constant_(layer.conv_offset_mask.bias, -float(offset[1]))
            layer(image, image)
            said = [[record.levelname, record.getMessage()] for record in caplog.records]
            assert (len(said) if isinstance(expected, int) else said) == expected
