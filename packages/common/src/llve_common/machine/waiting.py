"""How PyTorch's threads wait."""

import os


def let_idle_threads_sleep() -> None:
    """Let the threads of PyTorch's OpenMP sleep soon after a layer; before PyTorch is imported.

    GNU's spin for some milliseconds. So they take cores from the threads of our own kernels, and
    from those that decode, encode and load data. A tenth of a millisecond bridges the time between
    two layers. Nothing changes where the user says how they wait.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
