"""The reproduction: everything about the installed papers that can be checked on this machine.

For each paper: its claims (``paper.toml``) whose data and weights are here, the tests against
values of the published code, the bundled weights' scores on the embedded set, and a short training.
Then real photographs and a real clip under published and bundled weights, side by side. The ledger
of it is a page, a Markdown and a JSON file. The exit status is 1 if anything failed or differs;
what was not run, for want of data or weights, changes nothing in it.
"""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

from llve_common.errors import UserError
from llve_common.paper.installed import find_papers
from llve_common.testing.reference import shared_folder
from reproduce.checks import FOLDERS, LOL, Given, check_claim, check_embedded, check_reference
from reproduce.claims import PaperClaims, claims_file, read_claims
from reproduce.ledger import FILES, Check, Ledger, tally, write_ledger
from reproduce.real import check_real

INTERRUPTED = 130  # a shell's status of a command that Ctrl-C ended


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


def parse_arguments() -> Given:
    """The command line; what it leaves open is taken from ``$LLVE_SHARED`` where that is there."""
    parser = argparse.ArgumentParser(prog="reproduce", description=__doc__)
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
        "--sets", type=Path, metavar="DIR",
        help=f"folder of further sets: {', '.join(FOLDERS.values())}",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="leave out the claims on data, and slow tests"
    )
    parser.add_argument(
        "--paper", action="append", metavar="NAME", help="only this one; may be given again"
    )
    arguments = parser.parse_args()
    out, data, weights = arguments.out.resolve(), arguments.data, arguments.weights
    if out.exists() and (out.is_file() or {file.name for file in out.iterdir()} - {"work", *FILES}):
        sys.exit(f"error: {out} holds something other than a ledger; give another --out")
    if data and not all((data / part).is_dir() for part in ("low", "high")):
        sys.exit(
            f"error: --data {data}: not the images of {LOL}\n"
            f"  expected: a folder that holds the folders low and high, such as LOL/eval15"
        )
    for option, folder in (("weights", weights), ("sets", arguments.sets)):
        if folder and not folder.is_dir():
            sys.exit(f"error: --{option} {folder}: no such folder")
    shared = shared_folder() / "data"
    data, weights = data or shared / "lol_eval15", weights or shared
    sets: Path = arguments.sets or shared
    return Given(
        out,
        data.resolve() if data.is_dir() else None,
        weights.resolve() if weights.is_dir() else None,
        sets.resolve() if sets.is_dir() else None,
        arguments.quick,
        arguments.paper,
    )


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
    return ledger


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
    if claims:
        yield from check_real(claims, given)


def clear(out: Path) -> None:
    """Remove what a run that came to no ledger has made; an earlier ledger stays."""
    shutil.rmtree(out / "work", ignore_errors=True)
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()


if __name__ == "__main__":
    main()
