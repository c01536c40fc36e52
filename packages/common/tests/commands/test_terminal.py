import errno
import os

import pytest
import typer
from typer.testing import CliRunner

from llve_common.commands import terminal
from llve_common.commands.terminal import Commands, progress_bar


def result_of(command):
    app = typer.Typer(cls=Commands)
    app.command("one")(command)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["one"])


def test_full_standard_output_is_one_message():
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    result = result_of(full)
    assert result.exit_code == 1
    assert result.output.startswith("error: standard output cannot be written\n  got: No space")


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (60.0, 0)])
def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch, every, lines):
    def count():
        with progress_bar("training", "loss {task.fields[note]}") as advance:
            advance(1, 2, "0.5")
            advance(2, 2, "0.25")

    monkeypatch.setattr(terminal, "_LINE_EVERY", every)
    said = ["training: 1 of 2, loss 0.5", "training: 2 of 2, loss 0.25"]
    assert result_of(count).output.splitlines() == said[:lines]
