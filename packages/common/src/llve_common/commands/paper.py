"""A paper's command: ``train`` and its like, ``test``, ``enhance``, ``weights``, ``configs``."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from llve_common import __version__
from llve_common.commands.configs import configs_app
from llve_common.commands.enhance import enhance_command
from llve_common.commands.options import CommandLine, command_with, flags_of, words_of
from llve_common.commands.terminal import SHORT_HELP, Commands, add_version, console, progress_bar
from llve_common.commands.weights import weights_app
from llve_common.config import (
    PairSettings,
    Settings,
    TestSettings,
    dotted_names,
    field_of,
    load_settings,
)
from llve_common.errors import ConfigError, UserError
from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_command
from llve_common.machine.locks import alone_in
from llve_common.machine.processes import processes
from llve_common.machine.shell import COMMAND, command_line
from llve_common.paper.about import About
from llve_common.paper.configs import find_config

if TYPE_CHECKING:
    from llve_common.evaluate.test import Tested
    from llve_common.paper.contract import Paper, Procedure

S = TypeVar("S", bound=Settings)

log = logging.getLogger(__name__)


def paper_app(paper: About, cls: type[Commands] = Commands) -> typer.Typer:
    """A paper's command with what every paper has, to which it may add its own."""
    app = typer.Typer(
        cls=cls, no_args_is_help=True, help=paper.title, pretty_exceptions_enable=False,
        rich_markup_mode=None,
        # Published scripts write --data_path; --data-path is the same.
        context_settings={
            **SHORT_HELP, "token_normalize_func": lambda name: name.replace("_", "-"),
        },
    )  # fmt: skip
    own = import_module(paper.package).__version__
    add_version(app, f"{paper.name} {own}, llve-common {__version__}")
    for name in paper.settings:
        make = _test_command if name == "test" else _training_command
        app.command(name)(make(paper, name))
    app.command("enhance")(enhance_command(lambda given, raw: paper))
    app.add_typer(weights_app(paper), name="weights")
    app.add_typer(configs_app(paper), name="configs")
    return app


def _training_command(paper: About, name: str) -> Any:
    kind = paper.settings[name]

    def run(given: CommandLine) -> None:
        resume = _run_to_go_on_with(given)
        settings = (
            _settings(paper, kind, given)
            if resume is None
            else _settings_of_run(kind, resume, given)
        )
        from llve_common.train.trainer import train

        whole = paper.paper()
        with (
            _defaults_named(paper, kind),
            progress_bar("training", "loss {task.fields[note]}") as advance,
        ):
            folder = train(
                whole,
                whole.procedures[name],
                settings,
                resume=resume,
                watch=lambda done, total, loss: advance(done, total, f"{loss:#.5g}"),
                notes=given.notes,
            )
        if processes().first:
            console.print(f"run folder: {folder}", soft_wrap=True)
            for line in _ending(whole, whole.procedures[name], folder, settings):
                console.print(line, soft_wrap=True, markup=False, highlight=False)

    return command_with(kind, paper.options[kind], run, resumes=True)


def _ending(paper: Paper, procedure: Procedure[Any], folder: Path, settings: Any) -> Iterator[str]:
    """What a training came to: its scores, its weights, and what to type next."""
    from llve_common.train.record import BEST, best_of, listed, read_validations

    written = folder.glob(re.sub(r"\{.*?\}", "*", procedure.weights_name))
    weights = max(written, key=lambda file: file.stat().st_mtime_ns, default=None)
    validations = read_validations(folder)
    for name, line in (("last", validations[-1:]), ("best", [best_of(validations)])):
        for each in filter(None, line):
            yield f"{name} validation, iteration {each['iteration']}: {listed(each['validation'])}"
    best = next(iter(sorted(folder.glob(f"{BEST}.*"))), None)
    if best is not None:
        yield f"best weights, by PSNR: {best}"
    if best or weights:
        # Fine-tuning takes no pairs.
        own = words_of(getattr(settings, "pairs", PairSettings()))
        yield f"next: {command_line([paper.name, 'test', '--model', str(best or weights), *own])}"


