"""The reproduction: everything about the installed papers that can be checked on this machine.

For each paper: its claims (``paper.toml``) whose data and weights are here, the tests against
values of the published code, the bundled weights' scores on the embedded set, and a short training.
The ledger of it is a page, a Markdown and a JSON file. The exit status is 1 if anything failed or
differs; what was not run, for want of data or weights, changes nothing in it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from statistics import fmean
from string import Template
from typing import Any

from llve_common.errors import UserError
from llve_common.io.atomic import write_text
from llve_common.paper.installed import find_papers
from llve_common.testing.reference import shared_folder
from llve_common.weights.files import file_digest
from reproduce.claims import (
    Claim,
    Embedded,
    Figures,
    Measured,
    PaperClaims,
    agreeing,
    claims_file,
    data_digest,
    read_claims,
)
from reproduce.ledger import Check, Ledger, tally, write_ledger

ROOT = Path(__file__).resolve().parents[2]
LOL = "LOL v1 eval15"
NOTHING_COLLECTED = 5  # pytest's exit status
INTERRUPTED = 130  # a shell's status of a command that Ctrl-C ended
PATIENCE = 3600  # seconds for one command
WRITTEN = {"work", "index.html", "ledger.md", "ledger.json", "measured.toml"}


@dataclass(frozen=True)
class Given:
    """What the user gave.

    Attributes:
        out: the ledger's folder; what commands write goes below ``out / "work"``.
        data: the images of LOL v1's evaluation set in ``low`` and ``high``, or None.
        weights: folders to search for published weights.
        quick: leave out what is slow.
        papers: the papers to check; None: all that are installed, and the core.
    """

    out: Path
    data: Path | None
    weights: tuple[Path, ...]
    quick: bool
    papers: list[str] | None = None


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status, the end of what it printed, and its seconds."""

    status: int
    tail: str
    seconds: float


class NotHereError(Exception):
    """Something that a check needs is not here; the message is the reason."""


def main() -> None:
    """Run the reproduction."""
    given = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to stop as by Ctrl-C
    started = time.perf_counter()
    try:
        ledger = reproduced(given)
    except UserError as error:
        clear(given.out)
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        clear(given.out)
        print(
            f"\nstopped: nothing was written; what {given.out} held before is as it was",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)
    minutes = (time.perf_counter() - started) / 60
    print(f"\n{tally(ledger.counts())}, in {minutes:.1f} minutes")
    print(f"The ledger is at {given.out / 'index.html'}")
    sys.exit(0 if ledger.good else 1)


def reproduced(given: Given) -> Ledger:
    """Make all checks, show each as it ends, and write the ledger."""
    claims: dict[str, PaperClaims] = {}
    checks: list[Check] = []
    papers = find_papers(given.papers)
    shutil.rmtree(given.out / "work", ignore_errors=True)
    (given.out / "work").mkdir(parents=True)
    for check in check_all(papers, given, claims):
        reason = f": {check.detail}" if check.state != "passed" else ""
        print(f"{check.state:8} {check.paper} {check.part}: {check.name}{reason}", flush=True)
        checks.append(check)
    ledger = Ledger(checks, claims)
    write_ledger(ledger, given.out)
    write_text(given.out / "measured.toml", measured_blocks(ledger))
    return ledger


def clear(out: Path) -> None:
    """Remove what a run that came to no ledger has made; an earlier ledger stays."""
    shutil.rmtree(out / "work", ignore_errors=True)
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()


