"""The fuzz session: damaged, crafted and absurd input to the commands, each case in a process.

Files that a command reads are damaged: weights, settings, options, images, videos, clips, label
maps, and what llve wrote. Not given are ``weights average``, ``finetune``, and networks of others.

A case ends well as a result (status 0), as one message (status 1, one line ``error:``, or what a
score has ``left out:``), or as a usage message (status 2). A traceback, a signal, more than the
limits, a process or a file left behind, a control character in the output, or a message of many
pages is a fault; the case's folder is kept then, and ``--only KIND/NUMBER`` runs it again.

PyTorch and the papers are imported once; each case is a fork, under limits of memory, time, file
size and files. What a case is made of depends on ``--seed``, its kind and its number alone.
"""

import argparse
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import torch

from fuzz.cases import KINDS, Base, Case, make_base, make_case, program

MEMORY, SECONDS, FILE_SIZE, FILES, CHILDREN = 4 * 2**30, 60, 256 * 2**20, 256, 8
LONGEST = 20_000
_STRANGE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Ended(NamedTuple):
    """What became of a case: its faults, none where all is well, and how it ended."""

    name: str
    faults: list[str]
    how: str
    seconds: float


def main() -> None:
    """Run the session; the exit status is 1 where a case has a fault."""
    given = _arguments()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    root = Path(tempfile.mkdtemp(prefix="llve-fuzz-"))
    started = time.monotonic()
    try:
        base = make_base(root / "base")
        logging.disable(logging.NOTSET)
        names = given.only or [
            f"{kind}/{number}"
            for number in range(-(-given.cases // len(KINDS)))
            for kind in list(KINDS)[:: number % 2 or -1]  # so that each share has slow ones
        ][: given.cases]  # fmt: skip
        ended = _in_shares(names, base, root, given.seed, given.jobs)
        for each in ended:
            if each.faults:
                kept = given.out / each.name
                shutil.rmtree(kept, ignore_errors=True)
                if (root / each.name).is_dir():
                    shutil.copytree(root / each.name, kept, symlinks=True)
                print(f"{each.name}: {'; '.join(each.faults)}: see {kept}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    counts = Counter((each.name.split("/")[0], each.how) for each in ended)
    for (kind, how), count in sorted(counts.items()):
        print(f"{kind:10} {how:8} {count}")
    slowest = max(ended, key=lambda each: each.seconds)
    bad = sum(bool(each.faults) for each in ended)
    print(f"{len(ended)} cases, {bad} with faults, {time.monotonic() - started:.0f} s; slowest "
          f"{slowest.name}, {slowest.seconds:.1f} s")  # fmt: skip
    sys.exit(bad > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", metavar="KIND/NUMBER")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="for cases with faults")
    return parser.parse_args()


def _in_shares(names: list[str], base: Base, root: Path, seed: int, jobs: int) -> list[Ended]:
    """Each of several processes runs its share and writes a line for each case."""
    processes = {}
    for job in range(jobs):
        lines = root / f"{job}.txt"
        if (process := os.fork()) == 0:
            try:
                with lines.open("w", encoding="utf-8") as file:
                    for name in names[job::jobs]:
                        file.write(json.dumps(_run(name, base, root / name, seed)) + "\n")
                        file.flush()
            except BaseException:  # noqa: BLE001  the other half of the program runs elsewhere
                traceback.print_exc()
            os._exit(0)
        processes[process] = lines
    for process in processes:
        os.waitpid(process, 0)
    found = [Ended(*json.loads(line)) for file in processes.values() for line in file.open()]
    done = {each.name for each in found}
    return found + [Ended(name, ["never ran"], "lost", 0.0) for name in names if name not in done]


def _run(name: str, base: Base, folder: Path, seed: int) -> Ended:
    (folder / "home").mkdir(parents=True)
    (folder / "tmp").mkdir()
    work = folder / "work"
    work.mkdir()
    case = make_case(name, base, work, seed)
    (folder / "words.txt").write_text("\n".join(map(ascii, case.words)) + "\n")
    before = _files(work)
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        _be(case, base, folder)
    status, ending = _wait(process)
    seconds = time.monotonic() - started
    said = [(folder / f"{each}.txt").read_bytes() for each in ("stdout", "stderr")]
    faults = [*ending, *_judge(status, *(text.decode("utf-8", "surrogateescape") for text in said))]
    new = _files(work) - before
    debris = {each for each in new if Path(each).name.startswith(".")}
    if status != 0 and not case.may_write:
        debris |= new
    debris |= {f"{each}: {left}" for each in ("home", "tmp") for left in _files(folder / each)}
    if debris:
        faults.append(f"left behind: {sorted(debris)[:3]}")
    if not faults:
        shutil.rmtree(folder)
    return Ended(
        name, faults, {0: "result", 1: "message", 2: "usage"}.get(status, "fault"), seconds
    )


def _be(case: Case, base: Base, folder: Path) -> None:
    """Become the case: a process of its own session, under limits, that runs the command."""
    status = 70
    try:
        os.setsid()
        for what, most in (
            (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_NOFILE, FILES),
        ):  # fmt: skip
            resource.setrlimit(what, (most, most))
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / f"{name}.txt", os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        os.chdir(folder / "work")
        os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"),
                       "XDG_CACHE_HOME": str(base.cache), "COLUMNS": "200"}  # fmt: skip
        tempfile.tempdir = None
        sys.argv = list(case.words)
        program(case.words[0])(case.words[1:])
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001  what a user would see of it
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(process: int) -> tuple[int, list[str]]:
    """The exit status, or minus the signal; and what was amiss with its processes."""
    ending = []
    started = looked = time.monotonic()
    family: set[int] = set()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        now = time.monotonic()
        if ended or now - looked > 0.3:
            family, looked = _session(process), now
        if ended:
            break
        if now - started > SECONDS or len(family) > CHILDREN:
            ending.append("too many processes" if len(family) > CHILDREN else "too long")
            os.killpg(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            family = _session(process)
            break
        time.sleep(0.01)
    if others := family - {process}:
        if not ending:
            ending.append(f"{len(others)} processes left")
        for each in others:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status), ending


def _session(leader: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(words[3]) == leader and words[0] != "Z":
                    found.add(int(entry.name))
    return found


def _judge(status: int, out: str, err: str) -> list[str]:
    faults = []
    messages = len(re.findall(r"^error: ", err, re.MULTILINE))
    if status not in (0, 1, 2):
        faults.append(f"ended with {status}")
    if "Traceback" in out + err:
        faults.append("a traceback: " + (err.strip().splitlines() or [""])[-1][:150])
    told = messages == 1 or (messages == 0 and "left out: " in out)
    if (status == 1 and not told) or (status == 0 and messages):
        faults.append(f"{messages} messages and status {status}")
    if strange := _STRANGE.findall(out + err):
        faults.append(f"control characters: {strange[:3]!a}")
    if len(err) > LONGEST:
        faults.append(f"a message of {len(err)} characters")
    return faults


def _files(folder: Path) -> set[str]:
    return {os.fsencode(each.relative_to(folder)).decode("utf-8", "backslashreplace")
            for each in folder.rglob("*") if each.is_file() or each.is_symlink()}  # fmt: skip


if __name__ == "__main__":
    main()