def _test_command(paper: About, name: str) -> Any:
    kind = paper.settings[name]

    def run(given: CommandLine) -> None:
        settings = _settings(paper, kind, given)
        assert isinstance(settings, TestSettings)
        from llve_common.evaluate.test import run_test

        for note in given.notes:
            log.warning("%s", note)
        started = time.time()
        with alone_in(settings.folder):
            with _defaults_named(paper, kind), progress_bar("testing", "frames") as advance:
                tested = run_test(paper.paper(), settings, advance)
            _report(tested, settings.folder)
            _name_other_pictures(tested, settings.folder, started)

    return command_with(kind, paper.options[kind], run, resumes=False)


@contextmanager
def _defaults_named(paper: About, kind: type[Settings]) -> Iterator[None]:
    """Say of a default folder or file that fails that it is one, and what gives another."""
    try:
        yield
    except UserError as error:
        flags = flags_of(kind, paper.options[kind])
        for name in dotted_names(kind):
            if isinstance(error.where, Path) and field_of(kind, name)[1] == error.where:
                given = next(
                    (f"{flag} PATH" for flag in flags if flags[flag] == name), f"{name}=PATH"
                )
                mend = f"this is the default of {name}: give {given}"
                own = ", or your own pairs by --low" if "pairs" in kind.model_fields else ""
                raise error.mended_by(mend + own) from error
        raise


def _name_other_pictures(tested: Tested, folder: Path, started: float) -> None:
    """Say which pictures in the folder were there before the test, and are not what it read."""
    from llve_common.clips.clip import files_of
    from llve_common.clips.folders import some_of, walk
    from llve_common.video import is_image

    read = {file.resolve() for file in files_of(tested.clips)}
    older = [
        str(file)
        for file in walk(folder, recursive=True)[0]
        if is_image(file) and file.stat().st_mtime < started and file.resolve() not in read
    ]
    if older:
        log.warning("beside the results are pictures that are not of this test: %s", some_of(older))


def _settings(paper: About, kind: type[S], given: CommandLine) -> S:
    if given.published is not None and given.config is not None:
        raise ConfigError("give --config or -opt, not both", got=given.config)
    return load_settings(
        kind,
        find_config(paper, given.config),
        given.overrides,
        given.settings,
        base=None if given.published is None else given.published.given,
    )


def _run_to_go_on_with(given: CommandLine) -> Path | None:
    """The folder that ``--resume`` or a published file names, which holds its own settings."""
    named = given.published.resume if given.published is not None else None
    folder = given.resume or named
    if folder is None:
        return None
    # A file says all of a training, and a published one also where it only names the run.
    words = [given.config] if given.config is not None else []
    if given.published is not None:
        words += ["-opt"] if given.resume is not None else [*given.overrides, *given.settings]
    if words:
        where = "--resume" if given.resume else "resume_state"
        raise ConfigError(
            "a run that goes on keeps its settings",
            where=where,
            got=", ".join(words),
            mend=f"give {where} alone, or with single settings such as train.epochs=200",
        )
    if not (folder / "settings.yml").is_file():
        raise ConfigError("not a run's folder", where=folder, expected="settings.yml in it")
    return folder


def _settings_of_run(kind: type[Settings], folder: Path, given: CommandLine) -> Any:
    """The run's own settings, but for what is given: nothing moves it."""
    settings: Any = load_settings(kind, folder / "settings.yml", given.overrides, given.settings)
    here, run = folder.resolve(), settings.run
    said = {*given.settings, *(text.partition("=")[0] for text in given.overrides)}
    places = {"run.save": (run.save.resolve(), here.parent), "run.name": (run.name, here.name)}
    for name, (wanted, own) in places.items():
        if name in said and wanted != own:
            what, mend = "a run that goes on stays where it is", "leave it out"
            raise ConfigError(what, where=name, got=wanted, expected=own, mend=mend)
    return settings


def _report(tested: Tested, folder: Path) -> None:
    """Write a test's scores, tables and page, and print the tables."""
    from llve_common.clips.clip import files_of
    from llve_common.evaluate.scores import remove_earlier, write_scores
    from llve_common.report.tested import test_tables, write_test_page

    paper, scores = tested.model.paper, tested.scores
    command = command_line([paper.name, *sys.argv[1:]])
    facts = {**tested.facts, "command": shown_command(command)}
    new = (file for frame in scores.frames for file in frame.pictures)
    remove_earlier(folder, (*new, *files_of(tested.clips)))
    write_text(folder / COMMAND, f"{command}\n")
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
