"""How PyTorch's threads wait."""

import os

from llve_common.machine.waiting import let_idle_threads_sleep


def test_threads_wait_as_the_user_says_and_else_not_for_long(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as context:
        context.setenv("OMP_WAIT_POLICY", "active")
        let_idle_threads_sleep()
        assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    let_idle_threads_sleep()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    let_idle_threads_sleep()
    assert int(os.environ["GOMP_SPINCOUNT"]) < 300_000
