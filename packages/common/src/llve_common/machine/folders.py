"""Where the cache and the reference values lie, and how folders are shown on other machines."""

import os
import re
import shlex
from pathlib import Path

VARIABLE = "LLVE_SHARED"


def shared_folder() -> Path:
    """The folder of reference values and images, whether it exists or not."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    here = Path(__file__).resolve()
    root = next(
        (folder for folder in here.parents if (folder / "noxfile.py").is_file()), Path.cwd()
    )
    return root.parent / "shared"


def cache_folder() -> Path:
    """Where compiled libraries and fetched weights are kept.

    Raises:
        OSError: the user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # A relative path is to be ignored, says the standard: it would name the working folder.
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if not base.is_absolute():
        raise OSError(f"the home folder is a relative path: {base.parent}")
    return base / "llve"


def shown_path(path: Path | str) -> str:
    """A path for a page that others may see: from the working folder, elsewhere the name alone."""
    if not Path(path).is_absolute():
        return str(path)
    below = os.path.relpath(path)
    return below if Path(below).parts[:1] != ("..",) else f".../{Path(path).name}"


def shown_command(line: str) -> str:
    """A command line with its absolute paths so shown, also those of ``name=path``."""
    words = (re.split("(=)", word) for word in shlex.split(line))
    return shlex.join("".join(map(shown_path, word)) for word in words)


def shown_text(text: str) -> str:
    """A message with the absolute paths in it so shown."""
    return re.sub(r"(?<![\w.:/])/[^\s:;,'\"]+", lambda found: shown_path(found[0]), text)
