"""The example of docs/add-a-paper.md, built as the page says."""

import importlib
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from markdown import page_commands, page_files, write_page_files

import llve_common.__main__ as common
from llve_common.data.synthetic import write_dark_photograph
from llve_common.testing.conformance import run_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "add-a-paper.md"


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A folder with the page's files."""
    folder = tmp_path_factory.mktemp("reader")
    write_page_files(PAGE, folder)
    write_dark_photograph(folder, "astronaut", 0)[1].rename(folder / "dark.jpg")
    return folder


@pytest.fixture
def source(reader, monkeypatch) -> Path:
    """The page's package, which can be imported."""
    monkeypatch.syspath_prepend(reader / "packages" / "gamma" / "src")
    return reader / "packages" / "gamma" / "src"


def test_the_page_is_short(reader):
    """Ten files with the copied build hook, and no command line of its own."""
    files = [*page_files(PAGE), "packages/gamma/hatch_build.py"]
    assert len(files) <= 10
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 300


def test_project_is_like_every_other(reader, source):
    text = (reader / "packages" / "gamma" / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    model = tomllib.loads((ROOT / "packages" / "sci" / "pyproject.toml").read_text())
    replaced = str(model["tool"]).replace("llve_sci", "llve_gamma")
    assert str(project["tool"]) == replaced
    assert project["build-system"] == model["build-system"]
    for place in (
        project["project"]["scripts"]["gamma"],
        project["project"]["entry-points"]["llve.papers"]["gamma"],
    ):
        module, _, name = place.partition(":")
        assert getattr(importlib.import_module(module), name)


def test_commands_of_the_page(reader, source, monkeypatch):
    """The conformance suite, a training, and a picture."""
    install, suite, *commands = page_commands(PAGE)
    assert install == "python -m pip install -e packages/gamma"
    monkeypatch.chdir(reader)
    done = subprocess.run(
        # That two processes make one run is the trainer's, and tested for every other paper.
        [sys.executable, *shlex.split(suite)[1:], "-m", "not multiprocess"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(source), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 xfailed" in done.stdout
    assert len(commands) == 3
    gamma = importlib.import_module("llve_gamma.__main__").app
    for command in commands:
        program, *words = shlex.split(command.removeprefix("python -m "))
        run_command(gamma if program == "gamma" else common.app, *words)
    assert (reader / "dark-enhanced.jpg").is_file()
