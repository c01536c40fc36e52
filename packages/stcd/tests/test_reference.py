"""STCD against values computed by the published implementation."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import fingerprint, low_light_input, video_recipe_weights
from torch import nn

from llve_common.errors import DataError
from llve_common.paper.contract import State
from llve_common.testing.reference import Case, cases, reference_json, shared_file
from llve_common.weights.files import load_into
from llve_stcd.matcher import matcher_images
from llve_stcd.network import (
    STCD,
    ChannelNorm,
    CrossAttention,
    CrossBlock,
    FeedForward,
    SelfAttention,
    SelfBlock,
)
from llve_stcd.objective import (
    correspondence_loss,
    decomposition_loss,
    pixel_loss,
    shading_smoothness,
)
from llve_stcd.weights import to_published

pytestmark = pytest.mark.reference
SET = "sdsd_stcd"
OUTPUTS = ("rgb1", "rgb2", "out1", "out2", "ill1", "ill2")
# Of our outputs, in the published order.
FIELDS = ("rgb1", "rgb2", "enhanced1", "enhanced2", "ill1", "ill2")
# Alone among the parts, the published network never uses it; ours has none.
UNUSED_PART = "LayerNorm_BiasFree"


def recipe(shapes: dict, settings: dict) -> State:
    overrides = [tuple(each) for each in settings["overrides"]]
    return video_recipe_weights(shapes, settings["weight_seed"], settings["scale"], overrides)


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> STCD:
    arguments = settings.get("arguments", {})
    network = STCD(arguments.get("nf", 64), arguments.get("front_RBs", 1))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    load_into(network, recipe(shapes, settings), "recipe")
    return network.to(dtype)


def run(network: STCD, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = network(torch.from_numpy(first), torch.from_numpy(second))
    return {
        name: getattr(found, field).numpy() for name, field in zip(OUTPUTS, FIELDS, strict=True)
    }


def relative_l2(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = np.asarray(actual, np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(expected, np.float64)))


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_state_dict", under="variants"))
def test_keys_order_shapes_and_parameters(case: Case):
    facts = case.settings
    network = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"])
    state = to_published(network.state_dict())
    assert [(key, list(value.shape), str(value.dtype)) for key, value in state.items()] == [
        (key, each["shape"], f"torch.{each['dtype']}") for key, each in facts["keys"].items()
    ]
    assert len(state) == facts["number_of_keys"]
    assert sum(p.numel() for p in network.parameters()) == facts["parameter_count"]
    assert len(list(network.buffers())) == facts["number_of_buffers"] == 0


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_state_dict", under="variants"))
def test_which_parameters_each_output_needs(case: Case):
    facts = case.settings
    network = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"])
    generator = torch.Generator().manual_seed(0)
    found = network(*torch.rand(2, 1, 3, 8, 12, generator=generator))
    names = [name for name, _ in network.named_parameters()]

    def unused(*outputs):
        gradients = torch.autograd.grad(
            sum(each.sum() for each in outputs),
            list(network.parameters()),
            retain_graph=True,
            allow_unused=True,
        )
        return [name for name, value in zip(names, gradients, strict=True) if value is None]

    assert unused(*found) == facts["unused_in_forward"]
    by_output = {
        name: unused(getattr(found, field)) for name, field in zip(OUTPUTS, FIELDS, strict=True)
    }
    assert by_output == facts["unused_by_output"]


def test_broken_variants_run_here_or_do_not_exist():
    broken = reference_json(f"{SET}/stcd_state_dict")["broken_variants"]
    assert set(broken) == {"class_defaults_HR_in_False", "nf_32"}
    # Without HR_in the published network lacks the layers that its forward pass calls: there is no
    # such argument here. Other widths run.
    found = STCD(nf=32)(torch.rand(1, 3, 8, 12), torch.rand(1, 3, 8, 12))
    assert {value.shape for value in found} == {(1, 3, 8, 12)}


def test_initial_weights_are_distributed_as_published():
    facts = reference_json(f"{SET}/stcd_init")
    torch.manual_seed(facts["torch_manual_seed"])
    state = STCD(facts["arguments"]["nf"], facts["arguments"]["front_RBs"]).state_dict()
    published = facts["per_key_mean_std_min_max"]
    assert list(published) == list(state)
    for key, (mean, std, least, largest) in published.items():
        value = state[key].numpy()
        if std == 0:
            assert value.min() == value.max() == mean, key
            continue
        # Of n draws, the mean is known to std / sqrt(n), and the deviation to a part 1 / sqrt(2 n).
        known = std / np.sqrt(value.size)
        np.testing.assert_allclose(value.mean(), mean, rtol=0, atol=6 * known, err_msg=key)
        np.testing.assert_allclose(value.std(), std, rtol=0, atol=6 * known, err_msg=key)
        spread = abs(least) + abs(largest)
        assert abs(value.max() - largest) + abs(value.min() - least) < 0.5 * spread, key


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
    swapped = run(network, second, first)
    for name, expected in case.settings["swapped_inputs"]["fingerprints"].items():
        np.testing.assert_allclose(fingerprint(swapped[name]), expected, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("case", cases(f"{SET}/stcd_forward", under="cases"))
def test_asymmetry_is_as_published(case: Case):
    found = run(network_of(case.settings), case["input1"], case["input2"])
    swapped = run(network_of(case.settings), case["input2"], case["input1"])
    exchanged = {"rgb1": "rgb2", "out1": "out2", "ill1": "ill2"}
    exchanged |= {second: first for first, second in exchanged.items()}
    difference = max(np.abs(found[a] - swapped[b]).max() for a, b in exchanged.items())
    published = case.settings["swapped_inputs"]["max_abs_diff_to_swapped_outputs"]
    assert difference == pytest.approx(published, abs=1e-4)


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


PARTS = {
    "LayerNorm_WithBias": lambda: ChannelNorm(16),
    "FeedForward": lambda: FeedForward(16),
    "Attention": lambda: SelfAttention(16),
    "Attention2": lambda: CrossAttention(16),
    "TransformerBlock": lambda: SelfBlock(16),
    "TransformerBlock2_bias": lambda: with_biases(CrossBlock(16, expansion=2.0)),
}


def with_biases(network: nn.Module) -> nn.Module:
    """Convolutions of the published network have none, but its parts can be made with them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
    return network