def parse_arguments() -> Given:
    """The command line; what it leaves open is taken from ``$LLVE_SHARED`` where that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("reproduction"),
        help="folder of the ledger, made anew (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help=f"folder of {LOL}: its images are in DIR/low and DIR/high",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, metavar="DIR",
        help="folder of the published weights, by their names, such as medium.pt",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="leave out the claims on data, and slow tests"
    )
    parser.add_argument(
        "--paper", action="append", metavar="NAME", help="only this one; may be given again"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    if out.exists() and (out.is_file() or not {file.name for file in out.iterdir()} <= WRITTEN):
        sys.exit(f"error: {out} holds something other than a ledger; give another --out")
    if arguments.data and not all((arguments.data / part).is_dir() for part in ("low", "high")):
        sys.exit(
            f"error: --data {arguments.data}: not the images of {LOL}\n"
            f"  expected: a folder that holds the folders low and high, such as LOL/eval15"
        )
    if arguments.weights and not arguments.weights.is_dir():
        sys.exit(f"error: --weights {arguments.weights}: no such folder")
    shared = shared_folder() / "data"
    data = arguments.data or (shared / "lol_eval15" if (shared / "lol_eval15").is_dir() else None)
    weights = arguments.weights or (shared if shared.is_dir() else None)
    return Given(
        out,
        data.resolve() if data else None,
        (weights.resolve(),) if weights else (),
        arguments.quick,
        arguments.paper,
    )


def check_all(
    papers: Mapping[str, EntryPoint], given: Given, claims: dict[str, PaperClaims]
) -> Iterator[Check]:
    """Every check of these papers and of the core; fills in ``claims`` meanwhile."""
    for name, entry in papers.items():
        package = entry.module.split(".")[0]
        try:
            claims[name] = read_claims(claims_file(package))
        except (UserError, ImportError) as error:
            command = f"import {package} and read its paper.toml"
            yield Check(name, "record", "paper.toml", "failed", str(error), command)
        else:
            for claim in claims[name].claim:
                yield check_claim(name, package, claim, given)
            yield from check_embedded(name, package, claims[name].embedded, given)
        yield from check_reference(name, given)
    if given.papers is None:
        yield from check_reference("common", given)


def check_claim(paper: str, package: str, claim: Claim, given: Given) -> Check:
    """Run a claim's command, or say why not."""

    def not_run(reason: str) -> Check:
        return Check(paper, "claims", claim.name, "not run", reason, claim.command or "")

    if claim.counted is not None:
        return check_count(paper, claim, given)
    if claim.status == "not at hand":
        return not_run("the published figure is not at hand")
    if claim.measured is None:
        return not_run(claim.status.removeprefix("not run: "))
    if given.quick:
        return not_run("left out by --quick")
    assert claim.command is not None
    try:
        data = find_data(claim, given) if "$DATA" in claim.command else None
        weights = find_weights(claim, given) if claim.weights else None
    except NotHereError as error:
        return not_run(str(error))
    out = given.out / "work" / f"{paper}-{claim.name}"
    values = {"DATA": data, "WEIGHTS": weights, "OUT": out}
    return check_scores(
        Check(paper, "claims", claim.name, "not run", "not yet", expected=claim.published),
        package,
        claim.command,
        values,
        claim,
    )


def check_scores(
    check: Check, package: str, command: str, values: dict[str, Any], source: Claim | Embedded
) -> Check:
    """Run a test command and compare the means in its ``summary.json`` with what is expected."""
    words = words_of(command, values)
    done = run(words, check.paper, package)
    made = {"command": shlex.join(words), "seconds": done.seconds}
    if done.status != 0:
        return changed(check, state="failed", detail=done.tail, **made)
    summary = json.loads((values["OUT"] / "summary.json").read_text(encoding="utf-8"))
    means = summary[f"mean_of_{source.mean}"]
    missing = check.expected.keys() - means.keys()
    if missing:
        return changed(check, state="failed", detail=f"no {', '.join(missing)} came out", **made)
    found = {name: round(float(means[name]), 6) for name in check.expected}
    made["inputs"] = {"weights": summary["weights_sha256"]}
    if values["DATA"] is not None:
        made["inputs"]["data"] = data_digest(values["DATA"])
    agrees = agreeing(check.expected, found, source.tolerance)
    limits = ", ".join(f"{name} ±{limit:g}" for name, limit in source.tolerance.items())
    return changed(
        check,
        state="passed" if agrees else "differs",
        detail=f"{'within' if agrees else 'outside'} {limits}; {summary['frames']} frames",
        found=found,
        **made,
    )


def check_count(paper: str, claim: Claim, given: Given) -> Check:
    """Run the test that shows a count."""
    assert claim.counted is not None
    file = ROOT / claim.counted.test.partition("::")[0]
    if not file.is_file():
        reason = f"{claim.counted.test} is not here: no checkout"
        return Check(paper, "claims", claim.name, "not run", reason)
    words = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", claim.counted.test]
    done = run(words, paper, "")
    agrees = agreeing(claim.published, claim.counted.metrics, claim.tolerance)
    if done.status == 0:
        state, detail = ("passed" if agrees else "differs"), "the test that counts passes"
    else:
        state, detail = "failed", done.tail
    return Check(
        paper,
        "claims",
        claim.name,
        state,
        detail,
        shlex.join(words),
        claim.published,
        claim.counted.metrics if done.status == 0 else {},
        seconds=done.seconds,
    )


