"""The papers that are installed, found by their entry points: the core imports none itself."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from llve_common.errors import ConfigError, UserError

if TYPE_CHECKING:
    from llve_common.paper.contract import Paper

GROUP = "llve.papers"


def installed_papers() -> dict[str, EntryPoint]:
    """The entry points of the installed papers by the papers' names, in alphabetical order."""
    return {each.name: each for each in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def find_papers(names: list[str] | None) -> dict[str, EntryPoint]:
    """The papers of these names, or all.

    Raises:
        ConfigError: one of them is not installed, or none is.
    """
    known = installed_papers()
    unknown = [name for name in names or () if name not in known]
    if unknown or not known:
        raise ConfigError(
            "no such paper is installed" if unknown else "no paper is installed",
            got=", ".join(unknown) or None,
            expected=", ".join(known) or None,
            mend="pip install -e packages/NAME in a checkout of llve; "
            "'python -m llve_common doctor' lists what is there",
        )
    return {name: known[name] for name in names or known}


def load_paper(entry: EntryPoint) -> Paper:
    """Import a paper.

    Raises:
        UserError: its package cannot be imported, or holds no paper of that name.
    """
    from llve_common.paper.contract import Paper

    again = "install it again"
    try:
        paper = entry.load()
    except (ImportError, AttributeError) as error:
        what = "the paper's package cannot be imported"
        raise UserError(what, where=entry.name, got=error, mend=again) from error
    if not isinstance(paper, Paper) or paper.name != entry.name:
        what, got = "the package's entry point is not the paper", type(paper).__name__
        raise UserError(what, where=entry.name, got=getattr(paper, "name", got), mend=again)
    return paper
