"""The networks' own properties, with nothing from outside the checkout."""

import pytest
import torch

from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_sgz.network import Enhancer, FeaturePyramid, brighten


@pytest.mark.parametrize(("conv_type", "count"), [("dsc", 10_561), ("tc", 67_299)])
@pytest.mark.parametrize("scale", [1, 12])
def test_published_size(conv_type, count, scale):
    assert parameter_count(Enhancer(scale, conv_type)) == count


def test_the_scale_factor_saves_its_square():
    image = torch.zeros(1, 3, 48, 72)
    whole, reduced = (
        multiply_accumulates(lambda scale=scale: Enhancer(scale)(image)) for scale in (1, 12)
    )
    assert whole == 144 * reduced


def test_brightening_is_its_recurrence():
    image, factor = torch.tensor([[[[0.3]]]]), torch.tensor([[[[-0.5]]]])
    expected = 0.3
    for _ in range(8):
        expected += -0.5 * (expected**2 - expected)
    assert brighten(image, factor).item() == pytest.approx(expected)


def test_factors_in_range_keep_images_in_range_and_ends_where_they_are():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 9, 11, generator=generator)
    image[..., 0, 0], image[..., 0, 1] = 0.0, 1.0
    factor = torch.rand(1, 3, 9, 11, generator=generator) * 2 - 1
    enhanced = brighten(image, factor)
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    assert enhanced[0, 0, 0, :2].tolist() == [0.0, 1.0]


def test_a_factor_near_its_ends_has_a_gradient_in_half_precision():
    torch.manual_seed(0)
    network = Enhancer()
    bias = network.e_conv7.point_conv.bias
    torch.nn.init.constant_(bias, -4.0)
    exact, half = [], []
    for found, enabled in ((exact, False), (half, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            factor = network.extract(torch.full((1, 3, 8, 8), 0.1))
        found += torch.autograd.grad(factor.sum(), [bias])
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0)


def test_the_head_starts_as_published():
    torch.manual_seed(0)
    head = FeaturePyramid(21)
    assert head.smooth1_1.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert all(layer.bias.abs().max() == 0 for layer in head.children())
