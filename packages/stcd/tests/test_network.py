"""The network's own properties, with nothing from outside the checkout."""

import pytest
import torch

from llve_common.errors import ConfigError, DataError
from llve_common.metrics.cost import parameter_count
from llve_stcd.network import STCD
from llve_stcd.paper import inference_network


def test_published_size():
    assert parameter_count(STCD()) == 1_810_678
    assert len(STCD().state_dict()) == 50


@pytest.mark.parametrize("nf", [0, 3, 66, -4])
def test_widths_that_the_heads_cannot_share_are_refused(nf):
    with pytest.raises(ConfigError, match="multiple of 4"):
        STCD(nf)


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (2, 2), (7, 9)])
def test_sizes_that_do_not_reduce_are_refused(size, frames):
    with pytest.raises(DataError, match="multiples of 4"):
        STCD(8)(*frames(2, *size))


def test_the_order_of_the_frames_matters(frames, network_of):
    network, (first, second) = network_of(), frames(2)
    with torch.no_grad():
        one, other = network(first, second), network(second, first)
    assert (one.enhanced1 - other.enhanced2).abs().max() > 1e-4


def test_weights_tell_the_network(frames, network_of):
    network = network_of(nf=8, front_blocks=3)
    again = inference_network(network.state_dict()).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(*frames(2)).enhanced1, network(*frames(2)).enhanced1)


def test_parts_near_white_have_a_gradient_in_half_precision(frames, network_of):
    network = network_of()
    bias = network.conv_last_ill.bias
    torch.nn.init.constant_(bias, 8.0)
    exact, half = [], []
    for found, enabled in ((exact, False), (half, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            parts = network(*frames(2))
        found += torch.autograd.grad(parts.rgb1.sum(), [bias])
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0)
