"""The checks: a paper's claims, its bundled weights and a training, its tests against values.

Each runs commands of this project, in processes of their own, and concludes from what they leave.
A check's command has the variables of ``paper.toml`` for the folders and files of this machine.
"""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from string import Template

from llve_common.errors import UserError
from llve_common.evaluate.protocols import data_digest
from llve_common.io.digest import file_digest
from reproduce.claims import Claim, Embedded, Measured, agreeing
from reproduce.ledger import Check, State

ROOT = Path(__file__).resolve().parents[2]
LOL = "LOL v1 eval15"
PAIR21, LIME, DICM = "SDSD indoor pair21", "LIME, 9 photographs", "DICM, 64 photographs"
FOLDERS = {PAIR21: "sdsd_indoor_png", LIME: "real_low/LIME", DICM: "real_low/DICM"}
"""The other sets, and where each lies in the folder of sets."""
NOTHING_COLLECTED = 5  # pytest's exit status
PATIENCE = 3600  # seconds for one command


@dataclass(frozen=True)
class Given:
    """What the user gave.

    Attributes:
        out: the ledger's folder; what commands write goes below ``out / "work"``.
        data: the images of LOL v1's evaluation set in ``low`` and ``high``, or None.
        weights: the folder to search for published weights, or None.
        sets: the folder of the other sets, or None.
        quick: leave out what is slow.
        papers: the papers to check; None: all that are installed, and the core.
    """

    out: Path
    data: Path | None = None
    weights: Path | None = None
    sets: Path | None = None
    quick: bool = False
    papers: list[str] | None = None


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status, the end of what it printed, and its seconds."""

    status: int
    tail: str
    seconds: float


class NotHereError(Exception):
    """Something that a check needs is not here; the message is the reason."""


def check_claim(paper: str, package: str, claim: Claim, given: Given) -> Check:
    """Run a claim's command, or the test that shows its count, or say why not."""
    check = Check(paper, "claims", claim.name, "not run", "not yet", claim.command or "")
    if claim.counted is not None:
        return check_count(check, claim)
    try:
        values = inputs_of(claim, given)
    except NotHereError as error:
        return replace(check, detail=str(error))
    values["OUT"] = given.out / "work" / f"{paper}-{claim.name}"
    check = replace(check, expected=claim.published)
    return check_scores(check, package, check.command, values, claim)


def inputs_of(claim: Claim, given: Given) -> dict[str, Path]:
    """What ``$DATA`` and ``$WEIGHTS`` stand for in a claim's command.

    Raises:
        NotHereError: why the claim is not run.
    """
    if claim.status == "secondary":
        raise NotHereError("secondary: quoted at second hand, never a target")
    if claim.status == "not at hand":
        raise NotHereError("the published figure is not at hand")
    if claim.measured is None:
        raise NotHereError(claim.status.removeprefix("not run: "))
    if given.quick:
        raise NotHereError("left out by --quick")
    values = {}
    if "$DATA" in str(claim.command):
        values["DATA"] = find_data(claim.data, claim.measured.data_sha256, given)
    if claim.weights is not None:
        values["WEIGHTS"] = find_weights(claim.weights, claim.measured, given.weights)
    return values


def find_data(name: str, recorded: str | None, given: Given) -> Path:
    """The given folder of the data set of that name, if it holds what is on record, where any is.

    Raises:
        NotHereError: it does not.
    """
    if name == LOL and given.data is None:
        raise NotHereError(f"needs {LOL}: --data DIR, with its images in DIR/low and DIR/high")
    folder = given.data if name == LOL else given.sets and given.sets / FOLDERS.get(name, "-")
    if folder is None or not folder.is_dir():
        where = f": --sets DIR, with it in DIR/{FOLDERS[name]}" if name in FOLDERS else ""
        raise NotHereError(f"needs {name}{where}")
    try:
        digest = data_digest(folder)
    except UserError as error:
        raise NotHereError(str(error)) from error
    if recorded not in (None, digest):
        raise NotHereError(
            f"{folder} does not hold the images that the figure is of: the manifest's sha256 "
            f"is {digest}, and {recorded} on record"
        )
    return folder


