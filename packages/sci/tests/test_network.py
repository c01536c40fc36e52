"""The networks' own properties, with nothing from outside the checkout."""

import torch

from llve_common.metrics.cost import parameter_count
from llve_sci.network import Cascade, Enhancer


def test_published_size():
    assert parameter_count(Cascade()) == 5877


def test_published_operations():
    # What the paper calls FLOPs: every number of the network is used once for each pixel.
    pixels = 400 * 600
    convolutions = 3 * 3 * 3 * 3 * 3
    biases, batch_norm = 3 * 3, 2 * 3
    assert parameter_count(Enhancer()) == convolutions + biases + batch_norm
    assert parameter_count(Enhancer()) * pixels == 61_920_000


def test_enhancing_never_darkens_and_stays_in_range():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 17, 23)
    illumination, reflectance = Enhancer().eval()(image)
    torch.testing.assert_close(reflectance, (image / illumination).clamp(max=1))
    assert illumination.min() >= 1e-4
    assert illumination.max() <= 1
    assert (reflectance >= image.clamp(max=1) - 1e-6).all()
    assert reflectance.max() <= 1
