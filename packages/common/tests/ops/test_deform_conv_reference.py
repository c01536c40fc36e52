"""Deformable convolution against values computed by the published implementation."""

import numpy as np
import pytest
import torch

from llve_common.ops.deform_conv import deform_conv2d
from llve_common.ops.packed import PackedDeformConv2d
from llve_common.testing.reference import reference_json, shared_file

pytestmark = pytest.mark.reference
SET = "sdsd_stcd"
TOLERANCE = 2e-6


def arrays(file):
    with np.load(shared_file("reference", SET, f"{file}.npz")) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


def names(file, prefix=""):
    """The cases that a file lists; one that says so where it is absent."""
    try:
        listed = reference_json(f"{SET}/{file}")["cases"]
    except pytest.skip.Exception as absent:
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=str(absent)))]
    return [name for name in listed if name.startswith(prefix)]


def error(actual, expected):
    scale = max(1.0, float(expected.abs().max()))
    return float((actual.detach() - expected).abs().max()) / scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", names("dcn_op"))
def test_operator(name, dtype, implementation):
    if implementation == "triton" and dtype == torch.float64:
        pytest.skip("Triton's kernels sum in float32")
    settings = reference_json(f"{SET}/dcn_op")["cases"][name]
    stored = {
        key.removeprefix(f"{name}/"): value
        for key, value in arrays("dcn_op").items()
        if key.startswith(f"{name}/")
    }
    inputs = {
        key: stored[key].to(dtype).requires_grad_()
        for key in ("input", "offset", "mask", "weight", "bias")
        if key in stored
    }
    assert ("bias" in inputs) == settings["bias"]
    output = deform_conv2d(
        **inputs, **{key: settings[key] for key in ("stride", "padding", "dilation")}
    )
    output.backward(stored["grad_output"].to(dtype))
    assert output.dtype == dtype
    assert error(output, stored["output"]) <= TOLERANCE
    errors = {key: error(value.grad, stored[f"grad_{key}"]) for key, value in inputs.items()}
    assert max(errors.values()) <= TOLERANCE, errors


def fill(layer, seed, scale, overrides):
    """The weights of the set's recipe: draws in sorted order of the keys."""
    rng = np.random.default_rng(seed)
    ((pattern, offset_scale),) = overrides
    state = layer.state_dict()
    for key in sorted(state):
        size = np.float32(offset_scale if pattern in key else scale)
        draw = rng.standard_normal(tuple(state[key].shape)).astype(np.float32) * size
        state[key] = torch.from_numpy(draw)
    layer.load_state_dict(state)


# What the published constructor's arguments are here.
PACKED = {
    "DCNPack_extra": {"deformable_groups": 4},
    "DCNPack_plain_stride2": {"out_channels": 6, "stride": 2, "deformable_groups": 2},
}


@pytest.mark.parametrize("name", names("sdsd_modules", "DCNPack_"))
def test_packed_layer(name, implementation):
    dtype = torch.float32 if implementation == "triton" else torch.float64
    facts = reference_json(f"{SET}/sdsd_modules")["cases"][name]
    stored = arrays("sdsd_modules")
    layer = PackedDeformConv2d(8, **{"out_channels": 8} | PACKED[name]).to(dtype)
    assert [key for key, _ in layer.named_parameters()] == facts["parameters_in_order"]
    fill(layer, facts["weight_seed"], facts["scale"], facts["overrides"])
    inputs = [
        stored[f"{name}/input{index}"].to(dtype).requires_grad_()
        for index in range(len(facts["inputs"]))
    ]
    # One input: the offsets are computed from the features themselves.
    output = layer(inputs[0], inputs[-1])
    output.backward(stored[f"{name}/grad_output"].to(dtype))
    assert relative(output, stored[f"{name}/output"]) <= 1e-5
    for index, each in enumerate(inputs):
        assert relative(each.grad, stored[f"{name}/grad_input{index}"]) <= 1e-4
    prints = stored[f"{name}/grad_parameter_fingerprints"]
    for parameter, expected in zip(layer.parameters(), prints, strict=True):
        assert relative(fingerprint(parameter.grad), expected) <= 1e-4


def relative(actual, expected):
    return float((actual.detach() - expected).norm() / expected.norm())


def fingerprint(values):
    """Mean, std, norm, minimum, maximum, and eight values evenly spread."""
    flat = values.flatten()
    spread = flat[torch.linspace(0, len(flat) - 1, 8, dtype=torch.float64).long()]
    facts = [flat.mean(), flat.std(correction=0), flat.norm(), flat.min(), flat.max()]
    return torch.cat((torch.stack(facts), spread))


def test_fresh_packed_layer():
    facts = reference_json(f"{SET}/sdsd_modules")["DCNPack_at_construction"]
    layer = PackedDeformConv2d(8, 8, deformable_groups=4)
    state = layer.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == facts["keys"]
    zero = [key for key, value in state.items() if not value.any()]
    assert zero == ["bias", "conv_offset_mask.weight", "conv_offset_mask.bias"]
    largest = float(layer.weight.detach().abs().max())
    assert 0.95 * facts["bound"] < largest <= facts["bound"] * (1 + 1e-6)


def test_offset_warning(caplog):
    facts = reference_json(f"{SET}/sdsd_modules")["offset_warning"]
    layer = PackedDeformConv2d(2, 2)
    image = torch.rand(1, 2, 4, 4)
    torch.nn.init.constant_(layer.conv_offset_mask.bias, 100.0)
    layer(image, image)
    caplog.clear()  # of the choice of an implementation, which is said once
    layer(image, image)
    assert len(caplog.records) == facts["warnings_at_mean_abs_offset_100"]
    torch.nn.init.constant_(layer.conv_offset_mask.bias, -101.0)
    layer(image, image)
    logged = [[record.levelname, record.getMessage()] for record in caplog.records]
    assert logged == facts["warnings_at_101"]
