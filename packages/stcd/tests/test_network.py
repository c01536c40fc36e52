"""The network's own properties, with nothing from outside the checkout."""

from types import SimpleNamespace

import pytest
import torch

from llve_common.engine.window import enhance_clip
from llve_common.errors import ConfigError, DataError
from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_stcd.network import STCD, ChannelNorm
from llve_stcd.paper import STREAM, WINDOW, combine, enhance, frame_part, inference_network
from llve_stcd.weights import from_published, to_published


def frames(number, height=16, width=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 1, 3, height, width, generator=generator)


def network_of(nf=16, front_blocks=2):
    torch.manual_seed(0)
    network = STCD(nf, front_blocks).eval()
    with torch.no_grad():
        # Larger than at the start, so that every part shows in the result.
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


def test_published_size():
    assert parameter_count(STCD()) == 1_810_678
    assert len(STCD().state_dict()) == 50


@pytest.mark.parametrize("nf", [4, 8, 64])
def test_every_width_runs(nf):
    found = STCD(nf)(*frames(2, 8, 12))
    assert {value.shape for value in found} == {(1, 3, 8, 12)}


@pytest.mark.parametrize("nf", [0, 3, 66, -4])
def test_widths_that_the_heads_cannot_share_are_refused(nf):
    with pytest.raises(ConfigError, match="multiple of 4"):
        STCD(nf)


@pytest.mark.parametrize("size", [(6, 8), (8, 6), (2, 2), (7, 9)])
def test_sizes_that_do_not_reduce_are_refused(size):
    with pytest.raises(DataError, match="multiples of 4"):
        STCD(8)(*frames(2, *size))


def test_enhanced_is_the_product_and_all_is_in_range():
    with torch.no_grad():
        found = network_of()(*frames(2))
    torch.testing.assert_close(found.enhanced1, found.rgb1 * found.ill1)
    torch.testing.assert_close(found.enhanced2, found.rgb2 * found.ill2)
    assert min(value.min() for value in found) >= 0
    assert max(value.max() for value in found) <= 1


def test_the_order_of_the_frames_matters():
    network, (first, second) = network_of(), frames(2)
    with torch.no_grad():
        one, other = network(first, second), network(second, first)
    assert (one.enhanced1 - other.enhanced2).abs().max() > 1e-4


def test_the_second_frame_changes_the_first_result():
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


def test_streaming_equals_the_whole_network():
    network, clip = network_of(), frames(5)
    with torch.inference_mode():
        parts = [frame_part(network, frame[:, None]) for frame in clip]
        for index in range(4):
            whole = enhance(network, torch.stack([clip[index], clip[index + 1]], 1))
            streamed = combine(network, parts[index : index + 2], (0,))
            torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stream", [STREAM, None])
def test_a_clip_pairs_each_frame_with_the_next_and_the_last_with_itself(stream):
    network, clip = network_of(), frames(4)
    paper = SimpleNamespace(window=WINDOW, stream=stream, enhance=enhance)
    enhanced = list(enhance_clip(paper, network, clip))
    with torch.inference_mode():
        for index, following in ((0, 1), (1, 2), (2, 3), (3, 3)):
            expected = network(clip[index], clip[following]).enhanced1
            torch.testing.assert_close(enhanced[index], expected, rtol=0, atol=1e-5)
    assert len(enhanced) == 4


def test_streaming_looks_at_every_frame_once():
    network, looked = network_of(), []
    network.conv_first_1.register_forward_hook(lambda *_: looked.append("head"))
    network.conv_last_ill.register_forward_hook(lambda *_: looked.append("decoder"))
    paper = SimpleNamespace(window=WINDOW, stream=STREAM, enhance=enhance)
    list(enhance_clip(paper, network, frames(5)))
    assert (looked.count("head"), looked.count("decoder")) == (5, 5)


def test_streaming_saves_a_decoder_pair_and_a_head():
    network, (first, second) = network_of(nf=64, front_blocks=1), frames(2, 32, 32)
    with torch.inference_mode():
        part = STREAM.part(network, first[:, None])
        whole = multiply_accumulates(lambda: network(first, second))
        per_frame = multiply_accumulates(
            lambda: STREAM.combine(network, [part, STREAM.part(network, second[:, None])], (0,))
        )
    assert whole / per_frame > 1.8


def test_weights_tell_the_network_and_survive_the_published_names():
    network = network_of(nf=8, front_blocks=3)
    published = to_published(network.state_dict())
    ours = from_published({f"module.{key}": value for key, value in published.items()})
    again = inference_network(ours).eval()
    again.load_state_dict(ours)
    with torch.no_grad():
        assert torch.equal(again(*frames(2)).enhanced1, network(*frames(2)).enhanced1)