def find_weights(name: str, measured: Measured, folder: Path | None) -> Path:
    """The file of that name in the given folder or below it, if it is the one that was measured.

    Raises:
        NotHereError: there is none.
    """
    found = sorted(folder.rglob(name)) if folder else []
    recorded = measured.weights_sha256
    fitting = [path for path in found if recorded in (None, file_digest(path))]
    if fitting:
        return fitting[0]
    if found:
        raise NotHereError(f"{found[0]} is not the file on record, of sha256 {recorded}")
    where = f"; none is in {folder}" if folder else ""
    raise NotHereError(f"needs the published {name}: --weights DIR{where}")


def check_scores(
    check: Check, package: str, command: str, values: dict[str, Path], source: Claim | Embedded
) -> Check:
    """Run a test command and compare the means in its ``summary.json`` with what is expected."""
    done = run(words_of(command, values), check.paper, package)
    check = replace(check, command=command, seconds=done.seconds)
    if done.status != 0:
        return replace(check, state="failed", detail=done.tail)
    summary = json.loads((values["OUT"] / "summary.json").read_text(encoding="utf-8"))
    means = summary[f"mean_of_{source.mean}"]
    missing = check.expected.keys() - means.keys()
    if missing:
        return replace(check, state="failed", detail=f"no {', '.join(missing)} came out")
    inputs = {"weights": summary["weights_sha256"]}
    if "DATA" in values:
        inputs["data"] = data_digest(values["DATA"])
    found = {name: round(float(means[name]), 6) for name in check.expected}
    agrees = agreeing(check.expected, found, source.tolerance)
    limits = ", ".join(f"{name} ±{limit:g}" for name, limit in source.tolerance.items())
    detail = f"{'within' if agrees else 'outside'} {limits}; {summary['frames']} frames"
    state: State = "passed" if agrees else "differs"
    return replace(check, state=state, detail=detail, found=found, inputs=inputs)


def check_count(check: Check, claim: Claim) -> Check:
    """Run the test that shows a count."""
    assert claim.counted is not None
    test, metrics = claim.counted.test, claim.counted.metrics
    if not (ROOT / test.partition("::")[0]).is_file():
        return replace(check, detail=f"{test} is not here: no checkout")
    words = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = run(words, check.paper, "")
    check = replace(
        check, command=shlex.join(words), expected=claim.published, seconds=done.seconds
    )
    if done.status != 0:
        return replace(check, state="failed", detail=done.tail)
    agrees = agreeing(claim.published, metrics, claim.tolerance)
    state: State = "passed" if agrees else "differs"
    return replace(check, state=state, detail="the test that counts passes", found=metrics)


def check_embedded(
    paper: str, package: str, embedded: Embedded | None, given: Given
) -> Iterator[Check]:
    """The bundled weights' scores on the embedded set, and a short training on it."""
    none = "paper.toml has no embedded set"
    scores = Check(paper, "embedded", "bundled weights", "not run", none)
    training = Check(paper, "training", "loss", "not run", none)
    if embedded is None:
        yield from (scores, training)
        return
    work = given.out / "work"
    data = made_set(embedded.make, work)
    if isinstance(data, Done):
        for check in (scores, training):
            yield replace(check, state="failed", detail=data.tail, command=embedded.make)
        return
    if embedded.test is None or embedded.measured is None:
        yield replace(scores, detail="no weights come with the package")
    else:
        scores = replace(scores, expected=embedded.measured.metrics)
        values = {"DATA": data, "OUT": work / f"{paper}-embedded"}
        scores = check_scores(scores, package, embedded.test, values, embedded)
        yield on_record(scores, embedded.measured) if scores.inputs else scores
    yield check_training(training, package, embedded, data, work / f"{paper}-training")


@cache
def made_set(command: str, work: Path) -> Path | Done:
    """The embedded set that a command renders, once for all papers; or how that failed."""
    folder = work / f"set-{len(list(work.glob('set-*')))}"
    words = words_of(command, {"DATA": folder})
    # The core's command, or one of a paper's own.
    paper = "" if words[0] == "python" else words[0]
    done = run(words, paper, f"llve_{paper}")
    return folder if done.status == 0 else done


