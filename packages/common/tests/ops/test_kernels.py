"""Which of a paper's own kernels runs."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llve_common.enhance.row_blocks import RowBlocks
from llve_common.errors import ConfigError, MediaError
from llve_common.ops import kernels
from llve_common.paper.contract import Prepared


@pytest.fixture(autouse=True)
def _choosing():
    chosen = kernels._choose, kernels._choose_for_device
    for each in chosen:
        each.cache_clear()
    yield
    for each in chosen:
        each.cache_clear()


def test_without_a_compiler(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.kernel_library("llve_common.ops") is None
    assert kernels.kernel_library("llve_common.ops") is None
    (record,) = caplog.records
    assert "plain PyTorch runs instead" in record.getMessage()
    monkeypatch.setenv("LLVE_KERNELS", "c")
    with pytest.raises(ConfigError, match="no program `cc` on the PATH"):
        kernels.kernel_library("llve_common.ops")
    monkeypatch.setenv("LLVE_KERNELS", "cuda")
    with pytest.raises(ConfigError, match="auto or torch or c or triton"):
        kernels.kernel_library("llve_common.ops")


def test_kernels_of_another_device_are_refused(monkeypatch):
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    with pytest.raises(ConfigError, match="are for a CUDA device"):
        kernels.kernel_library("llve_common.ops")
    monkeypatch.setenv("LLVE_KERNELS", "c")
    with pytest.raises(ConfigError, match="are for a CPU"):
        kernels.device_kernels("llve_common.ops", torch.device("cuda"))


def test_where_triton_does_not_run(monkeypatch, caplog):
    def require(device):
        raise RuntimeError("Failed to find C compiler")

    module = "llve_common.ops.triton_kernels"
    device = torch.device("cuda")
    for stand_in, said in ((None, "halted"), (SimpleNamespace(require=require), "C compiler")):
        kernels._choose_for_device.cache_clear()
        caplog.clear()
        monkeypatch.setitem(sys.modules, module, stand_in)
        monkeypatch.setenv("LLVE_KERNELS", "auto")
        assert kernels.device_kernels("llve_common.ops", device) is None
        assert kernels.device_kernels("llve_common.ops", device) is None
        (record,) = caplog.records
        assert "plain PyTorch runs instead" in record.getMessage()
        assert said in record.getMessage()
        monkeypatch.setenv("LLVE_KERNELS", "triton")
        with pytest.raises(ConfigError, match=said):
            kernels.device_kernels("llve_common.ops", device)
    monkeypatch.setenv("LLVE_KERNELS", "torch")
    assert kernels.device_kernels("llve_common.ops", device) is None


def test_a_kernel_writes_every_row_once_and_says_what_is_not_a_number(picture):
    pixels = np.asfortranarray(picture(23, 5))
    numbers = [True]

    def kernel(frame, result, rows):
        assert frame.flags.c_contiguous
        result[rows.start : rows.stop] = 255 - frame[rows.start : rows.stop]
        return numbers[0]

    prepared = Prepared(lambda *_: pytest.fail("torch ran"), 1, kernel=kernel)
    enhance = RowBlocks(prepared, "round", workers=3)
    np.testing.assert_array_equal(enhance(pixels), 255 - pixels)
    numbers[0] = False
    with pytest.raises(MediaError, match="not a number"):
        enhance(pixels)
