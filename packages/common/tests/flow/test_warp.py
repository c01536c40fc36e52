import functools
import math

import numpy as np
import pytest
import torch

from llve_common.errors import DataError
from llve_common.flow.warp import warp, warp_frame
from llve_common.testing.reference import cases

TOLERANCE = 1e-5  # the README's, for the warp's output and both gradients


@pytest.mark.reference
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", cases("tcenet/resample2d", joint="_"))
def test_equals_the_published_warp_and_its_gradients(case, dtype):
    wanted = case.settings
    near = functools.partial(torch.testing.assert_close, atol=TOLERANCE, rtol=0)

    def stored(part):
        return torch.from_numpy(case[part]).to(dtype)

    image, flow = stored("image").requires_grad_(), stored("flow").requires_grad_()
    out = warp(image, flow, mode=wanted["mode"])

    near(out.detach(), stored("out"))
    flat = out.detach().flatten()
    near(flat[wanted["out"]["idx"]], torch.tensor(wanted["out"]["val"], dtype=dtype))
    assert flat.norm().item() == pytest.approx(wanted["out"]["l2"], rel=TOLERANCE)
    if "grad_out" in case.arrays:
        out.backward(stored("grad_out"))
        near(image.grad, stored("grad_image"))
        near(flow.grad, stored("grad_flow"))


def slow_warp(image, flow):
    """One value at a time, with Python's own arithmetic."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                px, py = x + float(flow[0, y, x]), y + float(flow[1, y, x])
                for row, column in [(r, k) for r in (0, 1) for k in (0, 1)]:
                    j, i = math.floor(py) + row, math.floor(px) + column
                    weight = (1 - abs(py - j)) * (1 - abs(px - i))
                    j, i = min(max(j, 0), height - 1), min(max(i, 0), width - 1)
                    out[c, y, x] += weight * image[c, j, i]
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (6, 9)])
def test_equals_a_slow_loop(size):
    rng = np.random.default_rng(3)
    image = rng.random((2, 4, *size))
    flow = rng.uniform(-12, 12, (2, 2, *size))
    flow[0] = np.rint(flow[0])
    expected = np.stack([slow_warp(i, f) for i, f in zip(image, flow, strict=True)])
    got = warp(torch.from_numpy(image), torch.from_numpy(flow))
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_flow_gradient_at_integers_looks_right_and_down():
    image = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]])[None, None]
    flow = torch.zeros(1, 2, 3, 3, requires_grad=True)
    warp(image, flow).sum().backward()
    right = torch.tensor([[1.0, 2.0, 0.0], [8.0, 16.0, 0.0], [64.0, 128.0, 0.0]])
    down = torch.tensor([[7.0, 14.0, 28.0], [56.0, 112.0, 224.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(flow.grad, torch.stack([right, down])[None])


def test_zero_flow_and_constant_images_are_exact():
    image = torch.rand(2, 3, 5, 7)
    assert torch.equal(warp(image, torch.zeros(2, 2, 5, 7)), image)
    constant = torch.full((1, 3, 5, 7), 0.1)
    assert torch.equal(warp(constant, 20 * torch.randn(1, 2, 5, 7)), constant)


def test_nearest_takes_whole_pixels():
    image = torch.arange(4.0).view(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([0.4, 0.5, -0.6, 9.0])
    assert warp(image, flow, mode="nearest").flatten().tolist() == [0, 2, 1, 3]


def test_wild_flow_reads_the_border_and_a_lost_one_stays_visible():
    image = torch.arange(1.0, 5.0).view(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([1e30, -1e30, math.nan, math.inf])
    out = warp(image, flow).flatten()
    assert out[:2].tolist() == [4, 1]
    assert out[2:].isnan().all()


def test_half_precision_images_take_the_flows_type():
    image = torch.rand(1, 3, 4, 4).to(torch.bfloat16)
    assert warp(image, torch.zeros(1, 2, 4, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    ("image", "flow"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(1, 2, 4, 4)),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 2, 4, 4)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, 2)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 2, 4, 4)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 5)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.float16)),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_refused(image, flow):
    with pytest.raises(DataError, match="does not fit"):
        warp(image, flow)


def test_warp_frame_is_warp_with_channels_last():
    rng = np.random.default_rng(5)
    frame = rng.random((6, 8, 3)).astype(np.float32)
    flow = rng.uniform(-3, 3, (6, 8, 2)).astype(np.float32)
    expected = slow_warp(frame.transpose(2, 0, 1), flow.transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_allclose(warp_frame(frame, flow), expected, rtol=0, atol=1e-5)
    frame.flags.writeable = False
    mirrored = warp_frame(frame[:, ::-1], np.zeros_like(flow))
    np.testing.assert_array_equal(mirrored, frame[:, ::-1])
    with pytest.raises(DataError, match="does not fit"):
        warp_frame(frame, flow[:-1])


@pytest.mark.gpu
def test_equals_the_cpu_on_a_gpu():
    results = []
    for device in ("cpu", "cuda"):
        rng = torch.Generator().manual_seed(2)
        image = torch.rand(2, 3, 9, 11, generator=rng).to(device).requires_grad_()
        flow = (8 * torch.randn(2, 2, 9, 11, generator=rng)).to(device).requires_grad_()
        out = warp(image, flow)
        gradients = torch.autograd.grad(out.square().sum(), (image, flow))
        results.append([t.detach().cpu() for t in (out, *gradients)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=1e-5)
