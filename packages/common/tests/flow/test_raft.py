"""RAFT against the published implementation, and its parts against slow loops."""

import math
import re

import numpy as np
import pytest
import torch
from recipes import check_keys, relative_l2, thinned, with_tcenet_recipe

from llve_common.errors import CheckpointError, DataError
from llve_common.flow.raft import Raft, convex_upsample, look_up, raft_flow, raft_frame_flow
from llve_common.metrics.cost import parameter_count
from llve_common.testing.reference import cases, check_summary, reference_json
from llve_common.weights.pretrained import load_raft

SET = "tcenet"
FILE = f"{SET}/raft_forward"
# The set's README: "Suggested tolerances".
LOW, FULL, GRADIENT = 1e-4, 3e-4, 2e-2


CASES = pytest.mark.parametrize("case", cases(FILE, under="cases", joint="_"))


def keys_of(small):
    return "keys_raft_small" if small else "keys_raft"


def network_of(case):
    small, facts = case.settings["small"], reference_json(FILE)
    seed, scale = facts["weight_seed"], facts["weight_scale"]
    network = with_tcenet_recipe(lambda _: Raft(small=small), keys_of(small), seed, scale)
    return network.train(case.settings["mode"] == "train")


def images_of(case):
    pixels = torch.from_numpy(case["images_u8"])
    images = pixels.permute(1, 0, 4, 2, 3).float() / 255
    ranges = {"[0,1] (u8/255)": images, "[-1,1] (2*u8/255-1)": 2 * images - 1}
    return [image.clone().requires_grad_() for image in ranges[case.settings["input_range"]]]


@pytest.mark.reference
@pytest.mark.parametrize("small", [False, True])
def test_published_names_shapes_and_order(small):
    facts = reference_json(f"{SET}/{keys_of(small)}")
    network = Raft(small=small)
    check_keys(network.state_dict(), facts["keys"])
    assert parameter_count(network) == facts["n_parameters"]
    state = network.state_dict(keep_vars=True)
    for one, other in facts["aliases"]:
        assert state[one] is state[other]


@pytest.mark.reference
@CASES
def test_every_iteration_of_the_published_code(case):
    facts, network = case.settings, network_of(case)
    with torch.no_grad():
        found = network(*images_of(case), iterations=reference_json(FILE)["iters"], every=True)
    np.testing.assert_allclose(found.low, case["flow_low"], rtol=0, atol=LOW)
    np.testing.assert_allclose(found.flow, case["flow_up"], rtol=0, atol=FULL)
    check_summary(found.low, facts["flow_low"], rtol=LOW, atol=LOW)
    for flow, summary in zip(found.flows, facts["per_iteration_flow_up"], strict=True):
        check_summary(flow, summary, rtol=FULL, atol=FULL)
    state = network.state_dict()
    for key, summary in facts.get("bn_after", {}).items():
        check_summary(state[key], summary, rtol=1e-4, atol=1e-4, name=key)


@pytest.mark.reference
@CASES
def test_image_gradients_of_the_published_code(case):
    facts, images = case.settings["grad"], images_of(case)
    flow = network_of(case)(*images, iterations=reference_json(FILE)["iters"]).flow
    weights = re.fullmatch(
        r"mean\(flow_up \* linspace\(([\d.]+),([\d.]+),numel\)\.view_as\(flow_up\)\)", facts["loss"]
    )
    ends = (float(end) for end in weights.groups())
    loss = (flow * torch.linspace(*ends, flow.numel()).view_as(flow)).mean()
    assert loss.item() == pytest.approx(facts["value"], rel=1e-5)
    loss.backward()
    gradients = {f"image{number}": image.grad for number, image in enumerate(images, 1)}
    for name, gradient in gradients.items():
        assert gradient.norm().item() == pytest.approx(facts[name]["l2"], rel=GRADIENT)
    for array in set(case.arrays) - {"images_u8", "flow_low", "flow_up"}:
        name, step = thinned(array.removeprefix("grad_"))
        assert relative_l2(gradients[name][..., ::step, ::step], case[array]) < GRADIENT


