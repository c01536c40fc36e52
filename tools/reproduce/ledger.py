"""The ledger of a reproduction: what was checked, what came out, and what was not run and why.

It is written as a page, as Markdown and as JSON; what was measured also in the form of paper.toml.
"""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2

from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_text
from llve_common.report.tables import Table
from llve_common.train import record
from reproduce.claims import Claim, Figures, PaperClaims, show

Part = Literal["record", "claims", "reference", "embedded", "training", "real"]
State = Literal["passed", "failed", "differs", "measured", "not run"]

REAL = "real"
"""Stands for a paper in the checks of several papers on one set."""
FILES = ("index.html", "ledger.md", "ledger.json", "measured.toml")
STATES: tuple[State, ...] = get_args(State)
SIGNS: Mapping[State, str] = {
    "passed": "✓",
    "failed": "✗",
    "differs": "≠",
    "measured": "·",
    "not run": "○",
}
HEADINGS: Mapping[Part, str] = {
    "record": "Its paper.toml",
    "claims": "Claims",
    "reference": "Against the published code",
    "embedded": "Bundled weights on the embedded set",
    "training": "Short training on the embedded set",
    "real": "Published and bundled weights",
}


@dataclass(frozen=True)
class Check:
    """One thing that was checked, or was not.

    Attributes:
        paper: the package's name, ``common`` for the core.
        part: of the paper's section.
        name: a claim's name, or what else is checked.
        state: ``differs`` is a figure outside its tolerance, ``failed`` what did not work at all,
            ``measured`` a figure with none to compare it with.
        detail: the reason, or a summary.
        command: what was run.
        expected: figures to come out.
        found: figures that came out.
        inputs: digests of weights and data.
        seconds: it took.
    """

    paper: str
    part: Part
    name: str
    state: State
    detail: str = ""
    command: str = ""
    expected: Figures = field(default_factory=dict)
    found: Figures = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a result without its run.

        Raises:
            ValueError: something ran without a command, or did not run without a reason.
        """
        if self.state == "not run" and (not self.detail or self.found):
            raise ValueError(f"{self.name}: not run needs a reason, and has no figures")
        if self.state != "not run" and not self.command:
            raise ValueError(f"{self.name}: {self.state} needs the command that was run")


@dataclass(frozen=True)
class Ledger:
    """All checks, and where they were made.

    Attributes:
        checks: in the order to be shown.
        claims: by paper; a paper without a readable ``paper.toml`` is missing.
        made: when, UTC.
        versions: of the packages that figures depend on.
        hardware: in words.
    """

    checks: Sequence[Check]
    claims: Mapping[str, PaperClaims]
    made: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    hardware: str = field(default_factory=lambda: hardware())

    @property
    def good(self) -> bool:
        """Whether nothing failed or differs; what was not run says nothing."""
        return not any(check.state in {"failed", "differs"} for check in self.checks)

    @property
    def papers(self) -> list[str]:
        """In the checks' order."""
        return list(dict.fromkeys(check.paper for check in self.checks))

    def counts(self, paper: str | None = None) -> dict[State, int]:
        """How many checks ended how, of one paper or of all."""
        found = Counter(c.state for c in self.checks if paper in (None, c.paper))
        return {state: found[state] for state in STATES}

    def of(self, paper: str, part: Part) -> list[Check]:
        """A paper's checks of one part."""
        return [check for check in self.checks if (check.paper, check.part) == (paper, part)]

    def claim(self, check: Check) -> Claim:
        """The claim that a check of the part ``claims`` is of."""
        return next(c for c in self.claims[check.paper].claim if c.name == check.name)


def write_ledger(ledger: Ledger, folder: Path) -> None:
    """Write the ledger's four files; ``index.html`` needs nothing beside it.

    Raises:
        MediaError: they cannot be written.
    """
    checks = [replace(each, detail=shown_text(each.detail)) for each in ledger.checks]
    ledger = replace(ledger, checks=checks)
    texts = (as_page(ledger), as_markdown(ledger), as_json(ledger), measured_blocks(ledger))
    for name, text in zip(FILES, texts, strict=True):
        write_text(folder / name, text)


