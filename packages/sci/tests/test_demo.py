"""The demo, with a training of one epoch."""

import re
import sys

import demo
import pytest
from typer.testing import CliRunner

import llve_common.__main__ as common
from llve_sci.__main__ import app


@pytest.fixture
def run(monkeypatch):
    """Runs the demo, whose commands stay in this process."""

    def command(words, check):
        program = [word for word in words[1:] if word not in ("-m", "llve_common")]
        assert words[0].is_file()
        chosen = app if words[0].name == "sci" else common.app
        assert CliRunner().invoke(chosen, program).exit_code == 0, words

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