@pytest.mark.reference
@CASES
def test_a_start_flow_of_the_published_code(case):
    facts, images = case.settings["flow_init_case"], images_of(case)
    told = re.match(r"x component (\S+), y (\S+) \(at 1/8 size\)", facts["flow_init"])
    count, _, height, width = images[0].shape
    start = torch.empty(count, 2, height // 8, width // 8)
    start[:, 0], start[:, 1] = (float(each) for each in told.groups())
    with torch.no_grad():
        found = network_of(case)(*images, iterations=facts["iters"], start=start)
    check_summary(found.flow, facts["flow_up"], rtol=FULL, atol=FULL)


def slow_look_up(pyramid, position, radius):
    """One sample at a time, with Python's own arithmetic; channels in the published order."""
    batch, _, height, width = position.shape
    side = 2 * radius + 1
    out = np.zeros((batch, len(pyramid) * side**2, height, width))
    for n, y, x in np.ndindex(batch, height, width):
        channels = iter(range(out.shape[1]))
        for level, correlation in enumerate(pyramid):
            row = correlation[n, y * width + x]
            for a in range(-radius, radius + 1):
                for b in range(-radius, radius + 1):
                    px = float(position[n, 0, y, x]) / 2**level + a
                    py = float(position[n, 1, y, x]) / 2**level + b
                    out[n, next(channels), y, x] = bilinear(row, px, py)
    return out


def bilinear(image, x, y):
    """One value, with zeros outside the image."""
    total = 0.0
    for j, i in [(math.floor(y) + j, math.floor(x) + i) for j in (0, 1) for i in (0, 1)]:
        if 0 <= j < image.shape[0] and 0 <= i < image.shape[1]:
            total += (1 - abs(y - j)) * (1 - abs(x - i)) * float(image[j, i])
    return total


def test_look_up_equals_a_slow_loop():
    rng = torch.Generator().manual_seed(1)
    pyramid = [
        torch.randn(2, 6, *size, generator=rng, dtype=torch.float64)
        for size in [(8, 12), (4, 6), (2, 3)]
    ]
    # Inside, on whole pixels, and far outside.
    position = 14 * torch.rand(2, 2, 2, 3, generator=rng, dtype=torch.float64) - 3
    position[:, :, 0, 0] = torch.tensor([[2.0, 5.0], [40.0, -40.0]], dtype=torch.float64)
    expected = slow_look_up(pyramid, position, radius=1)
    np.testing.assert_allclose(look_up(pyramid, position, radius=1), expected, atol=1e-12)
    assert np.abs(expected[1, :, 0, 0]).max() == 0


def test_upsampling_takes_the_neighbour_that_the_mask_chooses():
    flow = torch.arange(40.0).view(1, 2, 4, 5)
    mask = torch.full((1, 9, 8, 8, 4, 5), -100.0)
    mask[:, 4] = 0
    mask[:, 4, 2, 7, 1, 3], mask[:, 5, 2, 7, 1, 3] = -100, 0
    fine = convex_upsample(flow, mask.flatten(1, 3))
    expected = 8 * flow.repeat_interleave(8, 2).repeat_interleave(8, 3)
    expected[..., 8 + 2, 24 + 7] = 8 * flow[..., 1, 4]
    torch.testing.assert_close(fine, expected)


def random_network(seed=0, **options):
    torch.manual_seed(seed)
    return Raft(**options).eval()


@pytest.mark.parametrize("small", [False, True])
def test_shapes_and_iterations(small):
    network = random_network(small=small)
    images = torch.rand(2, 2, 3, 128, 136)
    with torch.no_grad():
        found = network(*images, iterations=3, every=True)
        last = network(*images, iterations=3)
    assert found.low.shape == (2, 2, 16, 17)
    assert [tuple(flow.shape) for flow in found.flows] == [(2, 2, 128, 136)] * 3
    assert len(last.flows) == 1
    assert torch.equal(last.flow, found.flow)
    assert not torch.equal(found.flows[0], found.flow)


@pytest.mark.parametrize("size", [(120, 128), (128, 132), (96, 96), (1, 1)])
def test_sizes_that_do_not_fit_are_refused(size):
    images = torch.rand(2, 1, 3, *size)
    with pytest.raises(DataError, match="do not fit RAFT") as caught:
        random_network(small=True)(*images)
    assert f"got: {size[1]}x{size[0]}" in str(caught.value)


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 3, 128, 128), (1, 3, 128, 136)),
        ((1, 1, 128, 128), (1, 1, 128, 128)),
        ((3, 128, 128), (3, 128, 128)),
        ((0, 3, 128, 128), (0, 3, 128, 128)),
    ],
)
def test_images_that_do_not_fit_are_refused(shapes):
    network = random_network(small=True)
    first, second = (torch.zeros(shape) for shape in shapes)
    for call in (network, lambda *images: raft_flow(network, *images)):
        with pytest.raises(DataError, match="two images do not fit"):
            call(first, second)


