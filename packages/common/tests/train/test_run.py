"""What Ctrl-C and SIGTERM do to a run."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from llve_common.errors import UserError
from llve_common.train.run import stopping_softly


def send_after(iteration, number):
    """A watcher that sends this process a signal."""
    return lambda done, *_: done == iteration and os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_iteration_and_says_how_to_go_on(go, tmp_path, number):
    usual = signal.getsignal(number)
    with pytest.raises(UserError) as caught:
        go(watch=send_after(2, number))
    assert signal.getsignal(number) is usual
    # It comes when an iteration is done, and is seen after the one that runs then.
    (folder,) = (tmp_path / "runs").iterdir()
    assert "stopped by a signal after iteration 3 of 6" in str(caught.value)
    assert f"go on with --resume {folder}" in str(caught.value)
    kept = sorted(file.name for file in (folder / "checkpoints").iterdir())
    assert kept == ["00000002.ckpt", "00000003.ckpt"]


def test_a_signal_that_is_ignored_stays_so(go):
    """As nohup has it."""
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        folder = go(watch=send_after(2, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, usual)
    assert "finished after 6 iterations" in (folder / "train.log").read_text()


def test_signal_in_the_last_iteration_lets_the_run_finish(go):
    folder = go(watch=send_after(5, signal.SIGTERM))
    assert "finished after 6 iterations" in (folder / "train.log").read_text()


def test_the_second_signal_acts_as_usual():
    run, usual = SimpleNamespace(stopped=False), signal.getsignal(signal.SIGINT)
    with stopping_softly(run):
        os.kill(os.getpid(), signal.SIGINT)
        assert run.stopped
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_run_in_another_thread_leaves_signals_alone():
    seen = []

    def look():
        with stopping_softly(SimpleNamespace(stopped=False)):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
