"""The list of a run's data, by which a resume notices that they are others."""

import json
import logging
import os
from typing import Any

from llve_common.clips.clip import files_of
from llve_common.clips.folders import some_of
from llve_common.errors import DataError
from llve_common.io.atomic import write_text
from llve_common.train.run import Run

log = logging.getLogger(__name__)

MANIFEST = "data.json"
"""In a run's folder: the folder of its data, and the names below it with sizes in bytes."""


def require_same_data(run: Run, *, resumed: bool) -> None:
    """List a run's data, of training and validation, and refuse others than are listed.

    Raises:
        DataError: a file is new, missing, or of another size.
    """
    path, now = run.folder / MANIFEST, _listed(run)
    try:
        then = json.loads(path.read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        if resumed:
            log.warning("%s has no list of its data: taken as they are", run.folder)
        write_text(path, json.dumps(now, indent=0, ensure_ascii=False))
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError("cannot be read", where=path, got=error, mend="remove it") from error
    found = now["files"]
    changes = [f"{name} is new" for name in sorted(found.keys() - then.keys())]
    changes += [f"{name} is missing" for name in sorted(then.keys() - found.keys())]
    changes += [
        f"{name} has {found[name]} bytes instead of {then[name]}"
        for name in sorted(then.keys() & found.keys())
        if found[name] != then[name]
    ]
    if changes:
        raise DataError(
            "the run's data have changed",
            where=now["folder"],
            got=some_of(changes),
            mend=f"put them back, or begin a new run; to go on with these, remove {path}",
        )


def _listed(run: Run) -> dict[str, Any]:
    files = sorted({path.absolute() for path in (*run.data.files, *files_of(run.clips))})
    one_drive = len({path.anchor for path in files}) == 1
    folder = os.path.commonpath([path.parent for path in files]) if one_drive else ""
    names = [os.path.relpath(path, folder) if folder else str(path) for path in files]
    sizes = [path.stat().st_size for path in files]
    return {"folder": folder, "files": dict(zip(names, sizes, strict=True))}
