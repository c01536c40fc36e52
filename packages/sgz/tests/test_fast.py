"""The network prepared for a CPU gives what the plain one gives."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipes import check_frames, check_pixels, plain_frame

from llve_common.enhance import row_blocks
from llve_common.enhance.frames import deferred_enhancer, enhance_frames, pad_to_fit
from llve_common.io.images import read_image, to_tensor
from llve_common.paper.contract import Model, Window
from llve_common.testing.reference import shared_file
from llve_common.weights.files import read_weights
from llve_sgz.fast import prepare, reduce
from llve_sgz.paper import PAPER

CPU = torch.device("cpu")
# One pixel, too little to mirror, multiples of 12, one more and one less, wide, many blocks.
SIZES = [(1, 1), (5, 30), (12, 24), (13, 35), (23, 25), (3, 70), (97, 61)]


def dark(size, dtype=np.uint8):
    draws = np.random.default_rng(0).random((*size, 3))
    return (draws**2.2 * 0.5 * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [2, 3, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reduced_frame_is_the_padded_and_resized_one(size, scale, dtype):
    pixels = dark(size, dtype)
    padded = pad_to_fit(to_tensor(pixels)[None, None], Window(multiple=scale))[:, 0]
    small = [side // scale for side in padded.shape[-2:]]
    expected = F.interpolate(padded, small, mode="bilinear", align_corners=False)
    reduced = torch.from_numpy(reduce(pixels, scale)).permute(2, 0, 1)[None]
    torch.testing.assert_close(reduced, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [2, 3, 12])
def test_blocks_of_rows_equal_the_padded_and_cropped_frame(size, scale, network_of):
    network, pixels = network_of(scale), dark(size)
    prepared = prepare(network)
    with torch.inference_mode():
        seen = prepared.look(pixels)
        block = to_tensor(pixels)[None].contiguous(memory_format=torch.channels_last)
        kept = block.clone()
        rows = range(0, size[0], 7)
        found = torch.cat([prepared.run(block[:, :, n : n + 7], n, seen) for n in rows], dim=2)
    expected = enhance_frames(Model(PAPER, network), to_tensor(pixels)[None, None])[:, 0]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(block, kept)


@pytest.mark.parametrize("scale", [1, 4, 12])
@pytest.mark.parametrize("conv_type", ["dsc", "tc"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kernels", ["torch", "c"])
def test_frames_equal_the_plain_ones(scale, conv_type, dtype, kernels, network_of, monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", kernels)
    monkeypatch.setattr(row_blocks, "_BLOCK", 20 * 160)
    network, pixels = network_of(scale, conv_type), dark((121, 160), dtype)
    found = deferred_enhancer(Model(PAPER, network))(pixels)()
    check_frames([found], [plain_frame(PAPER, network, pixels)])


@pytest.mark.reference
def test_published_weights_whose_unused_filters_are_below_the_normal_numbers():
    path = shared_file("data", "sgz", "Epoch99.pth")
    state = read_weights(path)
    assert any(((each.abs() > 0) & (each.abs() < 1.1e-38)).any() for each in state.values())
    network = PAPER.network(state, None).eval()
    network.load_state_dict(state)
    pixels = read_image(shared_file("data", "sgz", "F1.png")).pixels
    check_pixels(
        deferred_enhancer(Model(PAPER, network))(pixels)(), plain_frame(PAPER, network, pixels)
    )
