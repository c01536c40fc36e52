"""The command ``protocols``."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import console
from llve_common.report.tables import Table


def protocols(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FOLDER]",
            help="All facts of one; or what a folder is found to be.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List how tables test on each public data set, or find what a folder holds."""
    from llve_common.evaluate.protocols import protocols as known

    if which is None:
        table = _all()
    elif which in known() or not Path(which).is_dir():
        table = _facts(which)
    else:
        table = _held(Path(which))
    console.print(table.rich())


def _all() -> Table:
    from llve_common.evaluate.protocols import protocols as known

    rows = [
        (
            name,
            each.title,
            f"{each.size[0]}x{each.size[1]}" if each.size else "as stored",
            each.rounding or "the method's",
            (each.ssim or "not at hand") if each.high else "-",
            (each.mean or "not at hand") if each.high else "-",
        )
        for name, each in known().items()
    ]
    return Table(
        "Protocols, for --protocol of score, test and compare",
        ("", "test", "size", "rounding", "SSIM", "mean over"), tuple(rows), words=True,
    )  # fmt: skip


def _facts(name: str) -> Table:
    from llve_common.evaluate.protocols import find_protocol

    protocol = find_protocol(name)
    facts = {**protocol.model_dump(exclude_none=True), "names": protocol.test or "not at hand"}
    rows = [
        (key, ", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
        for key, value in facts.items() if value != ()
    ]  # fmt: skip
    return Table(name, ("", ""), tuple(rows), words=True)


def _held(folder: Path) -> Table:
    from llve_common.clips.folders import some_of
    from llve_common.evaluate.protocols import data_digest, find_protocol, recognised

    rows, digest_of = [], cache(data_digest)  # several sets may be in one folder
    for each in recognised(folder):
        protocol = find_protocol(each.name)
        alone = each.high is None or each.high.parent != each.low.parent
        digest = digest_of(each.low if alone else each.low.parent)
        said = "the published files" if digest == protocol.sha256 else "other files than published"
        rows.append((
            each.name, f"{len(each.there)} {protocol.kind}", some_of(each.missing) or "nothing",
            f"{digest}: {said if protocol.sha256 else 'no digest on record'}",
        ))  # fmt: skip
    title = f"{folder} is laid out as" if rows else f"{folder} is laid out as no protocol's set"
    return Table(title, ("", "of the test", "missing", "sha256"), tuple(rows), words=True)
