"""Published options, read as settings: the flags of a script, and the keys of its option file.

A paper says in a table which of our settings each published name is. Names without meaning here are
accepted and listed; unknown ones are errors. Option files are those of video restoration papers:
YAML with the sections ``datasets``, ``network_G``, ``path``, ``train`` and ``logger``.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llve_common.config import Given, leaves, read_yaml, shortened, unknown
from llve_common.errors import ConfigError

Convert = Callable[[Any], Mapping[str, Any]]
"""A published value to dotted settings; raises ValueError where it cannot be used."""


@dataclass(frozen=True)
class OptionTable:
    """What a paper's published keys mean, all of them dotted.

    Attributes:
        settings: published key to our setting, or to a function where values differ too.
        without_effect: published keys that mean nothing here.
        left_out: our settings where a file says nothing of them, if that means something else than
            our defaults.
        resume: the key that names a run to go on with.
    """

    settings: Mapping[str, str | Convert]
    without_effect: Collection[str] = ()
    left_out: Mapping[str, Any] = field(default_factory=dict)
    resume: str | None = None


@dataclass(frozen=True)
class PublishedOptions:
    """What a published script's command line means here.

    Attributes:
        flags: flag to our setting, or to a function of its text where values differ too. A name
            such as ``--pad/--no-pad`` is a switch, and gives true or false.
        without_effect: flags that mean nothing here, named likewise.
        file: what the keys of the option file mean that ``-opt`` takes; None: it takes none.
    """

    flags: Mapping[str, str | Convert] = field(default_factory=dict)
    without_effect: Collection[str] = ()
    file: OptionTable | None = None


@dataclass(frozen=True)
class OptionFile:
    """A published file in our terms.

    Attributes:
        given: settings and where they were said, for :func:`llve_common.config.load_settings`.
        note: a line for the log that names the keys without effect; None where there are none.
        resume: the folder of the run to go on with, where the file names one.
    """

    given: Given
    note: str | None
    resume: Path | None = None


def read_options(file: Path, table: OptionTable) -> OptionFile:
    """Read a published option file.

    A key without a value is as one that is left out. A key may stand twice with one value, as it
    does in published files.

    Raises:
        ConfigError: the file cannot be read; or all its unknown keys, each with the nearest known
            one, values that cannot be used, and keys that contradict one another.
    """
    values, lines = read_yaml(file, repeats=True)
    known = {*table.settings, *table.without_effect, *filter(None, [table.resume])}
    resume = None
    given, said_by = Given({}, {}), dict[str, str]()
    idle, faults = list[str](), list[str]()
    for key, value in leaves(values):
        if value is None and any(each.startswith(f"{key}.") for each in known):
            continue  # an empty section
        place = f"{lines.get(key, file)}: {key}"
        if key in table.without_effect:
            idle.append(key)
        elif key == table.resume:
            resume = None if value is None else run_of(Path(str(value)))
        elif key not in table.settings:
            faults.append(f"{place}: {unknown('key', key, known)}")
        elif value is not None:
            meaning = table.settings[key]
            try:
                translated = {meaning: value} if isinstance(meaning, str) else meaning(value)
            except ValueError as error:
                faults.append(f"{place}: got {shortened(value)}; {error}")
                continue
            for setting, ours in translated.items():
                if setting in given.values and given.values[setting] != ours:
                    got = shortened(value)
                    faults.append(f"{place}: got {got}, which {said_by[setting]} contradicts")
                given.values[setting], given.origins[setting] = ours, place
                said_by[setting] = key
    if faults:
        plural = "key is" if len(faults) == 1 else "keys are"
        raise ConfigError("\n".join([f"{len(faults)} {plural} wrong", *faults]))
    for setting, value in table.left_out.items():
        if setting not in given.values:
            given.values[setting], given.origins[setting] = value, f"{file}: left out"
    note = f"{file}: without effect here: {', '.join(idle)}" if idle else None
    return OptionFile(given, note, resume)


def run_of(path: Path) -> Path:
    """The run folder that a published ``resume_state`` means: itself, or what holds the file.

    Published states lie in a folder of the run's, as our checkpoints do.

    Raises:
        ConfigError: there is no run of ours.
    """
    for folder in (path, path.parent.parent):
        if (folder / "settings.yml").is_file():
            return folder
    raise ConfigError(
        "no run to go on with",
        where=path,
        expected="the folder of a run made here, or a file in its checkpoints",
        mend="leave resume_state out to begin a new run; published states hold no weights",
    )


def read_flags(given: Mapping[str, Any], meanings: Mapping[str, str | Convert]) -> dict[str, Any]:
    """The settings that flags of a command line give.

    What a flag says of one setting wins over what another one implies.

    Args:
        given: flag to text, or to true and false for switches.
        meanings: as in :class:`PublishedOptions`, of these flags at least.

    Raises:
        ConfigError: a text cannot be used.
    """
    implied: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for flag, value in given.items():
        meaning = meanings[flag]
        if isinstance(meaning, str):
            said[meaning] = value
            continue
        try:
            implied.update(meaning(value))
        except ValueError as error:
            raise ConfigError(str(error), where=flag, got=value) from None
    return implied | said


def renamed(setting: str, names: Mapping[Any, Any]) -> Convert:
    """A setting whose values have other names here."""
    known = only(*names)

    def convert(value: Any) -> Mapping[str, Any]:
        return {**known(value), setting: names[value]}

    return convert


def only(*values: Any) -> Convert:
    """A key whose value is fixed here."""

    def convert(value: Any) -> Mapping[str, Any]:
        if value not in values:
            raise ValueError(f"input should be {' or '.join(map(repr, values))}")
        return {}

    convert.__doc__ = f"Only {' or '.join(map(str, values))}."
    return convert


def below(setting: str, folder: str) -> Convert:
    """A setting that is a file or folder in the folder given there."""

    def convert(value: Any) -> Mapping[str, Any]:
        if not isinstance(value, str):
            raise ValueError("input should be a folder")
        return {setting: Path(value) / folder}

    convert.__doc__ = f"Folder of {folder}."
    return convert
