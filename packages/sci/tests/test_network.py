"""The networks' own properties, with nothing from outside the checkout."""

import torch

from llve_common.metrics.cost import parameter_count
from llve_sci.network import Cascade, Enhancer, initialise


def test_published_size():
    assert parameter_count(Enhancer()) == 258
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


def test_statistics_move_once_for_each_pass():
    torch.manual_seed(0)
    network = Cascade(stages=3).train()
    network.unroll(torch.rand(1, 3, 8, 8))
    state = network.state_dict()
    assert state["enhance.conv.1.num_batches_tracked"] == 3
    assert state["calibrate.in_conv.1.num_batches_tracked"] == 3
    assert state["calibrate.convs.1.num_batches_tracked"] == 9


def test_stages_are_not_detached():
    torch.manual_seed(0)
    network = Cascade(stages=2)
    initialise(network)
    last = network.unroll(torch.rand(1, 3, 8, 8))[-1]
    last.illumination.sum().backward()
    assert network.calibrate.out_conv[0].weight.grad.abs().max() > 0


def test_halo_is_three_pixels():
    torch.manual_seed(0)
    network = Enhancer().eval()
    image = torch.rand(1, 3, 16, 16) * 0.3
    changed = image.clone()
    changed[..., 8, 8] += 0.2
    with torch.no_grad():
        rows, columns = torch.nonzero(
            (network(image)[1] != network(changed)[1]).any(1)[0], as_tuple=True
        )
    assert rows.min() >= 5
    assert rows.max() <= 11
    assert columns.min() >= 5
    assert columns.max() <= 11
