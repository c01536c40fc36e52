"""TCE-Net's network by its own rules; nothing here needs a file."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from llve_common.metrics.cost import parameter_count
from llve_tcenet.attention import as_pixels, co_attend
from llve_tcenet.network import (
    Encoder,
    PairConvolution,
    TCENet,
    _by_moments,
    initialise,
    layer_norm,
)
from llve_tcenet.wavelet import haar, inverse_haar


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TCENet().eval()


def test_published_size(network):
    assert parameter_count(network) == 9_061_667


def test_samples_of_a_batch_do_not_mix_in_evaluation(network):
    frames = torch.rand(2, 6, 3, 32, 32)
    with torch.inference_mode():
        together = network(frames)[0]
        alone = network(frames[1:])[0]
    torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-5)


def test_encoding_without_gradients_keeps_nothing_but_what_is_needed():
    with torch.inference_mode():
        encoding = Encoder().eval()(torch.rand(1, 5, 3, 32, 32))
    for part in encoding:
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_layer_norm_on_a_gpu_is_that_on_a_cpu():
    features = torch.rand(2, 8, 12, 20) * 3 + 5
    wanted = layer_norm(features)
    torch.testing.assert_close(_by_moments(features), wanted, rtol=1e-5, atol=1e-5)


def test_initial_weights(network):
    initialise(network)
    assert network.decoder.conv_8.bias.abs().max() == 0
    weight = network.encoder.conv_1_2.weight
    fans = (32 + 160) * 9
    assert weight.std().item() == pytest.approx(0.02 * (2 / fans) ** 0.5, rel=0.03)
    assert network.co_attention.bn1.weight.mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("stride", [1, 2])
def test_pair_convolution_is_a_convolution_over_the_volume(stride):
    layer = PairConvolution(3, 5, stride)
    moments = torch.rand(2, 4 * 3, 10, 12)
    volume = moments.unflatten(1, (4, 3)).transpose(1, 2)
    expected = F.conv3d(volume, layer.weight, layer.bias, layer.stride, layer.padding)
    actual = layer(moments).unflatten(1, (3, 5)).transpose(1, 2)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


# Co-attention


def test_attention_is_that_of_the_affinity_matrix():
    affinity = torch.nn.Linear(8, 8, bias=False)
    a, b = torch.randn(2, 8, 4, 6), torch.randn(2, 8, 4, 6)
    matrix = torch.einsum("ncp,ncq->npq", affinity(a.flatten(2).mT).mT, b.flatten(2))
    attended_b = torch.einsum("ncp,npq->ncq", a.flatten(2), matrix.softmax(dim=1))
    attended_a = torch.einsum("ncq,npq->ncp", b.flatten(2), matrix.softmax(dim=2))
    for actual, expected in zip(co_attend(affinity, a, b), (attended_a, attended_b), strict=True):
        torch.testing.assert_close(actual.flatten(2), expected, rtol=1e-5, atol=1e-5)


def test_attention_never_holds_the_affinity_matrix():
    affinity = torch.nn.Linear(128, 128, bias=False)
    a, b = torch.randn(1, 128, 6, 8), torch.randn(1, 128, 6, 8)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        co_attend(affinity, a, b)[0].sum().backward()
        with pytest.raises(RuntimeError, match=r"[Nn]o (available|viable)"):
            # The layout that this guards against.
            F.scaled_dot_product_attention(*[as_pixels(a)[:, 0]] * 3, scale=1.0)


# Wavelets


def test_haar_is_orthonormal_and_undone():
    image = torch.randn(2, 3, 6, 8)
    bands = haar(image)
    assert bands.shape == (2, 12, 3, 4)
    torch.testing.assert_close(bands.square().sum(), image.square().sum())
    torch.testing.assert_close(inverse_haar(bands), image)
