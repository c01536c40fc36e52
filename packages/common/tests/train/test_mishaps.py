"""What ends a training from outside is one message, and nothing waits for ever."""

import gc
import multiprocessing
import os
import resource
import signal
import sys
import time
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import get_worker_info

from llve_common.errors import MediaError, UserError
from llve_common.paper.contract import Plan
from llve_common.train import batches
from llve_common.train.mishaps import explained


@pytest.fixture
def few_files():
    """As after ``ulimit -n``: not enough to hand a batch over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what failed before may hold files until then
    # The limit is of numbers, of which the lowest that is free is the next.
    taken = {each.name for each in Path("/proc/self/fd").iterdir()}
    free = (number for number in count() if str(number) not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(islice(free, 12, None)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def load(go, tiny_set, tmp_path):
    """Trains with two processes that load data, which meet something at the fourth sample."""

    def start(meet, workers=2, **more):
        class Unlucky(tiny_set):
            def sample(self, index, rng):
                if index == 3 and (get_worker_info() or not workers):
                    meet()
                return super().sample(index, rng)

        plan = Plan(5, 1, 1)
        chosen = {"workers": workers, "iterations": 5}
        return go(chosen, data=lambda settings: Unlucky(), plan=lambda *_: plan, **more)

    return start


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("meet", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "loading the data has failed"),
        (lambda: time.sleep(600), "DataLoader timed out"),
        (lambda: torch.zeros(1 << 50), "not enough memory"),
    ],
    ids=["killed", "stuck", "memory"],
)
def test_a_loader_that_fails_is_one_message_and_leaves_none_behind(load, monkeypatch, meet, said):
    monkeypatch.setattr(batches, "_LOOK", 0.3)
    with pytest.raises(UserError, match=said) as caught:
        load(meet)
    assert "\n  to mend: " in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.multiprocess
@pytest.mark.parametrize("work", ["compute", "read"])
def test_a_loader_that_is_slow_but_at_work_is_waited_for(load, monkeypatch, work):
    """Longer than one that stands still."""
    monkeypatch.setattr(batches, "_LOOK", 0.1)

    def meet():
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            if work == "read":
                Path(__file__).read_bytes()
                time.sleep(0.02)

    assert (load(meet) / "checkpoints" / "00000005.ckpt").exists()


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform != "linux", reason="forks there alone")
def test_signals_to_all_processes_end_no_loader(load):
    """Not by a fork server either, which Python 3.14 has by default and which dies of them."""

    def meet():
        assert multiprocessing.parent_process().pid == trainer
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
            os.kill(os.getpid(), number)

    trainer, usual = os.getpid(), multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)
    try:
        assert (load(meet) / "checkpoints" / "00000005.ckpt").exists()
    finally:
        multiprocessing.set_start_method(usual, force=True)


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform != "linux", reason="counts open files by /proc")
def test_too_few_open_files_are_one_message(load, few_files):
    with pytest.raises(UserError, match="Too many open files") as caught:
        load(lambda: None)
    assert "raise ulimit -n" in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end them")
def test_loaders_die_with_their_trainer(load):
    read, write = os.pipe()
    trainer = os.fork()
    if trainer == 0:
        try:
            load(lambda: (os.write(write, b"%d " % os.getpid()), time.sleep(600)), workers=1)
        finally:
            os._exit(1)
    loader = Path("/proc", os.read(read, 99).decode().strip(), "stat")
    os.kill(trainer, signal.SIGKILL)
    os.waitpid(trainer, 0)
    deadline = time.monotonic() + 20
    # One that nobody has waited for yet is dead as well.
    while loader.exists() and loader.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            RuntimeError("Caught RuntimeError in DataLoader worker process 0.\n  unable to "
                         "allocate shared memory(shm) for file </torch_1_2_0>: No space left"),
            UserError, "no room in the shared memory",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), UserError,
         "no room in the shared memory"),
        (MemoryError(), UserError, "not enough memory\n  got: MemoryError"),
        (OSError(28, "No space left on device", "a.txt"), MediaError, "a.txt: cannot be"),
        (RuntimeError("shapes do not match"), RuntimeError, "^shapes do not match$"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "^a bug$"),
    ],
)  # fmt: skip
def test_what_the_machine_says_is_explained_and_a_bug_is_not(error, kind, said):
    with pytest.raises(kind, match=said) as caught, explained():
        raise error
    assert type(caught.value) is kind


@pytest.mark.parametrize("name", ["losses.jsonl", "command.txt", "train.log"])
def test_a_full_disk_is_one_message_and_keeps_the_checkpoint(go, capfd, name):
    folder = go({"iterations": 4})
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/full")
    if name == "train.log":  # what has to be written says it
        go({"iterations": 6}, resume=folder)
    else:
        with pytest.raises(MediaError, match=f"{name}: cannot be written\n  got: No space left"):
            go({"iterations": 6}, resume=folder)
        assert (folder / "checkpoints" / "00000004.ckpt").is_file()
    assert "Traceback" not in capfd.readouterr().err
