"""The commands that a package's pages tell a reader to type, so that its tests can type them."""

from __future__ import annotations

from pathlib import Path

from llve_common.engine.shipped import shipped_configs
from llve_common.paper import Paper


def page_commands(page: Path, *programs: str) -> list[str]:
    """The lines of a page's ``sh`` blocks that call a program, without their comments."""
    blocks = page.read_text(encoding="utf-8").split("```sh\n")[1:]
    lines = "".join(block.split("```")[0] for block in blocks).splitlines()
    commands = [line.split("  #")[0].strip() for line in lines]
    starts = tuple(f"{program} " for program in programs)
    return [command for command in commands if command.startswith(starts)]


def settings_commands(paper: Paper) -> list[str]:
    """The command in the first line of each shipped settings file, behind its colon."""
    heads = (file.read_text("utf-8").splitlines()[0] for file in shipped_configs(paper).values())
    return [head.partition(": ")[2] for head in heads]
