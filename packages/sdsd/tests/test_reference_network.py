"""SDSD's network against values computed by the published implementation."""

import re

import numpy as np
import pytest
import torch
from recipes import (
    check_fingerprint,
    check_initial,
    check_module,
    check_variant,
    idle,
    low_light_input,
    relative_l2,
    with_recipe,
)
from torch import Tensor

from llve_common.errors import DataError
from llve_common.metrics.cost import parameter_count
from llve_common.testing.reference import Case, cases, reference_json
from llve_sdsd.network import AttentionFusion, Pyramid, PyramidAlignment, RetinexNet
from llve_sdsd.paper import PAPER
from llve_sdsd.weights import network_arguments

pytestmark = pytest.mark.reference
SET = "sdsd_stcd"
RENAMED = {"front_RBs": "front_blocks", "back_RBs": "back_blocks", "w_TSA": "attention"}
# Always true where they are given: frames come at full size and without deblurring.
WITHOUT_EFFECT = {"predeblur", "HR_in"}

DEFAULTS = {
    "nf": 64, "nframes": 5, "groups": 8, "front_blocks": 5, "back_blocks": 10, "attention": True,
}  # fmt: skip


def arguments_of(published: dict) -> dict:
    return {RENAMED.get(k, k): v for k, v in published.items() if k not in WITHOUT_EFFECT}


def network_of(settings: dict) -> RetinexNet:
    return with_recipe(RetinexNet(**arguments_of(settings["arguments"])), settings)


@pytest.mark.parametrize("case", cases(f"{SET}/sdsd_state_dict", under="variants"))
def test_keys_shapes_and_parameters(case: Case):
    facts = case.settings
    network = RetinexNet(**arguments_of(facts["arguments"]))
    check_variant(facts, network, PAPER)
    assert parameter_count(network.tsa_fusion) == facts["tsa_fusion_parameter_count"]
    built = DEFAULTS | arguments_of(facts["arguments"])
    # The centre frame leaves no trace in the weights; the last features are a setting of ours.
    found = network_arguments(network.state_dict())
    assert found.pop("last_features") == network.HRconv.weight.shape[0]
    assert found == {name: built[name] for name in DEFAULTS}


@pytest.mark.parametrize("case", cases(f"{SET}/sdsd_state_dict", under="variants"))
def test_weights_without_gradient(case: Case):
    facts = case.settings
    network = RetinexNet(**arguments_of(facts["arguments"]))
    frames = torch.from_numpy(low_light_input(1, (1, network.nframes, 3, 16, 16)))
    outputs = network(frames)
    assert idle(network, outputs) == facts["unused_in_forward"]
    for place, expected in facts["unused_by_output"].items():
        assert idle(network, [outputs[int(place)]]) == expected


def test_initial_weights():
    facts = reference_json(f"{SET}/sdsd_init")
    torch.manual_seed(facts["torch_manual_seed"])
    network = RetinexNet(**arguments_of(facts["arguments"]))
    check_initial(PAPER.to_published(network.state_dict()), facts["per_key_mean_std_min_max"])


@pytest.mark.parametrize("case", cases(f"{SET}/sdsd_forward", under="cases"))
def test_forward(case: Case):
    network = network_of(case.settings).eval()
    found: dict[str, list[Tensor]] = {
        name: [] for name in case.settings["intermediate_fingerprints"]
    }
    for name, results in found.items():
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, results=results: results.append(output)
        )
    frames = low_light_input(case.settings["input_seed"], tuple(case.settings["input_shape"]))
    np.testing.assert_array_equal(frames, case["input"])
    with torch.no_grad():
        enhanced, illumination, denoised = (
            each.numpy() for each in network(torch.from_numpy(frames))
        )
    assert_close(illumination, case["ill"], absolute=5e-5, relative=1e-5)
    scale = np.abs(case["fake_H2"]).max()
    assert_close(denoised / scale, case["fake_H2"] / scale, absolute=5e-5, relative=1e-5)
    assert relative_l2(enhanced, case["fake_H"]) <= 2e-4
    for name, results in found.items():
        expected = case.settings["intermediate_fingerprints"][name]
        # The published network aligns one frame after the other.
        results = torch.cat(results).unflatten(0, (-1, len(expected))).unbind(1)
        for result, numbers in zip(results, expected, strict=True):
            check_fingerprint(result, numbers, 1e-5, name)


def assert_close(actual, expected, *, absolute: float, relative: float) -> None:
    assert np.abs(actual - expected).max() <= absolute
    assert relative_l2(actual, expected) <= relative


def test_sizes():
    facts = reference_json(f"{SET}/sdsd_forward")
    [(name, sizes)] = [(k, v) for k, v in facts.items() if k.startswith("input_sizes_")]
    network = network_of(facts["cases"][re.fullmatch("input_sizes_(.*)_variant", name)[1]]).eval()
    for size, expected in sizes.items():
        height, width = map(int, size.split("x"))
        frames = torch.from_numpy(low_light_input(1, (1, network.nframes, 3, height, width)))
        if isinstance(expected, str):
            # There, whatever error PyTorch comes upon; here, one that says what is wrong.
            assert expected.startswith("RuntimeError")
            with pytest.raises(DataError, match="multiples of 16"):
                network(frames)
        else:
            with torch.no_grad():
                assert [list(each.shape) for each in network(frames)] == expected
    [longer] = [k for k in facts if re.fullmatch(r"\w+_frames_into_\w+_frame_net", k)]
    assert facts[longer].startswith("RuntimeError")
    with pytest.raises(DataError, match="number of frames"):
        network(torch.zeros(1, network.nframes + 2, 3, 32, 32))


# The others are the core's layer, tested there.
@pytest.mark.parametrize("case", cases(f"{SET}/sdsd_modules", "(?!DCNPack_).*", under="cases"))
def test_module(case: Case):
    arguments = case.settings["arguments"]
    if case.name.startswith("PAL"):
        align = PyramidAlignment(**arguments)
        check_module(case, align, lambda *each: align(Pyramid(*each[:3]), Pyramid(*each[3:])))
    else:
        assert case.name.startswith("Fusion"), "no test handles it"
        fusion = AttentionFusion(**arguments)
        check_module(case, fusion, lambda aligned: fusion(aligned.unbind(1)))