def check_embedded(
    paper: str, package: str, embedded: Embedded | None, given: Given
) -> Iterator[Check]:
    """The bundled weights' scores on the embedded set, and a short training on it."""
    scores = Check(
        paper, "embedded", "bundled weights", "not run", "no weights come with the package"
    )
    training = Check(paper, "training", "loss", "not run", "paper.toml has no embedded set")
    if embedded is None:
        yield changed(scores, detail="paper.toml has no embedded set")
        yield training
        return
    work = given.out / "work"
    data = made_set(embedded.make, work)
    if isinstance(data, Done):
        failed = {"state": "failed", "detail": data.tail, "command": embedded.make}
        yield changed(scores, **failed)
        yield changed(training, **failed)
        return
    if embedded.test is None or embedded.measured is None:
        yield scores
    else:
        expected = changed(scores, expected=embedded.measured.metrics)
        values = {"DATA": data, "OUT": work / f"{paper}-embedded"}
        checked = check_scores(expected, package, embedded.test, values, embedded)
        yield on_record(checked, embedded.measured) if checked.inputs else checked
    yield check_training(training, package, embedded, data, work)


def on_record(check: Check, measured: Measured) -> Check:
    """The check with what is to be said of other weights or images than those of the record."""
    if check.inputs["weights"] != measured.weights_sha256:
        reason = f"the bundled weights are not those on record: {check.inputs['weights']}"
        return changed(check, state="differs", detail=reason)
    no = "" if check.inputs["data"] == measured.data_sha256 else "not "
    said = f"the set made here is {no}of the same bytes as on record"
    return changed(check, detail=f"{check.detail}; {said}")


@cache
def made_set(command: str, work: Path) -> Path | Done:
    """The embedded set that a command renders, once for all papers; or how that failed."""
    folder = work / f"set-{len(list(work.glob('set-*')))}"
    words = words_of(command, {"DATA": folder})
    # The core's command, or one of a paper's own.
    paper = "" if words[0] == "python" else words[0]
    done = run(words, paper, f"llve_{paper}")
    return folder if done.status == 0 else done


