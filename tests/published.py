"""The published command lines, typed as they stand, on small data in the published layout.

``published_lines.json`` holds the lines of the published READMEs, every option of the scripts with
its default, and the option files as ordered pairs. A paper's test says which of our commands a
script is, makes the data where the published defaults look for it, and makes settings small.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import typer

from llve_common.config import Settings
from llve_common.evaluate.test import run_test
from llve_common.paper.contract import Paper
from llve_common.testing.conformance import run_command
from llve_common.testing.reference import reference_json
from llve_common.train.trainer import train
from llve_common.weights.files import write_published

_LINE = re.compile(r"(?:python )?(?:-m torch\.distributed\.launch .*? )?(\w+\.py)(.*)")


@pytest.mark.reference
class PublishedLines:
    """Subclass as ``TestPublishedLines``."""

    paper: ClassVar[Paper]
    app: ClassVar[typer.Typer]
    scripts: ClassVar[dict[str, list[str]]]
    """Script, such as ``sci/train.py``, to the words of our command."""
    parsers: ClassVar[dict[str, list[list[str]]]]
    """File that defines options to the words of our commands that take them."""
    other_defaults: ClassVar[set[str]] = set()
    """Options whose published default is not ours; its reason stands in the package's README."""
    moved: ClassVar[dict[str, str]] = {}
    """Absolute folders in published option files to what a test writes instead."""
    small: ClassVar[dict[str, Any]]
    """Settings that make a training short."""
    small_test: ClassVar[dict[str, Any]] = {}
    """Settings that make a test short."""

    def make_data(self) -> None:
        """Make data and weights in the working folder, where the published defaults look."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _small(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = reference_json("published_lines")  # skips where it is absent
        monkeypatch.chdir(tmp_path)
        for name in ("LOCAL_RANK", "RANK"):  # what torch's launcher sets
            monkeypatch.setenv(name, "0")
        self.seen: list[Settings] = []

        def small_training(paper: Paper, procedure: Any, settings: Settings, **more: Any) -> Path:
            self.seen.append(settings)
            return train(paper, procedure, changed(settings, self.small), **more)

        def small_test(paper: Paper, settings: Settings, watch: Any) -> Any:
            self.seen.append(settings)
            return run_test(paper, changed(settings, self.small_test), watch)

        monkeypatch.setattr("llve_common.train.trainer.train", small_training)
        monkeypatch.setattr("llve_common.evaluate.test.run_test", small_test)
        self.make_data()
        for name, pairs in content["option_files"].items():
            paper, _, file = name.partition("/")
            if paper == self.paper.name:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
                text = "".join(f"{line}\n" for line in _yaml([(k.split("/"), v) for k, v in pairs]))
                for there, here in self.moved.items():
                    text = text.replace(there, here)
                Path(file).write_text(text)

    def run(self, *words: str, fails: bool = False) -> str:
        """Run our command and return what it printed."""
        return run_command(self.app, *words, fails=fails)

    def lines(self) -> list[str]:
        """The published lines of this paper."""
        found: list[str] = reference_json("published_lines")["lines"][self.paper.name]
        return found

    def commands(self, line: str) -> list[list[str]]:
        """Our commands for a published line."""
        found = _LINE.fullmatch(line)
        assert found, line
        script = self.scripts[f"{self.paper.name}/{found[1]}"]
        return [[*script, *shlex.split(found[2])]]

    def test_lines(self) -> None:
        for line in self.lines():
            for words in self.commands(line):
                self.run(*words)
        assert self.seen

    def test_options(self) -> None:
        """Every option at its published default is accepted, and has the value of our setting."""
        every = reference_json("published_lines")["options"]
        for file, commands in self.parsers.items():
            options = {name: each for name, each in every[file].items() if name != "--mode"}
            typed = [word for name, each in options.items() for word in _typed(name, each)]
            for words in commands:
                self.run(*words, *typed)
                self.check_values(words[0], options)

    def check_values(self, command: str, options: dict[str, Any]) -> None:
        """What was typed is in the settings, and numbers are our defaults too."""
        kind = self.paper.settings.get(command)
        if kind is None:
            return
        given, ours = self.seen[-1], kind()
        # Of several options for one setting the last that is typed counts.
        flags = self.paper.options[kind].flags
        settings = {flags[option]: option for option in options if option in flags}
        for setting, option in settings.items():
            if isinstance(setting, str):
                default, found = options[option]["default"], attrgetter(setting)(given)
                assert found == type(found)(default), option
                if isinstance(default, int | float) and option not in self.other_defaults:
                    assert attrgetter(setting)(ours) == default, option


def changed(settings: Any, values: dict[str, Any]) -> Any:
    """The same settings but for these, by their dotted names."""
    for name, value in values.items():
        section, _, rest = name.partition(".")
        new = changed(getattr(settings, section), {rest: value}) if rest else value
        settings = settings.model_copy(update={section: new})
    return settings


def random_weights(path: Path, make: Callable[[], torch.nn.Module], paper: Paper) -> None:
    """A file under the published names; nothing is shown of what it gives."""
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_published(path, paper.to_published(make().state_dict()))


def _typed(name: str, facts: dict[str, Any]) -> list[str]:
    if facts.get("action") == "store_true":
        return [name]
    if "default" not in facts or name == "-opt":
        return []
    default = facts["default"]
    return [name, str(default[0] if isinstance(default, list) else default)]


def _yaml(pairs: list[tuple[list[str], str]], indent: str = "") -> Iterator[str]:
    """Key paths and texts as YAML, in their order, those that stand twice twice."""
    sections: set[str] = set()
    for (head, *rest), text in pairs:
        if not rest:
            yield f"{indent}{head}: {text}"
        elif head not in sections:
            sections.add(head)
            yield f"{indent}{head}:"
            below = [(key[1:], value) for key, value in pairs if key[0] == head and key[1:]]
            yield from _yaml(below, f"{indent}  ")
