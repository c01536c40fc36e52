"""STCD against values computed by the published implementation."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import (
    check_initial,
    check_module,
    check_moments,
    check_parameters,
    check_variant,
    fingerprint,
    idle,
    low_light_input,
    relative_l2,
    smooth_warp,
    thinned,
    with_recipe,
)
from torch import nn

from llve_common.errors import DataError
from llve_common.testing.reference import (
    Case,
    cases,
    reference_arrays,
    reference_json,
    require_known,
)
from llve_stcd.matchers import matcher_images
from llve_stcd.network import (
    STCD,
    ChannelNorm,
    CrossAttention,
    FeedForward,
    SelfAttention,
    TransformerBlock,
)
from llve_stcd.objective import (
    correspondence_loss,
    decomposition_loss,
    pixel_loss,
    shading_smoothness,
)
from llve_stcd.paper import PAPER

pytestmark = pytest.mark.reference
SET = "sdsd_stcd"
STEPS_FILE = f"{SET}/stcd_steps"
OUTPUTS = ("rgb1", "rgb2", "out1", "out2", "ill1", "ill2")
# Of our outputs, in the published order.
FIELDS = ("rgb1", "rgb2", "enhanced1", "enhanced2", "ill1", "ill2")


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> STCD:
    arguments = settings.get("arguments", {})
    network = STCD(arguments.get("nf", 64), arguments.get("front_RBs", 1))
    return with_recipe(network, settings).to(dtype)


def run(network: STCD, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = network(torch.from_numpy(first), torch.from_numpy(second))
    return {
        name: getattr(found, field).numpy() for name, field in zip(OUTPUTS, FIELDS, strict=True)
    }


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_state_dict", under="variants"))
def test_keys_order_shapes_and_parameters(case: Case):
    facts = case.settings
    network = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"])
    check_variant(facts, network, PAPER)


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_state_dict", under="variants"))
def test_which_parameters_each_output_needs(case: Case):
    facts = case.settings
    network = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"])
    generator = torch.Generator().manual_seed(0)
    found = network(*torch.rand(2, 1, 3, 8, 12, generator=generator))
    assert idle(network, found) == facts["unused_in_forward"]
    by_output = {
        name: idle(network, [getattr(found, field)])
        for name, field in zip(OUTPUTS, FIELDS, strict=True)
    }
    assert by_output == facts["unused_by_output"]


def test_broken_variants_run_here_or_do_not_exist():
    broken = reference_json(f"{SET}/stcd_state_dict")["broken_variants"]
    # Without HR_in the published network lacks the layers that its forward pass calls: there is no
    # such argument here. Other widths run.
    require_known(broken, r".*_HR_in_False", r"nf_\d+")
    for name in broken:
        if width := re.fullmatch(r"nf_(\d+)", name):
            found = STCD(nf=int(width[1]))(torch.rand(1, 3, 8, 12), torch.rand(1, 3, 8, 12))
            assert {value.shape for value in found} == {(1, 3, 8, 12)}


def test_initial_weights_are_distributed_as_published():
    facts = reference_json(f"{SET}/stcd_init")
    torch.manual_seed(facts["torch_manual_seed"])
    state = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"]).state_dict()
    check_initial(state, facts["per_key_mean_std_min_max"])


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_forward", under="cases"))
def test_forward(case: Case):
    first, second = case["input1"], case["input2"]
    for seed, image in zip(case.settings["input_seeds"], (first, second), strict=True):
        assert np.array_equal(low_light_input(seed, image.shape), image)
    network = network_of(case.settings)
    found = run(network, first, second)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], case[name], rtol=0, atol=5e-5, err_msg=name)
        assert relative_l2(found[name], case[name]) <= 1e-5, name
    swapped, facts = run(network, second, first), case.settings["swapped_inputs"]
    for name, expected in facts["fingerprints"].items():
        np.testing.assert_allclose(fingerprint(swapped[name]), expected, rtol=1e-5, atol=5e-5)
    # Exchanging the frames does not just exchange the outputs.
    exchanged = [swapped[OUTPUTS[place ^ 1]] for place in range(len(OUTPUTS))]
    difference = max(np.abs(found[a] - b).max() for a, b in zip(OUTPUTS, exchanged, strict=True))
    assert difference == pytest.approx(facts["max_abs_diff_to_swapped_outputs"], abs=1e-4)


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_forward", under="cases"))
def test_intermediate_features(case: Case):
    network = network_of(case.settings)
    seen: dict[str, list] = {name: [] for name in case.settings["intermediate_fingerprints"]}

    def watch(name):
        # The published activation overwrites its input, which is what was recorded.
        activate = F.leaky_relu if name.startswith("conv_first") else lambda x, slope: x
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: seen[name].append(fingerprint(activate(output, 0.1)))
        )

    for name in seen:
        watch(name)
    run(network, case["input1"], case["input2"])
    for name, facts in case.settings["intermediate_fingerprints"].items():
        np.testing.assert_allclose(seen[name], facts, rtol=1e-4, atol=5e-5, err_msg=name)


def test_input_sizes():
    sizes = reference_json(f"{SET}/stcd_forward")["input_sizes"]
    network = STCD(nf=8)
    for name, expected in sizes.items():
        height, width = map(int, name.split("x"))
        images = torch.rand(2, 1, 3, height, width)
        if isinstance(expected, list):
            assert {list(value.shape) == expected for value in network(*images)} == {True}
        else:
            with pytest.raises(DataError, match="multiples of 4"):
                network(*images)


def part_of(name: str, arguments: list) -> nn.Module:
    """A part of the network by its published class and arguments, the first of them its width."""
    expansion = next((each for each in arguments if isinstance(each, float)), None)
    part = {
        "LayerNorm": lambda: ChannelNorm(arguments[0]),
        "FeedForward": lambda: FeedForward(arguments[0], expansion),
        "Attention": lambda: SelfAttention(arguments[0]),
        "Attention2": lambda: CrossAttention(arguments[0]),
        "TransformerBlock": lambda: TransformerBlock(arguments[0], SelfAttention, expansion),
        "TransformerBlock2": lambda: TransformerBlock(arguments[0], CrossAttention, expansion),
    }[name.partition("_")[0]]()
    if any(each is True for each in arguments):
        # Convolutions of the published network have no bias, but its parts can be made with it.
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d):
                layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    return part


# Alone among the parts, the published network never uses the norm without bias; ours has none.
@pytest.mark.parametrize(
    "case", cases(f"{SET}/stcd_modules", "(?!LayerNorm_BiasFree).*", under="cases")
)
def test_parts(case: Case):
    part = part_of(case.name, case.settings["arguments"])
    shapes = {key: list(value.shape) for key, value in part.named_parameters()}
    assert shapes == case.settings["keys"]
    check_module(case, part, part)


def test_shading_smoothness():
    name, file = "ltv_loss", f"{SET}/stcd_modules"
    case = Case(file, name, reference_json(file)[name])
    # Constants of the published loss.
    assert case.settings["alpha_beta_eps"] == [1.2, 1.5, 1e-4]
    content, origin = (torch.from_numpy(case[each]) for each in ("content", "origin"))
    [weighted] = [key for key in case.settings if key.startswith("value_weight_")]
    weight = float(weighted.removeprefix("value_weight_"))
    double = content.double().requires_grad_()
    value = weight * shading_smoothness(double, origin.double())
    value.backward()
    assert value.item() == pytest.approx(case.settings[weighted], rel=1e-9)
    assert relative_l2(double.grad, case["grad_content"]) <= 1e-5
    single = weight * shading_smoothness(content, origin)
    assert single.item() == pytest.approx(case.settings["value_float32"], rel=1e-4)


def step_data(case: Case, dtype: torch.dtype) -> tuple:
    """The pair of low-light frames, the pair of targets, and the matches of a case."""
    data = Case(case.file, "data", {})
    made = []
    for index, each in enumerate(reference_json(case.file)["warps"]):
        warp, certainty = smooth_warp(each["seed"], each["H"], each["W"], each["amp"])
        check_thinned(warp, f"warp{index}/warp")
        check_thinned(certainty, f"warp{index}/certainty")
        made.append((torch.from_numpy(warp), torch.from_numpy(certainty)))
    warp, certainty = (torch.stack(each) for each in zip(*made, strict=True))
    if "zero_certainty" in case.name:
        certainty = torch.zeros_like(certainty)
    low, target = (
        [torch.from_numpy(data[name]).to(dtype) for name in names]
        for names in (("LQs", "LQs1"), ("GT", "GT1"))
    )
    return low, target, warp, certainty


def check_thinned(values: np.ndarray, name: str) -> None:
    """Compare with the array that keeps some of the rows and columns: ``NAME_every_40th``."""
    stored = reference_arrays(STEPS_FILE)
    [(full, step)] = [(each, thinned(each)[1]) for each in stored if thinned(each)[0] == name]
    np.testing.assert_allclose(values[::step, ::step], stored[full], rtol=0, atol=1e-6)


def train_steps(case: Case, dtype: torch.dtype) -> dict:
    settings = case.settings
    network = network_of(settings, dtype)
    low, target, warp, certainty = step_data(case, dtype)
    criterion = settings["pixel_criterion"]
    given = settings["train_overrides"] or {}
    weight = given.get("pixel_weight", 1.0)
    betas = given.get("beta1", 0.9), given.get("beta2", 0.99)
    decay = given.get("weight_decay_G", 0.0)
    optimizer = torch.optim.Adam(network.parameters(), betas=betas, weight_decay=decay)
    found: dict = {"log": [], "components": [], "gradients": []}
    found |= {"network": network, "optimizer": optimizer}
    for step in settings["steps"]:
        optimizer.param_groups[0]["lr"] = step["lr"][0]
        optimizer.zero_grad()
        outputs = network(*low)
        losses = decomposition_loss(
            outputs, *target, warp, certainty, criterion=criterion, pixel_weight=weight
        )
        torch.stack(list(losses.values())).sum().backward()
        found["log"].append([value.item() for value in losses.values()])
        found["components"].append(components(outputs, target, warp, certainty, criterion))
        found["gradients"].append([p.grad.double().numpy().copy() for p in network.parameters()])
        optimizer.step()
    return found


def components(outputs, target, warp, certainty, criterion) -> dict[str, float]:
    with torch.no_grad():
        found = {
            "pix(out1,GT)": pixel_loss(outputs.enhanced1, target[0], criterion),
            "pix(out2,GT1)": pixel_loss(outputs.enhanced2, target[1], criterion),
            "tv(ill1,GT)": 0.1 * shading_smoothness(outputs.ill1, target[0]),
            "tv(ill2,GT1)": 0.1 * shading_smoothness(outputs.ill2, target[1]),
        }
        each = correspondence_loss(outputs.rgb1, outputs.rgb2, warp, certainty, criterion)
    return {name: value.item() for name, value in found.items()} | {"correspondence": each.numpy()}


STEPS = cases(STEPS_FILE, under="cases")


@pytest.mark.parametrize("case", STEPS)
def test_training_steps_in_double_precision(case: Case):
    found = train_steps(case, torch.float64)
    for index, step in enumerate(case.settings["steps_float64"]):
        np.testing.assert_allclose(found["log"][index], list(step["log"].values()), rtol=1e-9)
        check_components(found["components"][index], step["components"], 1e-9)
    for row, value in zip(case["gradient_fingerprints_step1"], found["gradients"][0], strict=True):
        assert relative_l2(fingerprint(value), row) <= 2e-6


def check_components(found: dict, published: dict, tolerance: float) -> None:
    ways = {name: value for name, value in published.items() if "consistency" in name}
    both_ways = [
        (ways[f"consistency_1from2_sample{k}"] + ways[f"consistency_2from1_sample{k}"]) / 2
        for k in range(len(ways) // 2)
    ]
    np.testing.assert_allclose(found["correspondence"], both_ways, rtol=tolerance)
    assert set(found) - {"correspondence"} == set(published) - set(ways)
    for name in set(found) - {"correspondence"}:
        assert found[name] == pytest.approx(published[name], rel=tolerance), name


@pytest.mark.parametrize("case", STEPS)
def test_training_steps_in_single_precision(case: Case):
    settings = case.settings
    found = train_steps(case, torch.float32)
    for index, step in enumerate(settings["steps"]):
        for name, actual in zip(step["log"], found["log"][index], strict=True):
            # The smoothness weights its squares by up to 15000, which rounds most.
            tolerance = 1e-5 if index == 0 and name != "l_tv" else 1e-4
            assert actual == pytest.approx(step["log"][name], rel=tolerance), name
    norms = np.array([[np.linalg.norm(g) for g in step] for step in found["gradients"]])
    np.testing.assert_allclose(norms, case["gradient_l2_per_step"], rtol=2e-3)
    summed = sum(step["lr"][0] for step in settings["steps"])
    parameters = dict(found["network"].named_parameters())
    assert list(parameters) == settings["parameters_in_order"]
    actual = np.array([fingerprint(p.detach()) for p in parameters.values()])
    check_parameters(actual, case["parameter_fingerprints"], summed)
    check_moments(found["optimizer"], found["network"], case["adam_step_l2avg_l2avgsq"], 5e-3)


def test_images_given_to_the_matcher():
    facts = reference_json(STEPS_FILE)["images_given_to_the_matcher"]
    data = Case(STEPS_FILE, "data", {})
    size = [int(side) for side in re.findall(r"\d+", facts["sizes_and_mode"][0][0])]
    for side, name in enumerate(("GT", "GT1")):
        images = matcher_images(torch.from_numpy(data[name]))
        assert images.shape[1:] == (*size[::-1], 3)
        assert images.dtype == np.uint8
        for sample, image in enumerate(images):
            expected = facts["fingerprints"][sample][side]
            np.testing.assert_allclose(fingerprint(image), expected, rtol=1e-12)
        check_thinned(images[0], f"matcher_image{side + 1}_sample0")
