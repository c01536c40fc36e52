"""The workflows for forks call the same sessions that a user calls."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from reproduce.__main__ import parse_arguments
from reproduce.ledger import FILES as WRITTEN

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)


def steps_of(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [step for job in content["jobs"].values() for step in job["steps"]]


def test_all_are_there():
    assert {file.stem for file in WORKFLOWS} == {"floors", "reproduce", "tests"}


@FILES
def test_sessions_exist_and_nothing_else_is_run(file):
    commands = [step["run"] for step in steps_of(file) if "run" in step]
    called = [re.fullmatch(r"nox -s (\w+)", command) for command in commands]
    assert [match[1] for match in called if match] == [file.stem]
    sessions = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert re.search(rf"^@nox\.session.*\ndef {file.stem}\(", sessions, re.MULTILINE)
    assert {c for c, match in zip(commands, called, strict=True) if not match} == {
        "python -m pip install nox"
    }


@FILES
def test_actions_are_pinned_by_digest_beside_their_version(file):
    said = re.findall(r"uses: *(.*)", file.read_text(encoding="utf-8"))
    assert len(said) == len([step for step in steps_of(file) if "uses" in step]) > 0
    for action in said:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@FILES
def test_rights_and_time_are_bounded(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 180
        assert "permissions" not in job
    checkouts = [s for s in steps_of(file) if s.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False]


def test_when_they_run():
    # YAML 1.1 reads the key "on" as true.
    triggers = {f.stem: yaml.safe_load(f.read_text(encoding="utf-8"))[True] for f in WORKFLOWS}
    assert triggers["tests"].keys() == triggers["floors"].keys() == {"push", "pull_request"}
    assert triggers["reproduce"].keys() == {"schedule", "workflow_dispatch"}


def test_ledger_is_kept_even_of_a_failure(monkeypatch):
    [step] = [
        step
        for step in steps_of(ROOT / ".github" / "workflows" / "reproduce.yml")
        if "upload-artifact" in step.get("uses", "")
    ]
    assert step["if"] == "always()"
    monkeypatch.setattr(sys, "argv", ["reproduce"])
    out = parse_arguments().out.relative_to(Path.cwd())
    assert step["with"]["path"].split() == [str(out / name) for name in WRITTEN]
