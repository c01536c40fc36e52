"""The estimator in Triton against the plain one, in its interpreter and on a CUDA device."""

import numpy as np
import pytest
import torch
from recipes import check_frames, plain_frame

from llve_common.clips.frames import Frame
from llve_common.enhance.frames import deferred_enhancer, frame_enhancer
from llve_common.errors import MediaError
from llve_common.io.images import Image
from llve_common.paper.contract import Model
from llve_common.weights.network import load_model
from llve_sci.fast import fuse
from llve_sci.network import Enhancer
from llve_sci.paper import PAPER

SIZES = [(1, 1), (2, 3), (7, 5), (2, 600)]


@pytest.fixture(name="kernel")
def kernel_fixture(triton_on_a_cpu, monkeypatch):
    """Makes the kernel of a network on the CPU."""
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    return fuse


def network_of(layers):
    """The bundled one for one layer, and else one whose features are as large, of both signs."""
    bundled = load_model(PAPER, None, torch.device("cpu")).network.requires_grad_(False)
    if layers == 1:
        return bundled
    network = Enhancer(layers).eval().requires_grad_(False)
    network.load_state_dict(bundled.state_dict())
    network.enhance.conv[0].weight *= -0.7
    return network


def random_pixels(size, dtype):
    """Mostly dark, with some black and some white pixels."""
    top = np.iinfo(dtype).max
    levels = np.random.default_rng(0).random((*size, 3)) ** 2.2 * top
    levels[::7, ::5], levels[3::7, 1::5] = 0, top
    return levels.astype(dtype)


@pytest.mark.parametrize(
    ("layers", "dtype"), [(0, np.uint8), (1, np.uint8), (1, np.uint16), (3, np.uint8)]
)
def test_frames_equal_the_plain_ones(kernel, layers, dtype):
    network = network_of(layers)
    clip = [random_pixels(size, dtype) for size in SIZES]
    run, expected = kernel(network), [plain_frame(PAPER, network, pixels) for pixels in clip]
    results, faults = zip(*(run(torch.from_numpy(pixels)) for pixels in clip), strict=True)
    assert not any(faults)
    check_frames([each.numpy() for each in results], expected)


@pytest.mark.parametrize("layer", ["in_conv", "conv", "out_conv"])
def test_results_that_are_not_a_number_are_told(kernel, layer):
    network = network_of(1)
    getattr(network.enhance, layer)[0].weight[1, 2, 0, 0] = float("nan")
    _, faults = kernel(network)(torch.from_numpy(random_pixels((2, 3), np.uint8)))
    assert faults


def test_networks_of_other_widths_go_without(kernel):
    assert kernel(Enhancer(channels=7).eval()) is None


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equals_the_cpu_on_a_gpu(dtype, monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    for layers in (1, 2):
        network = network_of(layers)
        clip = [random_pixels(size, dtype) for size in [*SIZES, (270, 480)]]
        expected = [plain_frame(PAPER, network, pixels) for pixels in clip]
        enhance = frame_enhancer(Model(PAPER, network.cuda()), ahead=1)
        frames = enhance(Frame(Image(pixels), "", "here") for pixels in clip)
        check_frames([frame.image.pixels for frame in frames], expected)
    network.enhance.in_conv[0].weight[1, 2, 0, 0] = float("nan")
    with pytest.raises(MediaError, match="not a number"):
        deferred_enhancer(Model(PAPER, network))(clip[0])()
