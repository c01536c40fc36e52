"""Enhancing by the C kernel without PyTorch, against the same kernel with it."""

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llve_common.clips.frames import Frame
from llve_common.enhance import ready as module
from llve_common.enhance.frames import ready
from llve_common.enhance.ready import ready_without_torch
from llve_common.errors import ConfigError, MediaError
from llve_common.io.images import Image
from llve_common.ops import kernels
from llve_common.weights.files import read_weights, write_weights
from llve_common.weights.network import bundled_weights, load_model
from llve_sci.config import ABOUT
from llve_sci.network import Cascade
from llve_sci.paper import PAPER
from llve_sci.weights import to_published

CPU = torch.device("cpu")
LAST = "enhance.out_conv.0.weight"


@pytest.fixture(name="weights")
def weights_fixture(tmp_path):
    """Writes the bundled weights, changed, to a file of a name."""

    def write(name="own.safetensors", change=dict):
        path = tmp_path / name
        write_weights(path, change(read_weights(bundled_weights(PAPER))))
        return path

    return write


def random_frames(dtype):
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    for size in [(1, 1), (7, 33), (31, 43), (50, 44), (121, 2010)]:
        yield Frame(Image((rng.random((*size, 3)) ** 2.2 * top).astype(dtype)), "", "here")


def pixels_of(way, dtype=np.uint8):
    return [frame.image.pixels for frame in way.enhance(random_frames(dtype))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("change", [dict, to_published])
def test_files_under_both_names(weights, dtype, change, monkeypatch):
    """With any number of threads, and with what a report says."""
    path = weights(change=change)
    usual = ready(load_model(PAPER, path, CPU))
    expected = pixels_of(usual, dtype)
    for threads in ("1", "3", "4,2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found = ready_without_torch(ABOUT, path, "cpu", "auto")
        assert replace(found, enhance=None) == replace(usual, enhance=None)
        for one, other in zip(pixels_of(found, dtype), expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_array_equal(one, other)


def cascade(state):
    return Cascade().state_dict() | state


@pytest.mark.parametrize(("name", "change"), [
    ("a.pt", dict),
    ("a.safetensors", cascade),
    ("a.safetensors", lambda state: {name: each.half() for name, each in state.items()}),
    ("a.safetensors", lambda state: {name: each.bfloat16() for name, each in state.items()}),
    ("a.safetensors", lambda state: {**state, LAST: torch.zeros(3, 1, 3, 3)}),
    ("a.safetensors", lambda state: {**state, "more": torch.zeros(1)}),
    ("a.safetensors", lambda state: {LAST: state[LAST]}),
])  # fmt: skip
def test_other_weights_are_for_torch(weights, name, change):
    assert ready_without_torch(ABOUT, weights(name, change), "cpu", "auto") is None


def test_what_else_is_for_torch(weights, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights().read_bytes()[:-1])
    missing, folder = tmp_path / "missing.safetensors", tmp_path
    for path in (damaged, missing, folder, Path("published:easy")):
        assert ready_without_torch(ABOUT, path, "cpu", "fp32") is None
    for device, precision in (("cuda", "auto"), ("nothing", "auto"), ("cpu", "bf16")):
        assert ready_without_torch(ABOUT, None, device, precision) is None
    assert ready_without_torch(replace(ABOUT, has_kernel=False), None, "cpu", "auto") is None
    monkeypatch.setenv("LLVE_KERNELS", "torch")
    assert ready_without_torch(ABOUT, None, "cpu", "auto") is None
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    with pytest.raises(ConfigError, match="for a CUDA device"):
        ready_without_torch(ABOUT, None, "cpu", "auto")


def test_torch_is_asked_where_there_may_be_a_gpu(monkeypatch):
    def driver(found):
        if not found:
            raise OSError
        return found

    for library, files, platform_, expected in [
        (False, (), "linux", False), (False, (), "darwin", False), (False, (), "win32", True),
        (True, (), "linux", True), (False, ("/dev/nvidiactl",), "linux", True),
        (False, ("/dev/kfd",), "linux", True),
    ]:  # fmt: skip
        monkeypatch.setattr(module.ctypes, "CDLL", lambda name, found=library: driver(found))
        monkeypatch.setattr(module.os.path, "exists", files.__contains__)
        monkeypatch.setattr(module.sys, "platform", platform_)
        assert module._may_have_a_gpu() == expected
        monkeypatch.undo()


def test_without_a_compiler_torch_does_it(monkeypatch, tmp_path, caplog):
    kernels._choose.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ready_without_torch(ABOUT, None, "cpu", "auto") is None
    ready(load_model(PAPER, None, CPU))
    (record,) = caplog.records
    assert "plain PyTorch runs instead" in record.getMessage()
    kernels._choose.cache_clear()


def test_weights_that_are_not_a_number_are_told(weights):
    path = weights(change=lambda state: {**state, LAST: state[LAST] * torch.nan})
    with pytest.raises(MediaError, match="here: the enhanced image holds values that are not a nu"):
        pixels_of(ready_without_torch(ABOUT, path, "cpu", "auto"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors are not slowed down")
def test_numbers_below_the_normal_ones_count_as_zero(weights):
    """A bias of 1e-40, of which large weights would make a part of the illumination."""

    def biased(value):
        def change(state):
            changed = {name: torch.zeros_like(each) for name, each in state.items()}
            changed["enhance.in_conv.0.bias"] += value
            changed[LAST][:, :, 1, 1] = 1e38
            return changed

        return pixels_of(ready_without_torch(ABOUT, weights(change=change), "cpu", "auto"))

    small, none, large = map(biased, (1e-40, 0, 2e-38))
    assert all(map(np.array_equal, small, none))
    assert not np.array_equal(large[1], none[1])