def test_every_part_is_covered():
    listed = reference_json(f"{SET}/stcd_modules")["cases"]
    assert set(listed) == set(PARTS) | {UNUSED_PART}


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in cases(f"{SET}/stcd_modules", under="cases")
        if case.values[0] is None or case.values[0].name != UNUSED_PART
    ],
)
def test_parts(case: Case):
    part = PARTS[case.name]()
    assert [name for name, _ in part.named_parameters()] == case.settings["parameters_in_order"]
    load_into(part, recipe(case.settings["keys"], case.settings), "recipe")
    inputs = [
        torch.from_numpy(case[f"input{index}"]).requires_grad_()
        for index in range(len(case.settings["inputs"]))
    ]
    output = part(*inputs)
    (output * torch.from_numpy(case["grad_output"])).sum().backward()
    assert relative_l2(output.detach().numpy(), case["output"]) <= 1e-5
    for index, value in enumerate(inputs):
        assert relative_l2(value.grad.numpy(), case[f"grad_input{index}"]) <= 1e-4
    for row, value in zip(case["grad_parameter_fingerprints"], part.parameters(), strict=True):
        assert relative_l2(fingerprint(value.grad.numpy()), row) <= 1e-4


def ltv_case() -> Case:
    return Case(
        f"{SET}/stcd_modules", "ltv_loss", reference_json(f"{SET}/stcd_modules")["ltv_loss"]
    )


def test_shading_smoothness():
    case = ltv_case()
    assert case.settings["alpha_beta_eps"] == [1.2, 1.5, 1e-4]
    content = torch.from_numpy(case["content"]).double().requires_grad_()
    value = 0.1 * shading_smoothness(content, torch.from_numpy(case["origin"]).double())
    value.backward()
    assert value.item() == pytest.approx(case.settings["value_weight_0.1"], rel=1e-9)
    assert relative_l2(content.grad.numpy(), case["grad_content"]) <= 1e-5
    single = 0.1 * shading_smoothness(
        torch.from_numpy(case["content"]), torch.from_numpy(case["origin"])
    )
    assert single.item() == pytest.approx(case.settings["value_float32"], rel=1e-4)


