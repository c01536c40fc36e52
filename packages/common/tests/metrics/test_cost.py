import time
from pathlib import Path

import pytest
import torch
from torch import nn

from llve_common.metrics import cost
from llve_common.metrics.cost import latency, multiply_accumulates, parameter_count, peak_memory
from llve_common.ops.deform_conv import deform_conv2d

CPU = torch.device("cpu")


def test_convolutions_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.ConvTranspose2d(8, 3, 2, stride=2, bias=False),
    )  # fmt: skip
    image = torch.zeros(1, 3, 8, 10)
    full, half = 8 * 10, 4 * 5
    by_hand = full * 8 * 3 * 9 + half * 8 * 9 + half * 8 * 3 * 4
    assert multiply_accumulates(lambda: network(image)) == by_hand
    assert parameter_count(network) == (3 * 8 * 9 + 8) + (8 + 8) + (8 * 9 + 8) + 8 * 3 * 4


def test_matrix_products_by_hand():
    a, b = torch.zeros(2, 3, 5), torch.zeros(2, 5, 7)
    assert multiply_accumulates(lambda: a @ b) == 2 * 3 * 5 * 7
    assert multiply_accumulates(lambda: nn.Linear(5, 7)(a[0])) == 3 * 5 * 7


@pytest.mark.parametrize("implementation", ["auto", "torch"])
def test_deformable_convolutions_count_as_convolutions(monkeypatch, implementation):
    monkeypatch.setenv("LLVE_DCN", implementation)
    image, weight = torch.zeros(2, 4, 8, 10), torch.zeros(6, 4, 3, 3)
    offset, mask = torch.zeros(2, 18, 8, 10), torch.zeros(2, 9, 8, 10)
    count = multiply_accumulates(lambda: deform_conv2d(image, offset, mask, weight, padding=1))
    assert count == 2 * 8 * 10 * 6 * 4 * 9


def test_cost_grows_with_the_pixels_and_the_batch_in_inference_mode_too():
    network = nn.Conv2d(3, 3, 1)
    for mode in (False, True):
        with torch.inference_mode(mode):
            assert multiply_accumulates(lambda: network(torch.zeros(2, 3, 4, 6))) == 2 * 4 * 6 * 9


def test_shared_weights_count_once():
    layer = nn.Linear(4, 4, bias=False)
    assert parameter_count(nn.Sequential(layer, nn.ReLU(), layer)) == 16


def test_latency_is_the_median_after_a_warm_up(monkeypatch):
    now = [0.0]
    lengths = iter([100.0, 3.0, 50.0, 4.0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def run():
        now[0] += next(lengths)

    assert latency(run, device=CPU, repeats=3) == 4.0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_peak_memory_counts_what_a_call_touches_and_frees():
    # Pieces that the C library would keep for itself.
    count, piece = 100, 1 << 20

    def run():
        touched = [torch.ones(piece, dtype=torch.uint8) for _ in range(count)]
        # Long enough for the watcher's interval on a busy machine.
        time.sleep(0.05)
        return len(touched)

    for _ in range(2):
        assert 0.8 * count * piece < peak_memory(run, device=CPU) < 1.3 * count * piece


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_peak_memory_leaves_out_what_was_held_before():
    held = torch.ones(100 << 20, dtype=torch.uint8)
    assert peak_memory(lambda: held.max(), device=CPU) < 50 << 20


def test_peak_memory_is_none_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "_STATUS", tmp_path / "none")
    assert peak_memory(lambda: None, device=CPU) is None


@pytest.mark.gpu
def test_peak_memory_on_a_gpu_is_that_of_the_tensors():
    device = torch.device("cuda")
    peak = peak_memory(lambda: torch.ones(1 << 20, device=device).sum(), device=device)
    assert 4 << 20 <= peak <= 5 << 20
