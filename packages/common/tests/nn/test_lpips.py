"""LPIPS by hand, and against its authors' code."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from llve_common.errors import CheckpointError, DataError
from llve_common.nn.lpips import Lpips
from llve_common.weights.files import write_weights
from llve_common.weights.pretrained import perceptual_distance

CPU = torch.device("cpu")
PLACES, SIDES, WIDTHS = (0, 3, 6, 8, 10), (11, 5, 3, 3, 3), (3, 64, 192, 384, 256, 256)


@pytest.fixture
def alexnet(tmp_path):
    """Writes a file with AlexNet's published names from what ``layer(shape)`` gives for each."""

    def write(layer):
        state = {"classifier.1.weight": torch.zeros(2, 2)}
        for place, side, (inputs, width) in zip(PLACES, SIDES, pairwise(WIDTHS), strict=True):
            for name, shape in (("weight", (width, inputs, side, side)), ("bias", (width,))):
                state[f"features.{place}.{name}"] = torch.as_tensor(layer(shape))
        write_weights(tmp_path / "alexnet.pth", state)
        return tmp_path / "alexnet.pth"

    return write


def test_two_channels_by_hand(alexnet):
    """Every layer holds the shifted and scaled red x, or 0 where that is negative, and 1."""

    def layer(shape):
        values = torch.zeros(shape)
        if len(shape) == 1:
            values[1] = 1
        else:
            values[0, 0, shape[2] // 2, shape[3] // 2] = 1
        return values

    distance = perceptual_distance(alexnet(layer), CPU)
    first, second = (np.full((31, 40, 3), red, np.uint8) for red in (100, 200))
    x = (2 * 200 / 255 - 1 + 0.030) / 0.458
    length = np.hypot(x, 1)
    units = np.array([[0, 1], [x / length, 1 / length]])
    layers = distance.args[0].weights
    expected = sum(float((w[:2].numpy() * (units[0] - units[1]) ** 2).sum()) for w in layers)
    assert distance(first, second) == pytest.approx(expected, rel=1e-5)
    assert distance(first, first) == 0
    assert min(float(weights.min()) for weights in layers) >= 0


def test_agrees_with_its_authors_code(alexnet):
    """The figure is that of the package lpips 0.1.4, over an AlexNet of these weights."""
    rng = np.random.default_rng(0)
    path = alexnet(lambda shape: rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype("f4"))
    first, second = rng.integers(0, 256, (2, 75, 90, 3), dtype=np.uint8)
    assert perceptual_distance(path, CPU)(first, second) == pytest.approx(0.0601046830, rel=1e-5)


def test_what_it_cannot_compare(alexnet):
    distance = perceptual_distance(alexnet(torch.zeros), CPU)
    for sizes in ([(31, 30), (31, 30)], [(40, 40), (40, 41)]):
        with pytest.raises(DataError, match="at least 31 pixels"):
            distance(*(np.zeros((*size, 3), np.uint8) for size in sizes))


def test_weights_that_are_not_alexnets(alexnet, tmp_path):
    with pytest.raises(CheckpointError, match="alexnet-owt-7be5be79"):
        perceptual_distance(tmp_path / "none.pth", CPU)
    write_weights(tmp_path / "other.pth", Lpips().state_dict() | {"head": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="unknown head"):
        perceptual_distance(tmp_path / "other.pth", CPU)
    broken = alexnet(lambda shape: torch.full(shape, torch.nan))
    with pytest.raises(CheckpointError, match=r"AlexNet's weights are not finite"):
        perceptual_distance(broken, CPU)