def smooth_warp(seed: int, height: int, width: int, amplitude: float) -> tuple:
    """The recipe's stand-in for a matcher: six plane waves each way, (H, 2W, 4) and (H, 2W)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1 + 1 / width, 1 - 1 / width, width)[None]
    y = np.linspace(-1 + 1 / height, 1 - 1 / height, height)[:, None]
    grid = np.broadcast_arrays(x, y)

    def waves(scale):
        total = np.zeros((height, width))
        for _ in range(6):
            kx, ky = rng.uniform(-4, 4, 2)
            phase = rng.uniform(0, 2 * np.pi)
            total = total + rng.normal() * np.sin(kx * x + ky * y + phase)
        return scale * total / np.sqrt(6)

    halves, certainties = [], []
    for half in range(2):
        places = [axis + waves(amplitude) for axis in grid]
        certainty = 1 / (1 + np.exp(-(waves(2.5) + 0.5)))
        outside = np.any(np.abs(places) > 1, axis=0)
        places = list(np.clip(places, -1, 1))
        halves.append(np.stack([*grid, *places] if half == 0 else [*places, *grid], -1))
        certainties.append(np.where(outside, 0.0, certainty))
    return (
        np.concatenate(halves, 1).astype(np.float32),
        np.concatenate(certainties, 1).astype(np.float32),
    )


def step_data(case: Case, dtype: torch.dtype) -> tuple:
    """The pair of low-light frames, the pair of targets, and the matches of a case."""
    data = Case(case.file, "data", {})
    facts = reference_json(case.file)
    warps, certainties = [], []
    for index, each in enumerate(facts["warps"]):
        warp, certainty = smooth_warp(each["seed"], each["H"], each["W"], each["amp"])
        check = Case(case.file, f"warp{index}", {})
        np.testing.assert_allclose(warp[::40, ::40], check["warp_every_40th"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            certainty[::40, ::40], check["certainty_every_40th"], rtol=0, atol=1e-6
        )
        warps.append(torch.from_numpy(warp))
        certainties.append(torch.from_numpy(certainty))
    certainty = torch.stack(certainties)
    if case.name == "cb_zero_certainty":
        certainty = torch.zeros_like(certainty)
    low, target = (
        [torch.from_numpy(data[name]).to(dtype) for name in names]
        for names in (("LQs", "LQs1"), ("GT", "GT1"))
    )
    return low, target, torch.stack(warps), certainty


def train_steps(case: Case, dtype: torch.dtype) -> dict:
    settings = case.settings
    network = network_of(settings, dtype)
    low, target, warp, certainty = step_data(case, dtype)
    criterion = settings["pixel_criterion"]
    weight = (settings["train_overrides"] or {}).get("pixel_weight", 1.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.9, 0.99))
    found: dict = {"log": [], "components": [], "gradients": [], "network": network}
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
    found["moments"] = [optimizer.state[p] for p in network.parameters()]
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


STEPS = cases(f"{SET}/stcd_steps", under="cases")


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
    actual = np.array([fingerprint(p.detach().numpy()) for p in parameters.values()])
    expected = case["parameter_fingerprints"]
    np.testing.assert_allclose(actual[:, :2], expected[:, :2], rtol=0, atol=0.1 * summed)
    np.testing.assert_allclose(actual[:, 2], expected[:, 2], rtol=1e-3)
    np.testing.assert_allclose(actual[:, 3:], expected[:, 3:], rtol=0, atol=2.1 * summed)
    moments = [
        [float(each["step"]), *(each[k].double().norm().item() for k in ("exp_avg", "exp_avg_sq"))]
        for each in found["moments"]
    ]
    np.testing.assert_allclose(moments, case["adam_step_l2avg_l2avgsq"], rtol=5e-3)


def test_every_step_is_listed():
    facts = reference_json(f"{SET}/stcd_steps")
    assert len(facts["cases"]) == len(STEPS)
    assert all(
        later["step"] == earlier["step"] + 1
        for case in facts["cases"].values()
        for earlier, later in pairwise(case["steps"])
    )


def test_images_given_to_the_matcher():
    file = f"{SET}/stcd_steps"
    facts = reference_json(file)["images_given_to_the_matcher"]
    data = Case(file, "data", {})
    for side, name in enumerate(("GT", "GT1")):
        images = matcher_images(torch.from_numpy(data[name]))
        assert images.shape[1:] == (480, 640, 3)
        assert images.dtype == np.uint8
        for sample, image in enumerate(images):
            expected = facts["fingerprints"][sample][side]
            np.testing.assert_allclose(fingerprint(image), expected, rtol=1e-12)
        # Stored without a case's name.
        with np.load(shared_file("reference", SET, "stcd_steps.npz")) as arrays:
            stored = arrays[f"matcher_image{side + 1}_sample0_every_40th"]
        np.testing.assert_array_equal(images[0, ::40, ::40], stored)
