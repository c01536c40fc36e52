"""A full frame within the memory of an ordinary machine."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from llve_tcenet.fast import combine, part
from llve_tcenet.network import TCENet
network = TCENet().eval()
frames = torch.rand(1, 6, 3, 1088, 1920)
with torch.inference_mode():
    parts = [part(network, frames[:, start : start + 5]) for start in (0, 1)]
    assert combine(network, parts, (0,)).shape == (1, 1, 3, 1088, 1920)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_full_hd_takes_less_than_8_gb():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 8e9
