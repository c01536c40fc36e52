"""A short part of the fuzz session, and what it takes for a fault."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz import __main__ as session
from fuzz.cases import KINDS, Base, Case

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.multiprocess
def test_a_short_session_has_no_fault(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--cases", "24", "--jobs", "2", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, list(tmp_path.iterdir())) == (0, []), done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()[:-1]} == KINDS.keys()
    assert "24 cases, 0 with faults" in done.stdout


def say(text, status):
    print(text, file=sys.stderr)
    raise SystemExit(status)


def leave(file, status):
    Path(file).write_text("x")
    say("error: no", status)


def breed():
    # The first process stays, too, until it is looked at.
    for _ in range(20):
        if os.fork() == 0:
            break
    time.sleep(30)


FAULTS = {
    "a traceback: ValueError": lambda: int("x"),
    "2 messages and status 1": lambda: say("error: a\nerror: b", 1),
    "0 messages and status 1": lambda: say("", 1),
    "1 messages and status 0": lambda: say("error: a", 0),
    "control characters": lambda: say("error: \x1b[31m", 1),
    "a message of 30007 characters": lambda: say("error: " + "a" * 29_999, 1),
    "left behind: ['out.png']": lambda: leave("out.png", 1),
    "left behind: ['tmp: x']": lambda: leave("../tmp/x", 0),
    "a traceback: MemoryError": lambda: bytearray(6 * 2**30),
    "ended with -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "too long": lambda: time.sleep(30),
    "too many processes": breed,
}


@pytest.mark.multiprocess
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize(
    ("fault", "act"), [*FAULTS.items(), (None, lambda: say("error: a", 1)), (None, lambda: None)]
)
def test_what_is_a_fault(tmp_path, monkeypatch, fault, act):
    monkeypatch.setattr(session, "make_case", lambda *_: Case(["x"]))
    monkeypatch.setattr(session, "program", lambda name: lambda words: act())
    if fault == "too long":  # the others have time enough on a busy machine
        monkeypatch.setattr(session, "SECONDS", 1)
    ended = session._run("x/0", Base(tmp_path, {}), tmp_path / "x" / "0", 0)
    assert any(each.startswith(fault) for each in ended.faults) if fault else not ended.faults
