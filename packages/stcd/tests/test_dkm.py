"""DKMv3's own properties, with nothing from outside the checkout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.errors import CheckpointError, DataError
from llve_common.metrics.cost import parameter_count
from llve_stcd.dkm import correlation
from llve_stcd.dkm.correlation import local_correlation
from llve_stcd.dkm.decoder import Decoder, Estimate
from llve_stcd.dkm.gaussian_process import GaussianProcess
from llve_stcd.dkm.network import PUBLISHED, DKMv3, Resolution, load, warp_and_certainty
from llve_stcd.dkm.positions import grid

SIZE = (40, 54)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def matcher() -> DKMv3:
    """Random weights: for what holds with any."""
    torch.manual_seed(0)
    return DKMv3(Resolution(SIZE))


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8) for i in range(count)]


# Positions


def test_grid_of_pixel_centres():
    expected = [[[-0.75, -0.25, 0.25, 0.75]] * 2, [[-0.5] * 4, [0.5] * 4]]
    assert grid(torch.zeros(3, 1, 2, 4)).tolist() == expected


# Gaussian process


def test_gaussian_process_against_an_explicit_inverse():
    torch.manual_seed(0)
    process = GaussianProcess(6).double()
    first = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    second = torch.randn(2, 8, 2, 5, dtype=torch.float64)
    weight, bias = process.pos_conv.weight.flatten(1), process.pos_conv.bias
    positions = grid(second).flatten(1)
    values = torch.cos(8 * torch.pi * (weight @ positions + bias[:, None])).T
    for item in range(2):
        a, b = first[item].flatten(1).T, second[item].flatten(1).T
        k_bb = torch.tensor([[alike(p, q) for q in b] for p in b], dtype=torch.float64)
        k_ab = torch.tensor([[alike(p, q) for q in b] for p in a], dtype=torch.float64)
        mean = k_ab @ torch.linalg.inv(k_bb + 0.1 * torch.eye(10)) @ values
        found = process(first, second)[item].flatten(1).T
        torch.testing.assert_close(found, mean, rtol=1e-9, atol=1e-9)


def alike(a: Tensor, b: Tensor) -> float:
    return float(torch.exp((a @ b / (a.norm() * b.norm() + 1e-6) - 1) / 0.2))


def test_gaussian_process_of_a_plain_picture_at_the_published_size():
    # All features alike: the worst conditioned kernel matrix there is.
    torch.manual_seed(0)
    process = GaussianProcess(16)
    process.pos_conv.weight *= 0.01  # a smooth embedding, whose average is not near 0
    features = torch.rand(1, 32, 1, 1).expand(-1, -1, 30, 40)
    exact = process.double()(features.double(), features.double())
    found = process.float()(features, features)
    assert exact.abs().mean() > 0.3
    torch.testing.assert_close(found, exact.float(), rtol=0, atol=5e-3)


# Local correlation


def correlation_by_offsets(first: Tensor, second: Tensor, flow: Tensor, radius: int) -> Tensor:
    _, channels, height, width = first.shape
    found = []
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            offset = torch.tensor([2 * column / width, 2 * row / height], dtype=flow.dtype)
            positions = (flow + offset.view(1, 2, 1, 1)).permute(0, 2, 3, 1)
            sampled = F.grid_sample(second, positions, align_corners=False)
            found.append((first * sampled).sum(1) / channels**0.5)
    return torch.stack(found, 1)


@pytest.mark.parametrize("gathered", [1, 700, 2**21])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_local_correlation_against_sampling_at_every_offset(radius, gathered, monkeypatch):
    monkeypatch.setattr(correlation, "_GATHERED", gathered)
    torch.manual_seed(radius)
    first, second = torch.randn(2, 2, 5, 6, 9, dtype=torch.float64)
    flow = torch.empty(2, 2, 6, 9, dtype=torch.float64).uniform_(-1.6, 1.6)
    flow[0, :, :2] = grid(first)[:, :2]
    flow[1, :, 0, 0], flow[1, :, 0, 1] = 1e6, -1e6
    expected = correlation_by_offsets(first, second, flow, radius)
    found = local_correlation(first, second, flow, radius)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_local_correlation_reads_nothing_outside_for_a_broken_flow(value):
    features = torch.ones(1, 4, 3, 3)
    flow = grid(features)[None].clone()
    flow[0, :, 1, 1] = value
    found = local_correlation(features, features, flow, 1)
    assert found[..., 0, 0].isfinite().all()
    assert found.shape == (1, 9, 3, 3)


# Refiner


def test_refining_moves_by_eighths_of_a_stride_and_adds_certainty():
    decoder = Decoder().eval()
    channels = {8: 512, 4: 256, 2: 64, 1: 3}
    features = {s: torch.randn(1, c, 48 // s, 64 // s) for s, c in channels.items()}
    start = Estimate(torch.zeros(1, 2, 3, 3), torch.ones(1, 1, 3, 3))
    for refiner in decoder.conv_refiner.values():
        refiner.out_conv.weight.zero_()
        refiner.out_conv.bias.copy_(torch.tensor([0.5, 8.0, -16.0]))
    estimates = decoder.refine(features, features, start)
    assert list(estimates) == [8, 4, 2, 1]
    assert estimates[1].flow.shape == (1, 2, 48, 64)
    for stride, moved, certainty in ((8, 8, 1.5), (4, 12, 2), (2, 14, 2.5), (1, 15, 3)):
        flow = estimates[stride].flow
        # An image's width is 2.
        torch.testing.assert_close(flow[:, 0], torch.full_like(flow[:, 0], 2 * moved / 64))
        torch.testing.assert_close(flow[:, 1], torch.full_like(flow[:, 1], -4 * moved / 48))
        logit = estimates[stride].certainty
        torch.testing.assert_close(logit, torch.full_like(logit, certainty))


# The matcher


def test_published_size(matcher):
    assert parameter_count(matcher) == 72_261_090
    state = matcher.state_dict()
    assert len(state) == 813
    assert sum(value.dtype == torch.int64 for value in state.values()) == 102
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    channels = {k: r.out_conv.in_channels for k, r in matcher.decoder.conv_refiner.items()}
    assert channels == {"16": 1377, "8": 1137, "4": 569, "2": 144, "1": 24}


@pytest.mark.parametrize("second_pass", [None, (50, 61)])
def test_a_batch_is_its_pairs(matcher, second_pass, monkeypatch):
    monkeypatch.setattr(matcher, "resolution", Resolution(SIZE, second_pass))
    first, second = pictures(2), pictures(2, seed=1)
    warps, certainties = matcher.match(first, second)
    assert warps.shape[1] == (second_pass or SIZE)[0]
    for item in range(2):
        warp, certainty = matcher.match([first[item]], [second[item]])
        torch.testing.assert_close(warps[item], warp[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(certainties[item], certainty[0], rtol=0, atol=1e-4)


def test_single_precision_without_gradients_whatever_is_around(matcher):
    first, second = ([picture] for picture in pictures(2))
    warp, certainty = matcher.match(first, second)
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        again, again_certainty = matcher.match(first, second)
    assert torch.equal(again, warp)
    assert torch.equal(again_certainty, certainty)
    assert again.dtype == torch.float32
    assert not again.requires_grad


def test_coarse_features_are_not_computed_for_the_second_pass(matcher):
    image = torch.randn(1, 3, *SIZE)
    fine, whole = matcher.encoder(image, coarsest=8), matcher.encoder(image)
    assert list(fine) == [1, 2, 4, 8]
    assert [tuple(whole[s].shape[1:]) for s in (1, 2, 4, 8, 16, 32)] == [
        (3, 40, 54), (64, 20, 27), (256, 10, 14), (512, 5, 7), (1024, 3, 4), (2048, 2, 2),
    ]  # fmt: skip
    assert all(torch.equal(fine[stride], whole[stride]) for stride in fine)


def test_matches_outside_are_clamped_and_uncertain():
    flow = torch.zeros(2, 2, 1, 3)
    flow[0, 0, 0] = torch.tensor([-1.0, 1.5, 0.5])
    estimate = Estimate(flow, torch.full((2, 1, 1, 3), 2.0))
    warp, certainty = warp_and_certainty(estimate, torch.full((2, 1, 1, 1), -1.0))
    # Half of the negative coarse logit is subtracted: 2 becomes 2.5.
    sure = float(torch.sigmoid(torch.tensor(2.5)))
    assert certainty[0, 0].tolist() == pytest.approx([sure, 0, sure, sure, sure, sure])
    assert warp[0, 0, :3, 2].tolist() == [-1, 1, 0.5]
    _, unchanged = warp_and_certainty(estimate, torch.full((2, 1, 1, 1), 3.0))
    assert unchanged[0, 0, 0].item() == pytest.approx(float(torch.sigmoid(torch.tensor(2.0))))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_pictures_are_refused(matcher, picture):
    with pytest.raises(DataError, match=r"picture to match.*\n.*got: .*\n.*\(H, W, 3\) uint8"):
        matcher.match([picture], pictures(1))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (0, 0)])
def test_pictures_come_in_pairs(matcher, first, second):
    with pytest.raises(DataError, match=f"got: {first} and {second} pictures"):
        matcher.match(pictures(first), pictures(second))


# Weights


def compact(matcher: DKMv3) -> dict[str, Tensor]:
    """One value for each key, in a file of the published names and shapes."""
    return {
        key: torch.full(value.shape, place, dtype=value.dtype)
        for place, (key, value) in enumerate(matcher.state_dict().items())
    }


def test_weights_are_loaded_whole(matcher, tmp_path):
    path = tmp_path / "DKMv3_outdoor.pth"
    torch.save(compact(matcher), path)
    loaded = load("outdoor", path)
    assert loaded.resolution == PUBLISHED["outdoor"]
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for place, value in enumerate(loaded.state_dict().values()):
        assert (value == place).all()


def test_other_names_are_refused(matcher, tmp_path):
    state = compact(matcher)
    state["decoder.other"] = state.pop("encoder.net.fc.bias")
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"missing encoder\.net\.fc\.bias; unknown decoder"):
        load("indoor", tmp_path / "weights.pth")
