"""The example of docs/add-a-paper.md, built as the page says."""

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from markdown import page_commands, page_files
from reproduce.claims import read_claims

from llve_common.data.synthetic import write_dark_photograph

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "add-a-paper.md"


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A folder with the page's files."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in page_files(PAGE).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_dark_photograph(folder, "astronaut", 0)[1].rename(folder / "dark.jpg")
    return folder


def run(folder: Path, command: str) -> str:
    words = shlex.split(command)
    words = words[1:] if words[0] == "python" else ["-m", "llve_gamma", *words[1:]]
    source = str(folder / "packages" / "gamma" / "src")
    path = os.pathsep.join([source, *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_package_has_the_files_of_every_other(reader):
    """But for weights, a faster form of the network, and the mark of a package with types."""
    names, others = (
        {file.name for file in (root / "packages" / paper / "src" / f"llve_{paper}").iterdir()}
        for root, paper in ((reader, "gamma"), (ROOT, "sci"))
    )
    assert names - {"__pycache__"} == others - {"__pycache__", "bundled", "fast.py", "py.typed"}


def test_project_is_like_every_other(reader, monkeypatch):
    text = (reader / "packages" / "gamma" / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    model = tomllib.loads((ROOT / "packages" / "sci" / "pyproject.toml").read_text())
    replaced = str(model["tool"]).replace("llve_sci", "llve_gamma")
    assert str(project["tool"]) == replaced
    assert project["build-system"] == model["build-system"]
    monkeypatch.syspath_prepend(reader / "packages" / "gamma" / "src")
    for place in (
        project["project"]["scripts"]["gamma"],
        project["project"]["entry-points"]["llve.papers"]["gamma"],
    ):
        module, _, name = place.partition(":")
        assert getattr(importlib.import_module(module), name)


def test_claims_hold(reader):
    claims = read_claims(reader / "packages" / "gamma" / "paper.toml")
    assert [claim.status for claim in claims.claim] == ["reproduced"]


def test_commands_of_the_page(reader):
    """The conformance suite, a training, and a picture."""
    install, *commands = page_commands(PAGE)
    assert install == "python -m pip install -e packages/gamma"
    shutil.copy(ROOT / "packages" / "sci" / "hatch_build.py", reader / "packages" / "gamma")
    outputs = [run(reader, command) for command in commands]
    assert len(outputs) == 4
    assert "1 xfailed" in outputs[0]
    assert (reader / "dark-enhanced.jpg").is_file()
