"""A paper's command: ``train`` and its like, ``test``, ``enhance``, ``weights``, ``configs``."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any, TypeVar

import typer

from llve_common.commands.configs import configs_app
from llve_common.commands.enhance import enhance_command
from llve_common.commands.options import TEST, TRAINING, Given, command_with
from llve_common.commands.terminal import Commands, console, progress_bar
from llve_common.commands.weights import weights_app
from llve_common.config import Settings, load_settings
from llve_common.errors import ConfigError
from llve_common.evaluate.scores import write_scores
from llve_common.evaluate.test import Tested, run_test
from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_command
from llve_common.machine.processes import processes
from llve_common.paper.configs import find_config
from llve_common.paper.contract import Paper
from llve_common.report.tested import test_tables, write_test_page
from llve_common.train.trainer import train

S = TypeVar("S", bound=Settings)

log = logging.getLogger(__name__)


def paper_app(paper: Paper, cls: type[Commands] = Commands) -> typer.Typer:
    """A paper's command with what every paper has, to which it may add its own."""
    app = typer.Typer(
        cls=cls, no_args_is_help=True, help=paper.title, pretty_exceptions_enable=False,
        # Published scripts write --data_path; --data-path is the same.
        context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
    )  # fmt: skip
    for name in paper.procedures:
        app.command(name)(_training_command(paper, name))
    app.command("test")(_test_command(paper))
    app.command("enhance")(enhance_command(paper))
    app.add_typer(weights_app(paper), name="weights")
    app.add_typer(configs_app(paper), name="configs")
    return app


def _training_command(paper: Paper, name: str) -> Any:
    procedure = paper.procedures[name]

    def run(given: Given) -> None:
        resume = _run_to_go_on_with(given)
        settings = (
            _settings(paper, procedure.settings, given)
            if resume is None
            else load_settings(procedure.settings, resume / "settings.yml")
        )
        with progress_bar("training", "loss {task.fields[note]}") as advance:
            folder = train(
                paper,
                procedure,
                settings,
                resume=resume,
                watch=lambda done, total, loss: advance(done, total, f"{loss:.5g}"),
                notes=given.notes,
            )
        if processes().first:
            console.print(f"run folder: {folder}", soft_wrap=True)

    return command_with(procedure.settings, TRAINING, procedure.options, run, resumes=True)


def _test_command(paper: Paper) -> Any:
    protocol = paper.test

    def run(given: Given) -> None:
        settings = _settings(paper, protocol.settings, given)
        for note in given.notes:
            log.warning("%s", note)
        with progress_bar("testing", "frames") as advance:
            tested = run_test(paper, settings, advance)
        _report(tested, settings.folder)

    return command_with(protocol.settings, TEST, protocol.options, run, resumes=False)


def _settings(paper: Paper, kind: type[S], given: Given) -> S:
    if given.published is not None and given.config is not None:
        raise ConfigError("give --config or -opt, not both", got=given.config)
    return load_settings(
        kind,
        find_config(paper, given.config),
        given.overrides,
        given.settings,
        base=None if given.published is None else given.published.given,
    )


def _run_to_go_on_with(given: Given) -> Path | None:
    """The folder that ``--resume`` or a published file names, which holds its own settings."""
    named = given.published.resume if given.published is not None else None
    folder = given.resume or named
    if folder is None:
        return None
    # A published file says all of a training, also where it only names the run.
    opt = "-opt" if given.published is not None and given.resume is not None else None
    words = [*filter(None, [given.config, opt]), *given.overrides, *given.settings]
    if words:
        where = "--resume" if given.resume else "resume_state"
        raise ConfigError(
            "a run that goes on keeps its settings",
            where=where,
            got=", ".join(words),
            mend=f"give {where} alone, or begin a new run",
        )
    if not (folder / "settings.yml").is_file():
        raise ConfigError("not a run's folder", where=folder, expected="settings.yml in it")
    return folder


def _report(tested: Tested, folder: Path) -> None:
    """Write a test's scores, tables and page, and print the tables."""
    paper, scores = tested.model.paper, tested.scores
    command = shlex.join([paper.name, *sys.argv[1:]])
    facts = {**tested.facts, "command": shown_command(command)}
    write_text(folder / "command.txt", f"{command}\n")
    write_scores(scores, folder, facts)
    console.print(f"weights: {tested.model.weights}", soft_wrap=True)
    tables = test_tables(tested)
    for table in tables:
        console.print(table.rich())
    if tables:
        write_text(folder / "summary.md", "\n".join(each.markdown() for each in tables))
    what = "scores"
    if tested.pictures.enhanced is not None:
        write_test_page(folder / "index.html", tested, facts, tables)
        what = f"{len(scores.frames)} images and index.html"
    for detail in tested.details:
        if not detail.pictures:
            console.print(detail.text, soft_wrap=True)
    seconds = sum(frame.seconds for frame in scores.frames)
    took = f"{seconds:.1f} s to enhance {len(scores.frames)} frames"
    console.print(f"wrote {what} to {folder}; {took}", soft_wrap=True)
