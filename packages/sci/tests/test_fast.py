"""The estimator made ready for a CPU, against the plain one."""

import numpy as np
import pytest
import torch
from recipes import check_frames, plain_frame, recipe_weights

from llve_common.enhance import row_blocks
from llve_common.enhance.frames import deferred_enhancer
from llve_common.errors import MediaError
from llve_common.io.images import to_tensor
from llve_common.paper.contract import Model
from llve_common.weights.network import load_model
from llve_sci.fast import prepare
from llve_sci.network import Cascade, Enhancer
from llve_sci.paper import PAPER

ROWS = 8
SIZES = [(1, 1), (2, 5), (1, 12), (7, 33), (8, 40), (9, 41), (16, 42), (31, 43), (50, 44)]


def recipe(gain, network):
    entries = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(recipe_weights(entries, 3, 0.05 * gain))
    return network


def bundled():
    return load_model(PAPER, None, torch.device("cpu")).network


NETWORKS = {
    "recipe": lambda: recipe(1.0, Enhancer()),
    "strong recipe": lambda: recipe(6.0, Enhancer()),
    "cascade": lambda: recipe(6.0, Cascade()),
    "bundled": bundled,
}


@pytest.fixture(name="network", params=list(NETWORKS))
def network_fixture(request):
    return NETWORKS[request.param]().eval().requires_grad_(False)


def dark(picture):
    """Every level, most of them dark, and some black and some white pixels."""
    top = np.iinfo(picture.dtype).max
    levels = (picture / top) ** 2.2 * top
    levels[::7, ::5], levels[3::7, 1::5] = 0, top
    return levels.astype(picture.dtype)


def random_pixels(size, dtype=np.uint8, seed=0):
    draws = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (*size, 3))
    return dark(draws.astype(dtype))


@pytest.mark.parametrize("size", [(1, 1), (9, 41)])
def test_other_depths_and_widths(size):
    assert_prepared_equals_plain(recipe(6.0, Enhancer(layers=2, channels=7)).eval(), size)


def assert_prepared_equals_plain(network, size):
    image = to_tensor(random_pixels(size))[None]
    with torch.inference_mode():
        expected = PAPER.enhance(network, image[:, None])[:, 0]
        kept = image.clone()
        torch.testing.assert_close(
            prepare(network).run(image, 0, None), expected, atol=3e-6, rtol=1e-5
        )
    assert torch.equal(image, kept)


@pytest.mark.parametrize("kernels", ["torch", "c"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_equal_the_plain_ones(network, dtype, kernels, monkeypatch):
    """In one piece, by blocks of rows, and by strips of columns."""
    monkeypatch.setenv("LLVE_KERNELS", kernels)
    monkeypatch.setattr(row_blocks, "_BLOCK", ROWS * 40)
    begin = deferred_enhancer(Model(PAPER, network))
    sizes = [*SIZES, (120, 160), (11, 2010)]
    for size in sizes:
        assert_prepared_equals_plain(network, size)
    clip = [random_pixels(size, dtype) for size in sizes]
    check_frames(
        [begin(pixels)() for pixels in clip],
        [plain_frame(PAPER, network, pixels) for pixels in clip],
    )


@pytest.mark.parametrize("kernels", ["torch", "c"])
def test_results_that_are_not_a_number_are_refused(kernels, monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", kernels)
    network = recipe(1.0, Enhancer()).eval().requires_grad_(False)
    network.enhance.in_conv[0].weight[1, 2, 0, 0] = float("nan")
    with pytest.raises(MediaError, match="not a number"):
        deferred_enhancer(Model(PAPER, network))(random_pixels((9, 30)))()
