"""The commands ``configs``: list, show, copy, check."""

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.options import flags_of
from llve_common.commands.terminal import console
from llve_common.config import Settings, annotated_yaml, load_settings
from llve_common.errors import ConfigError
from llve_common.io.atomic import write_text
from llve_common.paper.about import About
from llve_common.paper.configs import find_config, settings_class, shipped_configs


def configs_app(paper: About) -> typer.Typer:
    """The command group of a paper."""
    app = typer.Typer(no_args_is_help=True, help="List, show, copy and check settings files.")

    @app.command("list")
    def list_() -> None:
        """List the settings that come with the package."""
        for name, file in shipped_configs(paper).items():
            head = file.read_text(encoding="utf-8").splitlines()[0]
            console.print(f"{name:24} {head.removeprefix('# ')}", highlight=False, soft_wrap=True)

    @app.command()
    def show(name: Annotated[str, typer.Argument(help="A name from 'configs list'.")]) -> None:
        """Print every setting of a file: its value, its meaning and its options."""
        file = find_config(paper, name)
        assert file is not None
        settings = load_settings(settings_class(paper, file), file)
        text = annotated_yaml(settings, _flags(paper, type(settings)))
        for line in text.splitlines():
            console.print(line, highlight=False, soft_wrap=True)

    @app.command()
    def copy(
        name: Annotated[str, typer.Argument(help="A name from 'configs list'.")],
        target: Annotated[Path, typer.Argument(help="A file to write; it may not exist.")],
    ) -> None:
        """Copy a settings file for editing."""
        file = find_config(paper, name)
        assert file is not None
        if target.exists():
            raise ConfigError("exists already", where=target, mend="give another name")
        write_text(target, file.read_text(encoding="utf-8"))
        console.print(f"wrote {target}", soft_wrap=True)

    @app.command()
    def check(file: Annotated[Path, typer.Argument(help="A settings file of yours.")]) -> None:
        """Check a settings file and list everything that is wrong with it."""
        load_settings(settings_class(paper, file), file)
        console.print(f"{file}: every setting is known and in range", soft_wrap=True)

    return app


def _flags(paper: About, kind: type[Settings]) -> dict[str, list[str]]:
    """The names of the options that give a setting."""
    named: dict[str, list[str]] = {}
    for flag, meaning in flags_of(kind, paper.options[kind]).items():
        if isinstance(meaning, str):
            named.setdefault(meaning, []).append(flag)
    return named
