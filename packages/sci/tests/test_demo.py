"""The demo, with a training of one epoch on a small set."""

import re
import sys

import demo
import pytest
from typer.testing import CliRunner

import llve_common.__main__ as common
from llve_sci.__main__ import app

SMALL = {"synthetic": ["--clips", "1", "--frames", "2", "--height", "24", "--width", "32"]}


@pytest.fixture
def run(monkeypatch):
    """Runs the demo, whose commands stay in this process."""

    def command(words, check):
        program, *typed = words
        assert program.is_file()
        chosen = app if program.name == "sci" else common.app
        if chosen is common.app:
            assert [typed.pop(0), typed.pop(0)] == ["-m", "llve_common"]
        result = CliRunner().invoke(chosen, typed + SMALL.get(typed[0], []))
        assert result.exit_code == 0, result.output

    def run(*words):
        monkeypatch.setattr(demo.subprocess, "run", command)
        monkeypatch.setattr(sys, "argv", ["demo", *map(str, words)])
        demo.main()

    return run


def test_demo(run, tmp_path, capsys):
    page = tmp_path / "demo" / "index.html"
    run("--epochs", 1, "--out", page.parent)
    said = capsys.readouterr().out
    assert f"The page is at {page}" in said
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", said, re.MULTILINE)
    assert len(commands) == 6
    for shown in commands:
        assert f"$ {shown}" in text
    assert text.count("<svg") == 1
    assert text.count('class="at"') == 7
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_demo_refuses_a_folder_that_holds_other_things(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="holds something other than a demo"):
        run("--out", tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
