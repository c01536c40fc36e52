"""Settings of the whole test suite."""

import os
import signal

import pytest
import torch

# What their assertions compare is shown, as of a test file's own.
pytest.register_assert_rewrite("llve_common.testing.conformance", "published")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--slow``."""
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure() -> None:
    """One thread: the same sums in the same order everywhere, and two workers share two cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    # A shell's job in the background ignores Ctrl-C, and one of nohup SIGHUP; tests send both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine or this run is not for, and say why."""
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture
def triton_on_a_cpu() -> None:
    """Skips where Triton's interpreter does not run its kernels: ``TRITON_INTERPRET=1 pytest``."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton's kernels run on a CPU with TRITON_INTERPRET=1 only")
