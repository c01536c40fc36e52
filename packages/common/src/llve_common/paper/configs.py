"""The settings files that come with a paper's package."""

from importlib.resources import files
from pathlib import Path

from llve_common.config import Settings, read_yaml
from llve_common.errors import ConfigError
from llve_common.paper.about import About


def find_config(paper: About, name: str | None) -> Path | None:
    """A settings file by path, or by its name in the package such as ``train/published``.

    Raises:
        ConfigError: neither a file nor a known name.
    """
    if name is None:
        return None
    shipped = shipped_configs(paper)
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    known = f"a YAML file, or one of {', '.join(shipped)}"
    raise ConfigError("no such settings", got=name, expected=known)


def shipped_configs(paper: About) -> dict[str, Path]:
    """The settings files in a paper's package by name."""
    root = Path(str(files(paper.package) / "configs"))
    found = sorted(root.rglob("*.yml"))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in found}


def settings_class(paper: About, file: Path) -> type[Settings]:
    """The settings class that a file's ``procedure`` names.

    Raises:
        ConfigError: it names none of the paper's.
    """
    known = paper.settings
    name = read_yaml(file)[0].get("procedure")
    if not isinstance(name, str) or name not in known:
        what = "procedure does not name a command"
        raise ConfigError(what, where=file, got=name, expected=", ".join(known))
    return known[name]