def as_page(ledger: Ledger) -> str:
    """The ledger as an HTML page; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    titles = {paper: title(ledger, paper) for paper in ledger.papers}
    return environment.get_template("ledger.html.jinja").render(
        ledger=ledger, signs=SIGNS, headings=HEADINGS, titles=titles, show=show
    )


def as_json(ledger: Ledger) -> str:
    """The ledger as JSON text: the checks, and each paper's claims as ``paper.toml`` has them."""
    content = {
        "made": ledger.made,
        "versions": dict(ledger.versions),
        "hardware": ledger.hardware,
        "good": ledger.good,
        "counts": ledger.counts(),
        "checks": [asdict(check) for check in ledger.checks],
        "claims": {name: each.model_dump(mode="json") for name, each in ledger.claims.items()},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_markdown(ledger: Ledger) -> str:
    """The ledger as Markdown text."""
    facts = ", ".join(f"{name} {version}" for name, version in ledger.versions.items())
    parts = [
        "# Ledger of the reproduction\n",
        f"{ledger.made}; {facts}; {ledger.hardware}\n",
        f"{tally(ledger.counts())}\n",
    ]
    for paper in ledger.papers:
        parts.append(f"## {title(ledger, paper)}\n\n{tally(ledger.counts(paper))}\n")
        for part, heading in HEADINGS.items():
            checks = ledger.of(paper, part)
            if checks:
                table = _claims(ledger, checks) if part == "claims" else _others(checks)
                parts.append(f"### {heading}\n\n{table.markdown()}")
                parts += _commands(checks)
    return "\n".join(parts)


def measured_blocks(ledger: Ledger) -> str:
    """What was measured, in the form of paper.toml, to be taken over into it."""
    threads = os.environ.get("OMP_NUM_THREADS")
    prefix = f"OMP_NUM_THREADS={threads} " if threads else ""
    blocks = []
    for check in ledger.checks:
        if check.part not in {"claims", "embedded"} or not check.inputs:
            continue
        if check.part == "claims":
            table, template = "claim", ledger.claim(check).command
        else:
            embedded = ledger.claims[check.paper].embedded
            table, template = "embedded", embedded.test if embedded else None
        lines = [
            f"# {check.paper}: {check.name}",
            f"[{table}.measured]",
            f"metrics = {_inline(check.found)}",
            f"command = {json.dumps(f'{prefix}{template}')}",
            f"date = {datetime.now(UTC):%Y-%m-%d}",
            f"versions = {_inline(ledger.versions)}",
            f"hardware = {json.dumps(ledger.hardware)}",
            *(f'{name}_sha256 = "{digest}"' for name, digest in check.inputs.items()),
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _inline(values: Mapping[str, Any]) -> str:
    """A TOML inline table."""
    return "{ " + ", ".join(f"{name} = {json.dumps(v)}" for name, v in values.items()) + " }"


def title(ledger: Ledger, paper: str) -> str:
    """A paper's heading."""
    if paper not in ledger.claims:
        return {"common": "The shared core", REAL: "Real photographs and clips"}.get(paper, paper)
    about = ledger.claims[paper].paper
    return f"{paper}: {about.title} ({about.venue})"


def tally(counts: Mapping[State, int]) -> str:
    """``✓ 12 passed, ○ 3 not run``."""
    return ", ".join(f"{SIGNS[state]} {n} {state}" for state, n in counts.items() if n)


def versions() -> dict[str, str]:
    """Of the packages that figures depend on."""
    return {**record.versions(), "scikit-image": version("scikit-image")}


def hardware() -> str:
    """The processor and how many of its cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return f"{cores} x {_processor()}"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _claims(ledger: Ledger, checks: Sequence[Check]) -> Table:
    rows = []
    for check in checks:
        claim = ledger.claim(check)
        where = "; ".join(filter(None, (claim.source, claim.data, claim.protocol)))
        now = show(check.found) or "-"
        rows.append(
            (
                where,
                show(claim.metrics),
                claim.status.partition(":")[0],
                now,
                _state(check),
                check.detail,
            )
        )
    columns = ("claim", "published", "on record", "this run", "state", "why")
    return Table("", columns, tuple(rows), words=True)


def _others(checks: Sequence[Check]) -> Table:
    rows = [
        (check.name, show(check.expected) or "-", show(check.found) or "-", _state(check),
         check.detail)
        for check in checks
    ]  # fmt: skip
    columns = ("check", "expected", "this run", "state", "why")
    return Table("", columns, tuple(rows), words=True)


def _commands(checks: Sequence[Check]) -> list[str]:
    """The commands as a block of code, each once; none where there are none."""
    known = dict.fromkeys(_command(check) for check in checks if check.command)
    return ["```sh\n" + "\n".join(known) + "\n```\n"] if known else []


def _command(check: Check) -> str:
    """A command under the digests of what it read."""
    remarks = ["not run"] if check.state == "not run" else []
    remarks += [f"{name} sha256 {digest}" for name, digest in check.inputs.items()]
    return "\n".join([*(f"# {remark}" for remark in remarks), check.command])


def _state(check: Check) -> str:
    return f"{SIGNS[check.state]} {check.state}"