def check_training(check: Check, package: str, embedded: Embedded, data: Path, work: Path) -> Check:
    """Train for some iterations and look at the loss."""
    out = work / f"{check.paper}-training"
    words = words_of(embedded.train, {"DATA": data, "OUT": out})
    done = run(words, check.paper, package)
    made = {"command": shlex.join(words), "seconds": done.seconds}
    if done.status != 0:
        return changed(check, state="failed", detail=done.tail, **made)
    files = sorted(out.glob("*/losses.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    losses = [float(line["losses"]["total"]) for line in lines]
    state, detail = judge_losses(losses, embedded.loss)
    return changed(check, state=state, detail=detail, **made)


def judge_losses(losses: list[float], wanted: str) -> tuple[str, str]:
    """Whether logged losses are finite, and fall where they are to."""
    if not losses or not all(map(math.isfinite, losses)):
        return "failed", f"{len(losses)} losses were logged, not all of them finite"
    third = max(len(losses) // 3, 1)
    first, last = fmean(losses[:third]), fmean(losses[-third:])
    detail = f"{len(losses)} losses: mean of the first third {first:.5g}, of the last {last:.5g}"
    if wanted == "falls" and not last < first:
        return "failed", f"{detail}; it was to fall"
    return "passed", detail


def check_reference(paper: str, given: Given) -> list[Check]:
    """The tests of a package against values of the published code, a line for each file."""
    tests = Path("packages") / paper / "tests"

    def one(state: Any, detail: str, command: str = "") -> list[Check]:
        return [Check(paper, "reference", "pytest -m reference", state, detail, command)]

    if not (ROOT / tests).is_dir():
        return one("not run", f"{tests} is not here: the package is not from this checkout")
    report = given.out / "work" / f"{paper}-reference.xml"
    words = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "reference",
             f"--junitxml={report}", *([] if given.quick else ["--slow"]), str(tests)]  # fmt: skip
    done = run(words, paper, "")
    if done.status == NOTHING_COLLECTED:
        return one("not run", "the package has no such tests")
    if done.status not in {0, 1} or not report.is_file():
        return one("failed", done.tail, shlex.join(words))
    return read_report(paper, report, shlex.join(words))


def read_report(paper: str, report: Path, command: str) -> list[Check]:
    """Checks from pytest's JUnit file: for each file what passed and failed, and why not run."""
    outcomes: dict[tuple[str, str, str], list[str]] = {}
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").split(".tests.")[-1].split(".")[0] or "collection"
        state, reason = outcome(case)
        outcomes.setdefault((file, state, reason), []).append(case.get("name", ""))
        seconds[file] = seconds.get(file, 0.0) + float(case.get("time", 0))
    checks = []
    for (file, state, reason), names in sorted(outcomes.items()):
        count = f"{len(names)} {'test' if len(names) == 1 else 'tests'}"
        detail = {
            "passed": "",
            "not run": reason,
        }.get(state, f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}: {reason}")
        facts = {"command": command, "seconds": seconds[file]} if state != "not run" else {}
        checks.append(Check(paper, "reference", f"{file}: {count}", state, detail, **facts))
    return checks


def outcome(case: ElementTree.Element) -> tuple[str, str]:
    """A test's state and, where it did not pass, the first line of the reason."""
    for tag in ("failure", "error", "skipped"):
        mark = case.find(tag)
        if mark is not None:
            lines = (mark.get("message") or mark.text or "no reason").strip().splitlines()
            if mark.get("type") == "pytest.xfail":
                return "differs", f"expected to fail: {lines[0]}"
            return ("not run" if tag == "skipped" else "failed"), lines[0]
    return "passed", ""


def find_data(claim: Claim, given: Given) -> Path:
    """The folder of a claim's data.

    Raises:
        NotHereError: it is not here, or holds something else.
    """
    if claim.data != LOL:
        raise NotHereError(f"needs {claim.data}")
    if given.data is None:
        raise NotHereError(f"needs {LOL}: --data DIR, with its images in DIR/low and DIR/high")
    try:
        digest = data_digest(given.data)
    except UserError as error:
        raise NotHereError(str(error)) from error
    recorded = claim.measured.data_sha256 if claim.measured else None
    if recorded not in (None, digest):
        raise NotHereError(
            f"{given.data} does not hold the images that the figure is of: the manifest's sha256 "
            f"is {digest}, and {recorded} on record"
        )
    return given.data


def find_weights(claim: Claim, given: Given) -> Path:
    """The file of a claim's weights.

    Raises:
        NotHereError: it is not here, or its digest is not the one on record.
    """
    found = [path for folder in given.weights for path in sorted(folder.rglob(str(claim.weights)))]
    recorded = claim.measured.weights_sha256 if claim.measured else None
    fitting = [path for path in found if recorded in (None, file_digest(path))]
    if fitting:
        return fitting[0]
    if found:
        raise NotHereError(f"{found[0]} is not the file on record, of sha256 {recorded}")
    where = f"; none is in {given.weights[0]}" if given.weights else ""
    raise NotHereError(f"needs the published {claim.weights}: --weights DIR{where}")


def words_of(command: str, values: dict[str, Any]) -> list[str]:
    """A command of a paper.toml as words, its variables filled in."""
    return [Template(word).substitute(values) for word in shlex.split(command)]


def run(words: list[str], paper: str, package: str) -> Done:
    """Run one of this project's programs in this interpreter's environment.

    Raises:
        UserError: the command is of something else.
    """
    if package and words[0] == paper:
        program = ["-m", package, *words[1:]]
    elif words[:2] == ["python", "-m"] and words[2] in {package, "llve_common", "pytest"}:
        program = words[1:]
    else:
        raise UserError("not a command of this paper", where=paper, got=shlex.join(words))
    print(f"$ {shlex.join(words)}", flush=True)
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *program],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Done(-1, f"it had not ended after {PATIENCE} s", time.perf_counter() - started)
    tail = "\n".join(done.stdout.strip().splitlines()[-12:])
    return Done(done.returncode, tail or "it printed nothing", time.perf_counter() - started)


def changed(check: Check, **parts: Any) -> Check:
    """The check with some of its parts replaced."""
    return Check(**{**vars(check), **parts})


def measured_blocks(ledger: Ledger) -> str:
    """What was measured, in the form of paper.toml, to be taken over into it."""
    blocks = []
    for check in ledger.checks:
        if check.part not in {"claims", "embedded"} or not check.inputs:
            continue
        source = ledger.claims[check.paper]
        if check.part == "claims":
            table, template = "claim.measured", ledger.claim(check).command
        else:
            table, template = "embedded.measured", source.embedded and source.embedded.test
        threads = os.environ.get("OMP_NUM_THREADS")
        prefix = f"OMP_NUM_THREADS={threads} " if threads else ""
        lines = [
            f"# {check.paper}: {check.name}",
            f"[{table}]",
            f"metrics = {inline(check.found)}",
            f"command = {json.dumps(prefix + str(template))}",
            f"date = {datetime.now(UTC):%Y-%m-%d}",
            f"versions = {inline(ledger.versions)}",
            f"hardware = {json.dumps(ledger.hardware)}",
            *(f'{name}_sha256 = "{digest}"' for name, digest in check.inputs.items()),
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def inline(values: Figures | Any) -> str:
    """A TOML inline table."""
    return "{ " + ", ".join(f"{name} = {json.dumps(v)}" for name, v in values.items()) + " }"


if __name__ == "__main__":
    main()
