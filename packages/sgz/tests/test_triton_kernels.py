"""The reduction and the steps in Triton against plain ones: interpreted, and on a CUDA device."""

import numpy as np
import pytest
import torch
from recipes import check_frames, plain_frame

from llve_common.clips.frames import Frame
from llve_common.enhance.frames import deferred_enhancer, frame_enhancer
from llve_common.errors import MediaError
from llve_common.io.images import Image
from llve_common.paper.contract import Model
from llve_sgz.fast import fuse, reduce
from llve_sgz.paper import PAPER

# One pixel, too little to mirror, multiples of 12, one more and one less, more than a program's.
SIZES = [(1, 1), (5, 30), (12, 24), (13, 35), (23, 25), (17, 700)]


@pytest.fixture(name="kernel")
def kernel_fixture(triton_on_a_cpu, monkeypatch):
    """Makes the kernel of a network on the CPU."""
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    return fuse


def clip_of(dtype):
    draws = [np.random.default_rng(0).random((*size, 3)) for size in SIZES]
    return [(each**2.2 * np.iinfo(dtype).max).astype(dtype) for each in draws]


@pytest.mark.parametrize("scale", [1, 3, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reduced_frames_equal_the_cpus(kernel, scale, dtype):
    from llve_sgz import triton_kernels

    for pixels in clip_of(dtype):
        found = triton_kernels.reduce(torch.from_numpy(pixels), scale)
        np.testing.assert_allclose(found, reduce(pixels, scale), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("scale", "conv_type", "dtype"),
    [(1, "dsc", np.uint8), (3, "tc", np.uint8), (12, "dsc", np.uint8), (12, "dsc", np.uint16)],
)
def test_frames_equal_the_plain_ones(kernel, network_of, scale, conv_type, dtype):
    network, clip = network_of(scale, conv_type), clip_of(dtype)
    run = kernel(network)
    results, faults = zip(*(run(torch.from_numpy(pixels)) for pixels in clip), strict=True)
    assert not any(faults)
    check_frames(
        [each.numpy() for each in results], [plain_frame(PAPER, network, each) for each in clip]
    )


def test_results_that_are_not_a_number_are_told(kernel, network_of):
    network = network_of(12)
    network.e_conv7.point_conv.bias[1] = float("nan")
    _, faults = kernel(network)(torch.from_numpy(clip_of(np.uint8)[2]))
    assert faults


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equals_the_cpu_on_a_gpu(dtype, network_of, monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    for scale in (1, 12):
        network, clip = network_of(scale), clip_of(dtype)
        expected = [plain_frame(PAPER, network, pixels) for pixels in clip]
        enhance = frame_enhancer(Model(PAPER, network.cuda()), ahead=1)
        frames = enhance(Frame(Image(pixels), "", "here") for pixels in clip)
        check_frames([frame.image.pixels for frame in frames], expected)
    network.e_conv7.point_conv.bias[1] = float("nan")
    with pytest.raises(MediaError, match="not a number"):
        deferred_enhancer(Model(PAPER, network))(clip[0])()
