"""Two processes train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llve_common.weights.files import read_checkpoint

JOB = Path(__file__).with_name("two_processes.py")
TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]

pytestmark = pytest.mark.multiprocess


def job(folder, norm, accumulate, launcher=()):
    command = [sys.executable, *launcher, str(JOB), str(folder), norm, str(accumulate)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, check=False, env=environment, timeout=200, **pipes)
    assert done.returncode == 0, done.stdout
    (run,) = folder.iterdir()
    lines = (run / "losses.jsonl").read_text().splitlines()
    losses = [json.loads(line)["losses"]["total"] for line in lines]
    return read_checkpoint(run / "checkpoints" / "00000007.ckpt"), losses


def assert_near(state, wanted):
    for name in (name for name in wanted if "running" not in name):
        torch.testing.assert_close(state[name], wanted[name], rtol=0, atol=1e-9)


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    two, two_losses = job(tmp_path / "two", "plain", 1, TORCHRUN)
    one, one_losses = job(tmp_path / "one", "plain", 1)
    assert_near(two["network"], one["network"])
    assert two_losses == pytest.approx(one_losses, abs=1e-9)


def test_with_batch_norm_two_processes_equal_two_parts_averaged(tmp_path):
    two, two_losses = job(tmp_path / "two", "norm", 1, TORCHRUN)
    one, one_losses = job(tmp_path / "one", "norm", 2)
    # Parts of one process count their batches both; each of two processes counts its own.
    wanted = {name: value for name, value in one["network"].items() if "num_batches" not in name}
    assert_near(two["network"], wanted)
    assert two_losses == pytest.approx(one_losses, abs=1e-9)
    first, second = (each["buffers"]["1.running_mean"] for each in two["processes"])
    assert torch.equal(two["network"]["1.running_mean"], first)
    assert not torch.equal(first, second)
