"""A command that is ended by a signal at one of its steps on files."""

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from llve_common.testing.conformance import forking

_STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def start(words, folder, number=0, at=0):
    """Start a command in a folder, in a process that imports little.

    Its steps are that it opens a file in the folder to write it, or makes, renames or removes one;
    the signal ``number`` comes at step ``at``. At its end the folder's ``steps`` has their count,
    and ``said-*`` what it said.
    """
    process = forking().Process(target=_run, args=(words, folder, number, at), daemon=True)
    process.start()
    return process


def _run(words, folder, number, at):
    folder.mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    os.chdir(folder)
    os.environ |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    said = os.open(f"said-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    steps = 0

    def watch(event, args):
        nonlocal steps
        if event not in _STEPS or isinstance(args[0], int):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if Path(os.fsdecode(args[0])).absolute().is_relative_to(folder):
            steps += 1
            if steps == at:
                os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the programs begin
    sys.argv = list(words)
    app = import_module(f"llve_{words[0].replace('llve', 'common')}.__main__").app
    sys.addaudithook(watch)
    try:
        app(words[1:], prog_name=words[0])
    finally:
        Path("steps").write_text(str(steps))
