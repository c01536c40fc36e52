"""The list of a run's data, by which a resume notices that they are others."""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from llve_common.clips.clip import files_of
from llve_common.clips.folders import some_of
from llve_common.errors import DataError
from llve_common.io.atomic import write_text
from llve_common.train.run import Run

log = logging.getLogger(__name__)

MANIFEST = "data.json"
"""In a run's folder, of training and of validation: names of files, and their sizes in bytes."""


def list_data(run: Run) -> None:
    """List a run's data, training's and validation's apart, where they are not listed yet.

    Raises:
        MediaError: the list cannot be written.
        DataError: there is one that cannot be read.
    """
    path = run.folder / MANIFEST
    then = _read(path)
    then.pop("files", None)
    now = {kind: _listed(files)[1] for kind, files in _files(run).items() if kind not in then}
    if now:
        write_text(path, json.dumps({**then, **now}, indent=0, ensure_ascii=False))


def require_same_data(run: Run) -> None:
    """Refuse other data than are listed; validation's where the run had and has some.

    Raises:
        DataError: a file is new, missing, or of another size.
    """
    path = run.folder / MANIFEST
    then, now = _read(path), _files(run)
    if not then:
        log.warning("%s has no list of its data: taken as they are", run.folder)
    if "files" in then:
        # Older versions had one list for both; one of training alone is no other data than now.
        now = {"files": now["training"]}
        if _listed(now["files"])[1] != then["files"]:
            now["files"] += files_of(run.procedure.validation(run.settings))
    for kind in filter(then.__contains__, now):
        listed, (folder, found) = then[kind], _listed(now[kind])
        changes = [f"{name} is new" for name in sorted(found.keys() - listed.keys())]
        changes += [f"{name} is missing" for name in sorted(listed.keys() - found.keys())]
        changes += [
            f"{name} has {found[name]} bytes instead of {listed[name]}"
            for name in sorted(listed.keys() & found.keys())
            if found[name] != listed[name]
        ]
        if changes:
            raise DataError(
                "the run's data have changed",
                where=folder,
                got=some_of(changes),
                mend=f"put them back, or begin a new run; to go on with these, remove {path}",
            )


def _files(run: Run) -> dict[str, list[Path]]:
    validation = {"validation": files_of(run.clips)} if run.clips else {}
    return {"training": list(run.data.files), **validation}


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {kind: dict(files) for kind, files in content.items() if kind != "folder"}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError("cannot be read", where=path, got=error, mend="remove it") from error


def _listed(given: Iterable[Path]) -> tuple[str, dict[str, int]]:
    """The folder of files, and their names in it with their sizes in bytes."""
    files = sorted({path.absolute() for path in given})
    one_drive = len({path.anchor for path in files}) == 1
    folder = os.path.commonpath([path.parent for path in files]) if one_drive else ""
    names = [os.path.relpath(path, folder) if folder else str(path) for path in files]
    return folder, {name: path.stat().st_size for name, path in zip(names, files, strict=True)}
