"""The C kernel against the plain network, and the weights that it takes."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from recipes import check_frames, plain_frame

from llve_common.clips.frames import Frame
from llve_common.enhance.ready import ready_without_torch
from llve_common.errors import MediaError
from llve_common.io.images import Image
from llve_common.weights.files import read_weights, write_weights
from llve_common.weights.network import bundled_weights
from llve_sgz.config import ABOUT
from llve_sgz.kernel import fused
from llve_sgz.network import Enhancer
from llve_sgz.paper import PAPER

# One pixel, too little to mirror, multiples of 12, one more and one less, wide, high.
SIZES = [(1, 1), (5, 30), (12, 24), (13, 35), (23, 25), (3, 70), (97, 61), (30, 400)]
LAST = "e_conv7.point_conv.bias"


def dark(size, dtype):
    draws = np.random.default_rng(0).random((*size, 3))
    return (draws**2.2 * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("scale", [1, 2, 3, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_blocks_of_rows_equal_the_plain_frame(scale, dtype, rows, network_of):
    network = network_of(scale)
    kernel = fused({name: each.numpy() for name, each in network.state_dict().items()}, scale)
    found, expected = [], []
    for pixels in (dark(size, dtype) for size in SIZES):
        result = np.zeros_like(pixels)
        blocks = [
            range(first, min(first + rows, len(pixels))) for first in range(0, len(pixels), rows)
        ]
        # In another thread, for in it numbers below the normal ones count as zero from then on.
        with ThreadPoolExecutor(1) as pool:
            assert all(pool.map(partial(kernel, pixels, result), blocks))
        found.append(result)
        expected.append(plain_frame(PAPER, network, pixels))
    check_frames(found, expected)


@pytest.fixture(name="weights")
def weights_fixture(tmp_path):
    """Writes the bundled weights, changed, to a file."""

    def write(change):
        path = tmp_path / "own.safetensors"
        write_weights(path, change(read_weights(bundled_weights(PAPER))))
        return path

    return write


@pytest.mark.parametrize("change", [
    lambda state: Enhancer(conv_type="tc").state_dict(),
    lambda state: {name: each.half() for name, each in state.items()},
    lambda state: {**state, "more": torch.zeros(1)},
    lambda state: {**state, LAST: torch.zeros(4)},
    lambda state: {LAST: state[LAST]},
])  # fmt: skip
def test_other_weights_are_for_torch(weights, change):
    assert ready_without_torch(ABOUT, weights(change), "cpu", "auto") is None


@pytest.mark.parametrize("name", ["e_conv1.depth_conv.bias", "e_conv4.point_conv.weight", LAST])
def test_weights_that_are_not_a_number_are_told(weights, name):
    path = weights(lambda state: {**state, name: state[name] * torch.nan})
    found = ready_without_torch(ABOUT, path, "cpu", "auto")
    with pytest.raises(MediaError, match="not a number"):
        list(found.enhance([Frame(Image(dark((30, 40), np.uint8)), "", "here")]))
