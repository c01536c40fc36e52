"""The network's own properties, with nothing from outside the checkout."""

import pytest
import torch

from llve_common.errors import ConfigError, DataError
from llve_common.metrics.cost import parameter_count
from llve_stcd.network import STCD, ChannelNorm
from llve_stcd.paper import PAPER, inference_network


def test_published_size():
    assert parameter_count(STCD()) == 1_810_678
    assert len(STCD().state_dict()) == 50


@pytest.mark.parametrize("nf", [4, 8, 64])
def test_every_width_runs(nf, frames):
    found = STCD(nf)(*frames(2, 8, 12))
    assert {value.shape for value in found} == {(1, 3, 8, 12)}


@pytest.mark.parametrize("nf", [0, 3, 66, -4])
def test_widths_that_the_heads_cannot_share_are_refused(nf):
    with pytest.raises(ConfigError, match="multiple of 4"):
        STCD(nf)


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (2, 2), (7, 9)])
def test_sizes_that_do_not_reduce_are_refused(size, frames):
    with pytest.raises(DataError, match="multiples of 4"):
        STCD(8)(*frames(2, *size))


def test_enhanced_is_the_product_and_all_is_in_range(frames, network_of):
    with torch.no_grad():
        found = network_of()(*frames(2))
    torch.testing.assert_close(found.enhanced1, found.rgb1 * found.ill1)
    torch.testing.assert_close(found.enhanced2, found.rgb2 * found.ill2)
    assert min(value.min() for value in found) >= 0
    assert max(value.max() for value in found) <= 1


def test_the_order_of_the_frames_matters(frames, network_of):
    network, (first, second) = network_of(), frames(2)
    with torch.no_grad():
        one, other = network(first, second), network(second, first)
    assert (one.enhanced1 - other.enhanced2).abs().max() > 1e-4


def test_the_second_frame_changes_the_first_result(frames, network_of):
    network, (first, second, third) = network_of(), frames(3)
    with torch.no_grad():
        difference = network(first, second).enhanced1 - network(first, third).enhanced1
    assert difference.abs().max() > 1e-4


def test_norm_is_over_the_channels_of_a_pixel():
    features = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    mean = features.mean(1, keepdim=True)
    variance = features.var(1, unbiased=False, keepdim=True)
    expected = (features - mean) / torch.sqrt(variance + 1e-5)
    torch.testing.assert_close(ChannelNorm(6)(features), expected)


def test_our_names_are_the_published_ones():
    published = PAPER.to_published(STCD().state_dict())
    assert len(published) == 50
    assert {
        "conv_first_1.weight", "feature_extraction.0.conv2.bias", "upconv2_ill.weight",
        "conv_last_ill2.bias", "trans1.norm2.body.weight", "trans2.attn.qkv2.weight",
        "trans2.ffn.project_out.weight",
    } <= published.keys()  # fmt: skip


def test_weights_tell_the_network(frames, network_of):
    network = network_of(nf=8, front_blocks=3)
    again = inference_network(network.state_dict()).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(*frames(2)).enhanced1, network(*frames(2)).enhanced1)
