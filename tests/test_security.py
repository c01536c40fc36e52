"""SECURITY.md: every promise names tests, and they are there."""

import re
from pathlib import Path

import pytest

from llve_common.paper.installed import find_papers, load_paper

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/.-]+\.py)::(\w+)`", PAGE)


def test_every_promise_names_a_test():
    _, _, table = PAGE.partition("| promise | kept by |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    assert len(rows) > 5
    assert [row for row in rows if "::" not in row.split(" | ")[-1]] == []


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_tests_are_there(file, test):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^ *def {test}\(", text, re.MULTILINE)


def test_the_floors_are_those_of_the_package():
    asked = (ROOT / "packages/common/pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"(PyTorch|Pillow|OpenCV|Jinja2) ([\d.]+\d) \(CVE", PAGE.replace("\n", " "))
    packages = {"PyTorch": "torch", "OpenCV": "opencv-python-headless"}
    assert len(named) == 4
    for name, version in named:
        assert f'"{packages.get(name, name.lower())}>={version}' in asked


def unbounded(schema, place=""):
    """The integers of a JSON schema that have no largest value."""
    if isinstance(schema, list):
        return [name for each in schema for name in unbounded(each, place)]
    if not isinstance(schema, dict):
        return []
    free = not schema.keys() & {"maximum", "exclusiveMaximum", "const", "enum"}
    own = [place] if schema.get("type") == "integer" and free else []
    return own + [name for key, each in schema.items() for name in unbounded(each, key)]


@pytest.mark.parametrize("paper", find_papers(None).values(), ids=lambda entry: entry.name)
def test_every_integer_of_the_settings_is_bounded(paper):
    loaded = load_paper(paper)
    kinds = [each.settings for each in loaded.procedures.values()] + [loaded.test.settings]
    assert [unbounded(kind.model_json_schema()) for kind in kinds] == [[]] * len(kinds)
