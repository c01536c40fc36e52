"""What Markdown pages promise a reader: commands to type, files to write, links to follow."""

import re
from collections.abc import Iterator
from pathlib import Path

from llve_common.paper.configs import shipped_configs
from llve_common.paper.contract import Paper

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages(root: Path) -> list[Path]:
    """The pages of a checkout that are for its readers."""
    return [
        *sorted(root.glob("*.md")),
        *sorted((root / "docs").rglob("*.md")),
        *sorted(root.glob("packages/*/README.md")),
    ]


def code_blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: what stands behind the fence, and the text."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield match[2].strip(), re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)


def page_commands(page: Path) -> list[str]:
    """Every command of a page's ``sh`` blocks, without comments."""
    lines = "".join(text for kind, text in code_blocks(page) if kind == "sh").splitlines()
    commands = (line.partition("  #")[0].partition(" # ")[0].strip() for line in lines)
    return [command for command in commands if command and not command.startswith("#")]


def page_sessions(page: Path) -> list[tuple[str, str]]:
    """The ``console`` blocks of a page: a command behind ``$``, and what it prints."""
    blocks = (text for kind, text in code_blocks(page) if kind == "console")
    sessions = (text.removeprefix("$ ").partition("\n") for text in blocks)
    return [(command, printed) for command, _, printed in sessions]


def settings_commands(paper: Paper) -> list[str]:
    """The command in the first line of each shipped settings file, behind its colon."""
    heads = (file.read_text("utf-8").splitlines()[0] for file in shipped_configs(paper).values())
    written = (head.partition(": ")[2].partition(", ")[0] for head in heads)
    return [command for command in written if command]


def page_files(page: Path) -> dict[str, str]:
    """The files that a page holds whole: blocks with a path behind the language."""
    named = ((kind.partition(" ")[2].strip(), text) for kind, text in code_blocks(page))
    return {path: text for path, text in named if path}


def write_page_files(page: Path, folder: Path) -> None:
    """Write those files below a folder."""
    for name, text in page_files(page).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def broken_links(page: Path) -> list[str]:
    """The page's links to files that are not there, and to headings that no page has."""
    text = _CODE.sub("", _BLOCK.sub("", page.read_text(encoding="utf-8")))
    return [link for link in _LINK.findall(text) if not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    if "://" in link or link.startswith("mailto:"):
        return True
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    return not heading or heading in map(_anchor, _headings(target))


def _headings(page: Path) -> list[str]:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"^#+ (.*)$", text, re.MULTILINE)


def _anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