def on_record(check: Check, measured: Measured) -> Check:
    """The check with what is to be said of other weights or images than those of the record."""
    if check.inputs["weights"] != measured.weights_sha256:
        reason = f"the bundled weights are not those on record: {check.inputs['weights']}"
        return replace(check, state="differs", detail=reason)
    no = "" if check.inputs["data"] == measured.data_sha256 else "not "
    said = f"the set made here is {no}of the same bytes as on record"
    return replace(check, detail=f"{check.detail}; {said}")


def check_training(check: Check, package: str, embedded: Embedded, data: Path, out: Path) -> Check:
    """Train for some iterations and look at the loss."""
    done = run(words_of(embedded.train, {"DATA": data, "OUT": out}), check.paper, package)
    check = replace(check, command=embedded.train, seconds=done.seconds)
    if done.status != 0:
        return replace(check, state="failed", detail=done.tail)
    files = sorted(out.glob("*/losses.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    losses = [float(line["losses"]["total"]) for line in lines if "losses" in line]
    state, detail = judge_losses(losses, embedded.loss)
    return replace(check, state=state, detail=detail)


def judge_losses(losses: list[float], wanted: str) -> tuple[State, str]:
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
    check = Check(paper, "reference", "pytest -m reference", "not run", "not yet")
    tests = Path("packages") / paper / "tests"
    if not (ROOT / tests).is_dir():
        return [
            replace(check, detail=f"{tests} is not here: the package is not from this checkout")
        ]
    report = given.out / "work" / f"{paper}-reference.xml"
    words = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "reference",
             *([] if given.quick else ["--slow"]), str(tests)]  # fmt: skip
    done = run([*words, f"--junitxml={report}"], paper, "")
    if done.status == NOTHING_COLLECTED:
        return [replace(check, detail="the package has no such tests")]
    if done.status not in {0, 1} or not report.is_file():
        return [replace(check, state="failed", detail=done.tail, command=shlex.join(words))]
    return read_report(paper, report, shlex.join(words))


def read_report(paper: str, report: Path, command: str) -> list[Check]:
    """Checks from pytest's JUnit file: for each file what passed and failed, and why not run."""
    outcomes: dict[tuple[str, State, str], list[str]] = {}
    seconds: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        file = case.get("classname", "").split(".tests.")[-1].split(".")[0] or "collection"
        outcomes.setdefault((file, *outcome(case)), []).append(case.get("name", ""))
        seconds[file] = seconds.get(file, 0.0) + float(case.get("time", 0))
    checks = []
    for (file, state, reason), names in sorted(outcomes.items()):
        count = f"{file}: {len(names)} {'test' if len(names) == 1 else 'tests'}"
        check = Check(paper, "reference", count, state, reason, command, seconds=seconds[file])
        if state == "not run":
            check = replace(check, command="", seconds=None)
        elif state != "passed":
            some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            check = replace(check, detail=f"{some}: {reason}")
        checks.append(check)
    return checks


def outcome(case: ElementTree.Element) -> tuple[State, str]:
    """A test's state and, where it did not pass, the first line of the reason."""
    for tag in ("failure", "error", "skipped"):
        mark = case.find(tag)
        if mark is not None:
            lines = (mark.get("message") or mark.text or "no reason").strip().splitlines()
            if mark.get("type") == "pytest.xfail":
                return "differs", f"expected to fail: {lines[0]}"
            return ("not run" if tag == "skipped" else "failed"), lines[0]
    return "passed", ""


def words_of(command: str, values: dict[str, Path]) -> list[str]:
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
    process = None
    try:
        with ctrl_c_at_the_end():
            process = subprocess.Popen(
                [sys.executable, *program], cwd=ROOT, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                errors="replace",
            )  # fmt: skip
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Done(-1, f"it had not ended after {PATIENCE} s", time.perf_counter() - started)
    finally:
        if process is not None:
            process.kill()
            process.wait()
    tail = "\n".join(said.strip().splitlines()[-12:])
    return Done(process.returncode, tail or "it printed nothing", time.perf_counter() - started)


@contextmanager
def ctrl_c_at_the_end() -> Iterator[None]:
    """Let Ctrl-C wait: a program that begins meanwhile would go on, known to nobody."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
