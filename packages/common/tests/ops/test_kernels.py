"""Which of a paper's own kernels runs."""

import numpy as np
import pytest

from llve_common.enhance.row_blocks import RowBlocks
from llve_common.errors import ConfigError, MediaError
from llve_common.ops import kernels
from llve_common.paper.contract import Prepared


@pytest.fixture(autouse=True)
def _choosing():
    kernels._choose.cache_clear()
    yield
    kernels._choose.cache_clear()


def test_without_a_compiler(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.kernel_library("llve_common.ops") is None
    assert kernels.kernel_library("llve_common.ops") is None
    (record,) = caplog.records
    assert "plain PyTorch runs instead" in record.getMessage()
    monkeypatch.setenv("LLVE_KERNELS", "c")
    with pytest.raises(ConfigError, match="no program `cc` on the PATH"):
        kernels.kernel_library("llve_common.ops")
    monkeypatch.setenv("LLVE_KERNELS", "triton")
    with pytest.raises(ConfigError, match="auto or torch or c"):
        kernels.kernel_library("llve_common.ops")


def test_a_kernel_writes_every_row_once_and_says_what_is_not_a_number(picture):
    pixels = np.asfortranarray(picture(23, 5))
    numbers = [True]

    def kernel(frame, result, rows, seen):
        assert frame.flags.c_contiguous
        assert seen == "seen"
        result[rows.start : rows.stop] = 255 - frame[rows.start : rows.stop]
        return numbers[0]

    prepared = Prepared(lambda *_: pytest.fail("torch ran"), 1, lambda _: "seen", kernel)
    enhance = RowBlocks(prepared, "round", workers=3)
    np.testing.assert_array_equal(enhance(pixels), 255 - pixels)
    numbers[0] = False
    with pytest.raises(MediaError, match="not a number"):
        enhance(pixels)
