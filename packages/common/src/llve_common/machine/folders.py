"""Where the reference values lie that are no part of this repository."""

from __future__ import annotations

import os
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
