"""The demo, with a training of one epoch on a small set."""

import json
import re
import sys
from importlib import import_module
from types import SimpleNamespace

import demo
import pytest
from typer.testing import CliRunner

import llve_common.__main__ as common

SMALL = {"synthetic": ["--clips", "1", "--frames", "2", "--height", "24", "--width", "32"]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the demo, whose commands stay in this process."""

    def command(words, check):
        program, *typed = words
        assert program.is_file()
        app = common.app
        if program.name in demo.PAPERS:
            app = import_module(f"llve_{program.name}.__main__").app
        else:
            assert [typed.pop(0), typed.pop(0)] == ["-m", "llve_common"]
        result = CliRunner().invoke(app, typed + SMALL.get(typed[0], []))
        assert result.exit_code == 0, result.output

    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(demo, "subprocess", SimpleNamespace(run=command))
        monkeypatch.setattr(sys, "argv", ["demo", *map(str, words)])
        demo.main()

    return run


def test_demo(run, tmp_path, capsys):
    page = tmp_path / "demo" / "index.html"
    page.parent.mkdir()
    page.write_text("an earlier demo")
    run("--epochs", 1)
    said = capsys.readouterr().out
    assert f"The page is at {page}" in said
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", said, re.MULTILINE)
    assert len(commands) == 12
    plain = re.sub(r"</?span>", "", text)
    for shown in commands:
        assert f"$ {shown}" in plain
    assert text.count("<svg") == 1
    groups = [json.loads(each) for each in re.findall(r'"application/json">(.*?)</script>', text)]
    assert [len(group["panels"]) for group in groups] == [8, 7, 3, 3]
    assert [len(group["frames"]) for group in groups] == [1, 2, 1, 1]
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert str(tmp_path) not in text
    assert {each.name for each in page.parent.iterdir()} == demo.MADE


@pytest.mark.parametrize(
    "files", [["thesis.tex"], ["index.html", "summary.json"], ["clips", "tested"]]
)
def test_demo_refuses_what_holds_other_things(run, tmp_path, files):
    for file in files:
        (tmp_path / file).write_text("years of work")
    for out in (tmp_path, tmp_path / files[0]):
        with pytest.raises(SystemExit, match="holds something other than a demo"):
            run("--out", out)
    assert [(tmp_path / file).read_text() for file in files] == ["years of work"] * len(files)
