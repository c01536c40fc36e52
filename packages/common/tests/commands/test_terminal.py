import errno
import logging
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from llve_common.commands import terminal
from llve_common.commands.terminal import Commands, progress_bar


def result_of(command, *words):
    app = typer.Typer(cls=Commands)
    app.command("one")(command)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["one", *words])


def test_full_standard_output_is_one_message():
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    result = result_of(full)
    assert result.exit_code == 1
    assert result.output.startswith("error: standard output cannot be written\n  got: No space")


@pytest.mark.parametrize("words", [[""], ["--out", ""], ["--out="]])
def test_a_variable_that_is_not_set_is_no_name(words):
    assert "a name is empty\n  to mend: is a variable" in result_of(lambda: None, *words).output


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (60.0, 0)])
def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch, every, lines):
    def count():
        with progress_bar("training", "loss {task.fields[note]}") as advance:
            advance(1, 2, "0.5")
            advance(2, 2, "0.25")

    monkeypatch.setattr(terminal, "_LINE_EVERY", every)
    said = ["training: 1 of 2, loss 0.5", "training: 2 of 2, loss 0.25"]
    assert result_of(count).output.splitlines() == said[:lines]


def test_a_library_s_own_warnings_are_not_the_user_s():
    def plot():
        logging.getLogger("matplotlib").warning("created a temporary cache directory")
        logging.getLogger("llve_common").warning("a picture is missing")

    output = result_of(plot).output
    assert "a picture is missing" in output
    assert "cache" not in output


INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
except KeyboardInterrupt:
    pass
"""
"""A library that passes over Ctrl-C while it is imported, as large ones do."""


def test_ctrl_c_while_a_library_is_imported_ends_at_once_and_leaves_nothing(tmp_path):
    (tmp_path / "large.py").write_text(INTERRUPTED)
    (tmp_path / "program.py").write_text(
        "import typer\n"
        "from llve_common.commands.terminal import Commands\n"
        "from llve_common.io.atomic import temporary_folder\n"
        "app = typer.Typer(cls=Commands)\n"
        "app.callback()(lambda: None)\n"
        "@app.command()\n"
        "def run():\n"
        "    with temporary_folder():\n"
        "        import large\n"
        "    print('went on')\n"
        "app()\n"
    )
    words = [sys.executable, "program.py", "run"]
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout + ended.stderr) == (130, b"")
    assert list((tmp_path / "tmp").iterdir()) == []
