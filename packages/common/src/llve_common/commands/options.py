"""The options of a command, made from a paper's table and its settings."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from llve_common.config import PairSettings, Settings, TestSettings, field_of
from llve_common.published_options import OptionFile, PublishedOptions, read_flags, read_options

Flags = Mapping[str, Any]
"""Flag to our setting, or to a function of its text, as in :class:`PublishedOptions`."""

TRAINING: Flags = {"--save": "run.save", "--name": "run.name", "--device": "run.device"}
"""The flags of every training, besides those of its paper."""

TEST: Flags = {
    "--model": "weights",
    "--save_path": "save",
    "--save-images/--no-save-images": "save_images",
    "--ssim": "ssim",
    "--protocol": "protocol",
    "--quality/--no-quality": "quality",
    "--lpips": "lpips",
    "--device": "device",
    "--precision": "precision",
}
"""The flags of every test, besides those of its paper."""


def _clip_names(text: str) -> dict[str, Any]:
    """Clips, or images, that training leaves to validation and the test, with commas between."""
    return {"pairs.test_clips": tuple(name.strip() for name in text.split(",") if name.strip())}


PAIRS: Flags = {
    "--low": "pairs.low",
    "--high": "pairs.high",
    "--val-low": "pairs.val_low",
    "--val-high": "pairs.val_high",
    "--test-clips": _clip_names,
    "--pair": "pairs.names",
}
"""The flags of your own pairs, in every training and test that takes them."""

_METAVARS = {bool: "true|false", int: "INTEGER", float: "FLOAT", Path: "PATH"}


@dataclass(frozen=True)
class CommandLine:
    """What was typed.

    Attributes:
        settings: dotted setting to its text, or to true and false for switches.
        config: a settings file, or the name of a shipped one.
        notes: what was typed without effect, to be said once.
        resume: the folder of a run to go on with.
    """

    settings: dict[str, Any]
    overrides: tuple[str, ...] = ()
    config: str | None = None
    published: OptionFile | None = None
    notes: tuple[str, ...] = ()
    resume: Path | None = None


def flags_of(kind: type[Settings], published: PublishedOptions) -> Flags:
    """The flags of a command: what a paper's own table says of one wins."""
    ours = TEST if issubclass(kind, TestSettings) else TRAINING
    own_pairs = PAIRS if "pairs" in kind.model_fields else {}
    return {**ours, **own_pairs, **published.flags}


def words_of(pairs: PairSettings) -> Iterator[str]:
    """What names these pairs on the command line."""
    given = pairs.model_dump(exclude_defaults=True)
    for flag, setting in PAIRS.items():
        name = setting.removeprefix("pairs.") if isinstance(setting, str) else "test_clips"
        if name in given:
            yield from (flag, ",".join(given[name]) if name == "test_clips" else str(given[name]))


def command_with(
    kind: type[Settings],
    published: PublishedOptions,
    run: Callable[[CommandLine], None],
    *,
    resumes: bool,
) -> Callable[..., None]:
    """A function for typer whose options are those of a table.

    Args:
        kind: the settings class; its docstring, field descriptions and defaults are the help.
        published: the paper's own options.
        run: is called with what was typed.
        resumes: whether there is ``--resume``.
    """
    flags = flags_of(kind, published)
    idle = {_identifier(flag): flag for flag in published.without_effect}
    options = [*_fixed(published, resumes=resumes), *_options(kind, flags)]
    options += [_option(name, flag, hidden=True) for name, flag in idle.items()]

    def command(ctx: typer.Context, **_: Any) -> None:
        # In the order in which they were typed: of several options for one setting the last counts.
        values = {key: value for key, value in ctx.params.items() if value is not None}
        opt = values.get("opt")
        names = {_identifier(flag): flag for flag in flags}
        ignored = [flag.split("/")[0] for name, flag in idle.items() if name in values]
        idle_note = f"without effect here: {', '.join(ignored)}" if ignored else None
        file = read_options(opt, published.file) if opt and published.file else None
        given = CommandLine(
            read_flags({names[key]: values[key] for key in values if key in names}, flags),
            tuple(values.get("overrides", ())),
            values.get("config"),
            file,
            tuple(note for note in (file and file.note, idle_note) if note),
            values.get("resume"),
        )
        run(given)

    command.__doc__ = inspect.getdoc(kind)
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    options.insert(0, context)
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in options}
    return command


def _fixed(published: PublishedOptions, *, resumes: bool) -> list[inspect.Parameter]:
    """What every such command takes."""
    overrides = typer.Argument(
        help="Any settings; 'configs show' lists them.", metavar="SECTION.KEY=VALUE...",
        show_default=False,
    )  # fmt: skip
    config = "A YAML file, or a name from 'configs list'."
    resume = "The folder of an interrupted run to continue."
    opt = _option("opt", "-opt", "A published YAML option file.", Path, metavar="FILE")
    return [
        _parameter("overrides", list[str] | None, overrides),
        _option("config", "--config", config, metavar="FILE|NAME"),
        *([opt] if published.file is not None else []),
        *([_option("resume", "--resume", resume, Path, metavar="FOLDER")] if resumes else []),
    ]


def _options(kind: type[Settings], flags: Flags) -> list[inspect.Parameter]:
    """An option for each flag; of several for one setting, the first shows the others."""
    found = []
    shown: set[str] = set()
    for flag, meaning in flags.items():
        if not isinstance(meaning, str):
            found.append(_option(_identifier(flag), flag, (meaning.__doc__ or "").strip()))
            continue
        field, default = field_of(kind, meaning)
        others = [each for each, other in flags.items() if other == meaning and each != flag]
        also = f" (also {', '.join(others)})" if others else ""
        option = _option(
            _identifier(flag),
            flag,
            (field.description or f"The setting {meaning}.") + also,
            default=False if default is None else _text(default),
            metavar=None if "/" in flag else _metavar(field.annotation),
            hidden=meaning in shown,
        )
        found.append(option)
        shown.add(meaning)
    return found


def _option(
    name: str,
    flag: str,
    help_: str = "",
    kind: type = str,
    *,
    default: str | bool = False,
    metavar: str | None = None,
    hidden: bool = False,
) -> inspect.Parameter:
    option = typer.Option(flag, help=help_, show_default=default, metavar=metavar, hidden=hidden)
    return _parameter(name, (bool if "/" in flag else kind) | None, option)


def _parameter(name: str, kind: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
    )


def _identifier(flag: str) -> str:
    return "given_" + flag.split("/")[0].strip("-").replace("-", "_")


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    inner = [_metavar(each) for each in get_args(annotation) if each is not type(None)]
    return _METAVARS.get(annotation) or (inner[0] if inner else "TEXT")
