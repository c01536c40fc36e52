"""The ledger from made-up results: as a page, as Markdown, as JSON."""

import datetime
import json
import re

import pytest
from reproduce.claims import About, Claim, Measured, PaperClaims
from reproduce.ledger import SIGNS, Check, Ledger, write_ledger

EVIL = '<script>alert(1)</script> & "quotes"'
DIGEST = "a" * 64


def claim(name, status, **parts):
    return Claim(
        name=name, source="Table 1", data=f"data of {name}", metrics={"psnr": 20.5},
        tolerance={"psnr": 0.005}, status=status, **parts,
    )  # fmt: skip


@pytest.fixture
def ledger():
    """One check of every state, and a recorded claim that was not run now."""
    measured = Measured(
        metrics={"psnr": 20.501}, command="sci test", date=datetime.date(2026, 1, 31),
        versions={"torch": "2.13.0"}, hardware="the recorder's",
    )  # fmt: skip
    claims = PaperClaims(
        paper=About(title=f"A title {EVIL}", authors="A", venue="V 2022"),
        claim=(
            claim("recorded", "reproduced", measured=measured, command="sci test"),
            claim("measured", "reproduced", measured=measured, command="sci test"),
            claim("absent", "not run: needs LSRW"),
        ),
    )
    checks = [
        Check("sci", "claims", "recorded", "not run", "needs LOL", "sci test"),
        Check("sci", "claims", "measured", "passed", "within", "sci test --now",
              {"psnr": 20.5}, {"psnr": 20.499}, {"weights": DIGEST}, 1.25),
        Check("sci", "claims", "absent", "not run", "needs LSRW"),
        Check("sci", "reference", "test_reference: 1 test", "failed", EVIL, "pytest"),
        Check("sci", "embedded", "bundled weights", "differs", "outside", "sci test",
              {"psnr": 16.0}, {"psnr": 15.0}),
        Check("common", "reference", "pytest", "not run", "no reference data"),
    ]  # fmt: skip
    return Ledger(checks, {"sci": claims}, "2026-02-01 10:00 UTC", {"torch": "2.13.0"}, "2 x cores")


@pytest.fixture
def written(ledger, tmp_path):
    write_ledger(ledger, tmp_path)
    return {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}


def test_counts(ledger):
    assert ledger.counts() == {"passed": 1, "failed": 1, "differs": 1, "measured": 0, "not run": 3}
    assert ledger.counts("common") == dict.fromkeys(ledger.counts(), 0) | {"not run": 1}
    assert ledger.papers == ["sci", "common"]


@pytest.mark.parametrize(
    ("states", "good"),
    [
        (["passed", "not run"], True),
        (["not run"], True),
        (["passed", "differs"], False),
        (["failed", "passed"], False),
    ],
)
def test_good_is_without_failures_and_differences(states, good):
    checks = [
        Check("p", "training", "loss", s, "why", "" if s == "not run" else "run") for s in states
    ]
    assert Ledger(checks, {}).good is good


def test_no_result_without_its_run():
    for state in ("passed", "failed", "differs"):
        with pytest.raises(ValueError, match="needs the command"):
            Check("p", "training", "loss", state, "why")
    with pytest.raises(ValueError, match="needs a reason"):
        Check("p", "training", "loss", "not run")
    with pytest.raises(ValueError, match="has no figures"):
        Check("p", "training", "loss", "not run", "why", found={"psnr": 1.0})


def rows(page):
    return re.findall(r"<tr class=.*?</tr>", page, re.DOTALL)


def test_every_row_has_the_state_of_its_check_as_class_sign_and_word(written, ledger):
    shown = rows(written["index.html"])
    assert len(shown) == len(ledger.checks)
    for row, check in zip(shown, ledger.checks, strict=True):
        css = check.state.replace(" ", "-")
        assert row.startswith(f'<tr class="{css}">')
        states = re.findall(r'<span class="state ([a-z-]+)">(.*?)</span>', row)
        assert states == [(css, f"{SIGNS[check.state]} {check.state}")]


def test_what_was_not_run_has_its_own_colour_its_reason_and_no_figure_of_this_run(written):
    row = rows(written["index.html"])[0]
    assert "needs LOL" in row
    assert '<td class="figures">\u2013</td>' in row
    assert "reproduced" in row  # on record
    assert "2026-01-31" in row
    assert "the command that would run it" in row
    assert "passed" not in row
    colours = dict(
        re.findall(r"--(passed|failed|differs|measured|not-run): (.*?);", written["index.html"])
    )
    assert len(set(colours.values())) == 5


def test_result_shows_figures_command_and_digest(written):
    row = rows(written["index.html"])[1]
    for part in ("PSNR 20.5 dB", "PSNR 20.499 dB", "$ sci test --now", DIGEST, "1.2 s"):
        assert part in row


def test_page_needs_nothing_beside_it(written):
    page = written["index.html"]
    assert not re.search(r"<(script|link|img|iframe|object|embed|base)\b", page)
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert not re.search(r"url\(|@import|https?:", page)


def test_text_is_escaped(written):
    assert EVIL not in written["index.html"]
    assert written["index.html"].count("&lt;script&gt;alert(1)") == 3  # contents, heading, reason


def test_json_holds_everything(written, ledger):
    content = json.loads(written["ledger.json"])
    assert content["good"] is False
    assert content["counts"] == ledger.counts()
    assert [c["state"] for c in content["checks"]] == [c.state for c in ledger.checks]
    assert content["checks"][1]["found"] == {"psnr": 20.499}
    assert content["claims"]["sci"]["claim"][0]["measured"]["date"] == "2026-01-31"
    assert PaperClaims.model_validate(content["claims"]["sci"]) == ledger.claims["sci"]
    assert content["hardware"] == "2 x cores"


def test_markdown_holds_every_row(written, ledger):
    text = written["ledger.md"]
    assert "✓ 1 passed, ✗ 1 failed, ≠ 1 differs, ○ 3 not run" in text
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    lines = [line for line in lines if not line.startswith(("| claim |", "| check |"))]
    assert len(lines) == len(ledger.checks)
    for line, check in zip(lines, ledger.checks, strict=True):
        assert f"| {SIGNS[check.state]} {check.state} |" in line
    assert "| not run | - | ○ not run | needs LSRW |" in text


def test_markdown_holds_commands_and_digests(written):
    text = written["ledger.md"]
    assert f"```sh\n# not run\nsci test\n# weights sha256 {DIGEST}\nsci test --now\n```" in text
    assert text.count("```sh") == 3  # the core's tests were not run and have no command


def test_facts_of_this_machine_are_filled_in():
    made = Ledger([], {})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made.made)
    assert {"llve", "python", "torch", "numpy"} <= made.versions.keys()
    assert re.match(r"\d+ x .+", made.hardware)
