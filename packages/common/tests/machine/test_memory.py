"""What becomes of freed memory."""

import gc
import os
import platform
import subprocess
import sys

import pytest

from llve_common.machine.memory import lasting_objects

PROGRAM = """
import resource, sys, threading
import numpy as np
from llve_common.machine import memory

def fill():
    [np.ones(size << 20, np.uint8) for size in (20, 20, 20, 40)]

def use():
    # Of a thread's own heap too.
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for left in sys.argv[1:]:
    memory.memory_left = lambda: int(left) << 30
    memory.keep_freed_memory()
use()
use()
before = faults()
use()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not GNU's")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    def pages(*words: str, **variables: str) -> int:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment |= {"NUMPY_MADVISE_HUGEPAGE": "0"} | variables
        command = [sys.executable, "-c", PROGRAM, *words]
        return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert pages("16") < 1000
    assert 10_000 < pages("8") < 12_000
    assert pages() > 20_000
    assert pages("16", MALLOC_TRIM_THRESHOLD_="65536") > 20_000


def test_what_lasts_is_kept_from_the_garbage_collector():
    gc.unfreeze()
    with lasting_objects():
        made = [[]]
        assert not gc.isenabled()
    assert gc.isenabled()
    assert not any(each is made for each in gc.get_objects())
    gc.unfreeze()