@pytest.mark.parametrize(("size", "padded"), [((9, 150), (128, 152)), ((131, 40), (136, 128))])
def test_any_size_is_padded_by_replication_and_cropped(size, padded):
    network = random_network(small=True)
    images = torch.rand(2, 1, 3, *size)
    rows = torch.arange(padded[0]).clamp(max=size[0] - 1)
    columns = torch.arange(padded[1]).clamp(max=size[1] - 1)
    with torch.no_grad():
        whole = network(*images[..., rows[:, None], columns], iterations=2).flow
        flow = raft_flow(network, *images, iterations=2)
    assert torch.equal(flow, whole[..., : size[0], : size[1]])


def test_image_range_and_frames():
    network, images = random_network(small=True), torch.rand(2, 1, 3, 128, 128)
    pixels = (255 * images).round().byte()
    images = pixels / 255
    with torch.no_grad():
        unit = raft_flow(network, *images)
        signed = raft_flow(network, *images, image_range="signed")
        assert torch.equal(unit, network(*images).flow)
        assert torch.equal(signed, network(*(2 * images - 1)).flow)
    assert not torch.equal(unit, signed)
    first, second = (image[0].permute(1, 2, 0).numpy() for image in pixels)
    frame_flow = raft_frame_flow(network, first, second)
    np.testing.assert_array_equal(frame_flow, signed[0].permute(1, 2, 0).numpy())
    first.flags.writeable = False
    np.testing.assert_array_equal(raft_frame_flow(network, first, second), frame_flow)
    with pytest.raises(DataError, match="first frame does not fit"):
        raft_frame_flow(network, first / np.float32(255), second)


def test_gradients_reach_both_images_of_any_size():
    network = random_network(small=True).requires_grad_(False)
    images = [torch.rand(1, 3, 60, 130, requires_grad=True) for _ in range(2)]
    raft_flow(network, *images, iterations=2).square().sum().backward()
    assert all(image.grad.abs().max() > 0 for image in images)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_a_published_file_loads(tmp_path, small, statistics):
    state = random_network(small=small).state_dict()
    file = tmp_path / "raft.pth"
    torch.save({f"module.{key}": value for key, value in state.items()}, file)
    network = load_raft(file, statistics=statistics)
    assert network.small == small
    assert network.training == (statistics == "batch")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_of_two_names_for_one_layer_the_last_wins(tmp_path):
    state = random_network().state_dict()
    state["cnet.layer2.0.norm3.bias"] = torch.full((96,), 1.0)
    state["cnet.layer2.0.downsample.1.bias"] = torch.full((96,), 2.0)
    torch.save(state, tmp_path / "raft.pth")
    layer = load_raft(tmp_path / "raft.pth").cnet.layer2[0]
    assert layer.norm3 is layer.downsample[1]
    assert (layer.norm3.bias == 2).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fnet.conv2.bias": torch.zeros(3)}, "fnet.conv2.bias is (3,), expected (256,)"),
        ({"fnet.conv3.bias": torch.zeros(3)}, "unknown fnet.conv3.bias"),
        ({"cnet.layer2.0.norm3.weight": None}, "missing cnet.layer2.0.norm3.weight"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path, change, message):
    state = random_network().state_dict() | change
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "raft.pth")
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        load_raft(tmp_path / "raft.pth")
    assert message in str(caught.value)


def test_a_file_that_is_not_finite(tmp_path):
    state = random_network(small=True).state_dict() | {"fnet.conv2.bias": torch.full((128,), 1e400)}
    torch.save(state, tmp_path / "raft.pth")
    with pytest.raises(CheckpointError, match=r"not finite numbers\n  got: fnet.conv2.bias"):
        load_raft(tmp_path / "raft.pth")


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_raft(tmp_path / "raft-things.pth")
    for part in ("raft-things.pth: the weights of RAFT", "princeton-vl/RAFT", "flow: dis"):
        assert part in str(caught.value)


@pytest.mark.gpu
def test_equals_the_cpu_on_a_gpu():
    network = random_network().double()
    images = torch.rand(2, 1, 3, 128, 136, dtype=torch.float64)
    with torch.no_grad():
        on_cpu = network(*images).flow
        on_gpu = network.cuda()(*images.cuda()).flow.cpu()
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-6, rtol=1e-6)
