"""What every command shares: the terminal, progress, and a user's mistake as one message."""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from llve_common.config import DEVICES
from llve_common.errors import ConfigError, MediaError, UserError, printable
from llve_common.io.atomic import remove_temporaries
from llve_common.machine.memory import keep_freed_memory
from llve_common.machine.processes import STOPPING, processes
from llve_common.machine.shell import command_line
from llve_common.machine.waiting import let_idle_threads_sleep


class Terminal(Console):
    """Shows text as it is: the names of files are neither markup nor commands to the terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        # What goes to a file or a program is not cut to the width of a terminal that is not there.
        cut = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
        width = None if cut else 10_000
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Text in one line; what has several is printed line by line."""
        return super().render_str(printable(text), **options)


class _Lines(logging.Handler):
    """Shows messages after their level, not filled up to the terminal's width as rich does."""

    def emit(self, record: logging.LogRecord) -> None:
        level = (f"{record.levelname:<8} ", f"logging.level.{record.levelname.lower()}")
        text = printable(self.format(record), lines=True)
        messages.print(Text.assemble(level, text), soft_wrap=True)


console = Terminal()
messages = Terminal(stderr=True)

_LINE_EVERY = 60.0
"""Seconds between two lines of progress where there is no terminal."""

Weights = Annotated[
    Path | None,
    typer.Option(help="A weights file, or published:NAME.", show_default="the bundled one"),
]
Device = Annotated[str | None, typer.Option(help=f"{DEVICES}.", show_default="auto")]
AsClip = Annotated[bool, typer.Option("--clip", help="Images are the frames of a clip.")]
Raft = Annotated[
    Path | None,
    typer.Option(
        help="RAFT's weights, or published:raft-things, for the warping error.",
        show_default="by DIS",
    ),
]
Lpips = Annotated[
    Path | None,
    typer.Option(
        help="AlexNet's weights, or published:alexnet, to measure LPIPS too.", show_default=False
    ),
]


SHORT_HELP = {"help_option_names": ["-h", "--help"]}
"""A program's context settings; its commands have them too."""


def add_version(app: typer.Typer, version: str) -> None:
    """Give a program the option ``--version``."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(version)
            raise typer.Exit

    @app.callback()
    def main(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=show, help="Show the version and exit."
        ),
    ) -> None:
        pass


class Commands(TyperGroup):
    """A command group that prints a user's mistake as one message and exits with 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart, the published launchers' own words first."""
        with _mistakes_as_messages():
            args = _without_launcher(args, str(ctx.info_name))
            _refuse_empty_names(args)
            self._refuse_option_file(str(ctx.info_name), args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        # A run's folder holds the full log; the terminal has its progress and what went amiss.
        logging.basicConfig(
            level=logging.INFO, format="%(message)s", handlers=[_Lines(logging.WARNING)], force=True
        )
        # It warns where its cache cannot be written, which is no concern of anybody here.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        keep_freed_memory()
        let_idle_threads_sleep()
        with _mistakes_as_messages(), _signals_as_ctrl_c():
            return super().invoke(ctx)

    def _refuse_option_file(self, name: str, args: Sequence[str]) -> None:
        """Name ``-opt`` where a command has none, which would be taken for ``-o pt`` or less."""
        command = self.commands.get(args[0]) if args else None
        known = {"-opt"} if command is None else {o for p in command.params for o in p.opts}
        if "-opt" in args and "-opt" not in known:
            raise ConfigError(
                "this command takes no published option file",
                where=f"{name} {args[0]}",
                got="-opt",
                mend=f"'{name} {args[0]} --help' lists what it takes",
            )


@contextmanager
def _mistakes_as_messages() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if processes().first or not error.everywhere:
            _say(error)
        raise typer.Exit(1) from None
    except OSError as error:
        if error.filename is not None:
            # What the system says of a file that is asked about in a hundred places.
            where, got = os.fspath(error.filename), error.strerror
            _say(MediaError("cannot be used", where=where, got=got))
        elif error.errno == errno.ENOSPC:
            # Full, as /dev/full is; Python would try once more at its end.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _say(MediaError("standard output cannot be written", got=error.strerror))
        else:
            raise
        raise typer.Exit(1) from None


def _say(error: UserError) -> None:
    said = Text.assemble(("error:", "bold red"), f" {printable(error, lines=True)}")
    messages.print(said, soft_wrap=True)


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end a command, which cleans up; the second one kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if _importing(frame):
            # Libraries pass over what interrupts them, or fail in any way.
            remove_temporaries()
            os._exit(128 + number)
        raise _Stopped(number)

    usual = {number: signal.getsignal(number) for number in STOPPING}
    # What is ignored stays so: nohup says so for SIGHUP.
    ours = [n for n in usual if usual[n] in (signal.SIG_DFL, signal.default_int_handler)]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    except _Stopped as stopped:
        remove_temporaries()
        raise typer.Exit(128 + stopped.args[0]) from None
    finally:
        for number in ours:
            signal.signal(number, usual[number])


def _importing(frame: Any) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


class _Stopped(KeyboardInterrupt):
    """A signal that ends the command, by its number."""


def _without_launcher(words: Sequence[str], command: str) -> list[str]:
    """The command line without what published launch lines add to it.

    Those are ``python -m torch.distributed.launch --nproc_per_node=8 ... --launcher pytorch``;
    older launchers give every process a ``--local-rank``. The environment says the same.

    Raises:
        ConfigError: several processes are asked for, but no launcher started them.
    """
    kept, several = [], False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("--local_rank", "--local-rank", "--launcher"):
            value = value if equals else next(rest, "")
            several = several or value not in ("none", "0")
        else:
            kept.append(word)
    if several and "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            "several processes are started by torchrun",
            got="a launcher's options, without its environment",
            mend="torchrun --nproc_per_node=<processes> --no-python "
            + command_line([command, *kept]),
        )
    return kept


def _refuse_empty_names(words: Sequence[str]) -> None:
    """Refuse an empty word, which would mean the working folder; an ending may be empty."""
    for option, word in pairwise(["", *words]):
        if (word == "" and option != "--suffix") or re.fullmatch("--(?!suffix=)[^=]+=", word):
            what = "a name is empty"
            raise ConfigError(what, where=word or option or None, mend="is a variable not set?")


@contextmanager
def progress_bar(what: str, note: str) -> Iterator[Callable[..., None]]:
    """A bar in the terminal, moved by (done, in all, text of the note); else a line a minute."""
    import rich.progress

    columns = (
        rich.progress.TextColumn(what, markup=False),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn(note, markup=False),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, console=messages, disable=not messages.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(what, total=None, note="")
        last = time.monotonic()

        def advance(done: int, total: int | None, text: str = "") -> None:
            nonlocal last
            progress.update(task, completed=done, total=total, note=printable(text))
            if not messages.is_terminal and time.monotonic() - last >= _LINE_EVERY:
                last = time.monotonic()
                so_far = f"{what}: {done} of {total or '?'}, " + note.format(task=progress.tasks[0])
                messages.print(so_far, highlight=False, soft_wrap=True)

        yield advance
