"""The network's own properties, with nothing from outside the checkout."""

import pytest
import torch

from llve_common.errors import DataError
from llve_common.metrics.cost import parameter_count
from llve_sdsd.network import Pyramid, PyramidAlignment, RetinexNet

SMALL = {"nf": 16, "nframes": 3, "groups": 4, "front_blocks": 1, "back_blocks": 2}


def small_network(**changed) -> RetinexNet:
    """Random weights, offsets included, which start at zero."""
    torch.manual_seed(0)
    network = RetinexNet(**SMALL | changed)
    for name, weight in network.named_parameters():
        if "conv_offset_mask" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return network.eval()


def window(frames: int = 3, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, frames, 3, height, width, generator=generator) * 0.3


def test_published_size():
    network = RetinexNet()
    assert parameter_count(network) == 4_446_630
    assert parameter_count(network.tsa_fusion) == 324_416


@torch.no_grad()
def test_the_illumination_is_bounded_by_the_frame_and_by_one():
    network = small_network()
    frames = window()
    network.conv_last.bias.fill_(-100)
    assert torch.equal(network(frames).illumination, frames[:, 1])
    network.conv_last.bias.fill_(100)
    assert (network(frames).illumination == 1).all()


@torch.no_grad()
def test_without_noise_the_denoised_frame_is_the_centre_frame():
    for center in (None, 0, 2):
        network = small_network(center=center)
        network.conv_last_denoise.weight.zero_()
        network.conv_last_denoise.bias.zero_()
        frames = window()
        assert torch.equal(network(frames).denoised, frames[:, 1 if center is None else center])


@pytest.mark.parametrize("attention", [True, False])
@torch.no_grad()
def test_every_frame_of_the_window_counts(attention):
    network = small_network(attention=attention)
    before = network(window()).enhanced
    for frame in range(3):
        changed = window()
        changed[:, frame] = changed[:, frame].flip(-1)
        assert (network(changed).enhanced - before).abs().max() > 1e-4


@torch.no_grad()
def test_alignment_follows_a_shift_of_the_offsets():
    torch.manual_seed(0)
    align = PyramidAlignment(nf=8, groups=2)
    features = Pyramid(*(torch.rand(1, 8, side, side) for side in (16, 8, 4)))
    still = align(features, features)
    # One pixel down for every group and tap.
    align.cas_dcnpack.conv_offset_mask.bias[: 2 * 2 * 9 : 2] = 1
    moved = align(features, features)
    torch.testing.assert_close(moved[..., 2:-3, :], still[..., 3:-2, :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (32, 40), (33, 48), (8, 8), (4, 4)])
def test_sides_that_are_no_multiples_of_16(height, width):
    with pytest.raises(DataError, match=f"got: {width}x{height}"):
        small_network()(window(3, height, width))


def test_a_window_of_another_length():
    with pytest.raises(DataError, match="got: 5\n  expected: 3"):
        small_network()(window(5))


def test_the_smallest_frames_train():
    """The coarsest features are one pixel, whose layout in memory is all layouts at once."""
    torch.manual_seed(0)
    network = RetinexNet(nf=8, groups=2, front_blocks=1, back_blocks=1)
    network(torch.rand(1, 5, 3, 16, 16)).enhanced.sum().backward()
    assert all(each.grad is not None for each in network.pcd_align.parameters())
