"""The tool behind ``nox -s reproduce``: what it concludes, and runs of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import reproduce.__main__ as tool
from markdown import write_page_files
from reproduce import checks
from reproduce.checks import Given
from reproduce.claims import Claim, Embedded, PaperClaims, read_claims
from reproduce.ledger import FILES, Check, Ledger, write_ledger
from reproduce.real import check_compared
from torch import nn

from llve_common.errors import UserError
from llve_common.evaluate.protocols import data_digest
from llve_common.io.digest import file_digest
from llve_common.weights.files import write_weights

ROOT = Path(__file__).resolve().parents[1]

REPORT = """<testsuites><testsuite>
<testcase classname="packages.sci.tests.test_reference" name="test_a" time="1"/>
<testcase classname="packages.sci.tests.test_reference" name="test_b" time="2"/>
<testcase classname="packages.sci.tests.test_reference" name="test_c" time="0">
  <skipped type="pytest.skip" message="no reference data: /x does not exist">where</skipped>
</testcase>
<testcase classname="packages.sci.tests.test_reference" name="test_d" time="0">
  <skipped type="pytest.xfail" message="known"/>
</testcase>
<testcase classname="packages.sci.tests.test_other" name="test_e" time="1">
  <failure message="AssertionError: 1 != 2&#10;more">long</failure>
</testcase>
<testcase classname="" name="packages.sci.tests.test_broken" time="0">
  <error message="collection failure">ImportError</error>
</testcase>
</testsuite></testsuites>"""


@pytest.fixture
def given(tmp_path):
    """Images, which a claim below is of, and its weights."""
    for folder in ("work", "LOL/low", "LOL/high"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "LOL" / "low" / "1.png").write_text("an image")
    (tmp_path / "weights.pt").write_text("weights")
    return Given(tmp_path, tmp_path / "LOL", tmp_path)


@pytest.fixture
def runs(monkeypatch):
    """Stands in for the commands: gives this status, and has scores and losses written."""

    def make(status=0, psnr=20.0, digest="0" * 64, losses=(2, 1)):
        calls = []

        def run(words, paper, package):
            calls.append(words)
            if "test" in words:
                folder = Path(words[-1])
                folder.mkdir()
                scores = {"frames": 1, "weights_sha256": digest}
                scores |= {"mean_of_frames": {"psnr": psnr}, "mean_of_clips": {"psnr": psnr + 1}}
                (folder / "summary.json").write_text(json.dumps(scores))
            if "train" in words:
                folder = Path(words[-1]) / "Train-now"
                folder.mkdir(parents=True)
                lines = [json.dumps({"losses": {"total": loss}}) + "\n" for loss in losses]
                (folder / "losses.jsonl").write_text("".join(lines))
            return checks.Done(status, "what it printed", 1.0)

        monkeypatch.setattr(checks, "run", run)
        monkeypatch.setattr(checks, "made_set", checks.made_set.__wrapped__)
        return calls

    return make


def test_report_of_pytest_is_told_apart(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    found = checks.read_report("sci", tmp_path / "report.xml", "pytest")
    assert [(c.name, c.state, c.detail) for c in found] == [
        ("collection: 1 test", "failed", "packages.sci.tests.test_broken: collection failure"),
        ("test_other: 1 test", "failed", "test_e: AssertionError: 1 != 2"),
        ("test_reference: 1 test", "differs", "test_d: expected to fail: known"),
        ("test_reference: 1 test", "not run", "no reference data: /x does not exist"),
        ("test_reference: 2 tests", "passed", ""),
    ]


@pytest.mark.parametrize(
    ("losses", "wanted", "state"),
    [
        ([3.0, 2.0, 1.0], "falls", "passed"),
        ([1.0, 2.0, 3.0], "falls", "failed"),
        ([1.0, 2.0, 3.0], "finite", "passed"),
        ([1.0, float("nan")], "finite", "failed"),
        ([1.0, float("inf"), 0.5], "falls", "failed"),
        ([1.0], "falls", "failed"),
        ([], "finite", "failed"),
    ],
)
def test_losses_are_judged(losses, wanted, state):
    assert checks.judge_losses(losses, wanted)[0] == state


# Claims


@pytest.fixture
def check_claim(given):
    """Checks a measured claim on the images and weights above; keywords replace parts of either."""
    command = "p test $DATA $WEIGHTS $OUT"
    measured = {
        "metrics": {"psnr": 20.0, "ssim": 0.5}, "command": command, "date": "2026-01-31",
        "versions": {}, "hardware": "h", "data_sha256": data_digest(given.data),
        "weights_sha256": file_digest(given.weights / "weights.pt"),
    }  # fmt: skip

    def check(here=None, **parts):
        claim = {
            "name": "one", "source": "s", "data": "LOL v1 eval15", "metrics": {"psnr": 20.0},
            "tolerance": {"psnr": 0.1}, "status": "reproduced",
            "command": command, "weights": "weights.pt", "measured": measured,
        }  # fmt: skip
        chosen = replace(given, **here or {})
        return checks.check_claim("p", "llve_p", Claim.model_validate(claim | parts), chosen)

    return check


@pytest.mark.parametrize(("psnr", "state"), [(20.05, "passed"), (20.15, "differs")])
def test_claim_is_run_and_compared(check_claim, given, runs, psnr, state):
    calls = runs(psnr=psnr)
    check = check_claim()
    assert (check.state, check.found) == (state, {"psnr": psnr})
    assert calls == [["p", "test", str(given.data), str(given.weights / "weights.pt"), str(
        given.out / "work" / "p-one")]]  # fmt: skip
    assert check.inputs == {"weights": "0" * 64, "data": data_digest(given.data)}


def test_mean_of_clips(check_claim, runs):
    runs(psnr=20.0)
    check = check_claim(mean="clips")
    assert (check.state, check.found) == ("differs", {"psnr": 21.0})


def test_command_that_fails(check_claim, runs):
    runs(status=1)
    check = check_claim()
    assert (check.state, check.detail, check.found) == ("failed", "what it printed", {})


def test_figure_that_does_not_come_out(check_claim, runs):
    runs()
    check = check_claim(metrics={"ssim": 0.5}, tolerance={"ssim": 0.1})
    assert (check.state, check.detail) == ("failed", "no ssim came out")


@pytest.mark.parametrize(
    ("parts", "here", "reason"),
    [
        ({}, {"quick": True}, "left out by --quick"),
        ({}, {"data": None}, "needs LOL v1 eval15: --data DIR"),
        ({}, {"weights": None}, "needs the published weights.pt: --weights DIR"),
        ({"weights": "no.pt"}, {}, "needs the published no.pt: --weights DIR; none is in /"),
        ({"data": "LSRW"}, {}, "needs LSRW"),
        ({"status": "not run: needs a GPU", "measured": None}, {}, "needs a GPU"),
        ({"status": "secondary", "measured": None, "tolerance": {}}, {}, "secondary: quoted"),
        ({"data": checks.LIME}, {}, "needs LIME, 9 photographs: --sets DIR, with it in DIR/real"),
        (
            {"status": "not at hand", "metrics": {"psnr": "not at hand"}, "measured": None},
            {},
            "the published figure is not at hand",
        ),
    ],
)
def test_what_is_not_here_is_not_run(check_claim, runs, parts, here, reason):
    calls = runs()
    check = check_claim(here, **parts)
    assert (check.state, check.found, calls) == ("not run", {}, [])
    assert check.detail.startswith(reason)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("weights.pt", "is not the file on record"),
        ("LOL/low/2.png", "does not hold the images that the figure is of"),
    ],
)
def test_other_images_or_weights_than_on_record_are_not_run(check_claim, given, runs, file, reason):
    calls = runs()
    (given.out / file).write_text("others")
    check = check_claim()
    assert (check.state, calls) == ("not run", [])
    assert reason in check.detail


# Real photographs and clips


def test_real_rows_are_those_of_a_comparison(given, monkeypatch):
    (given.out / "real_low" / "LIME").mkdir(parents=True)
    (given.out / "real_low" / "LIME" / "1.bmp").write_text("an image")
    given = replace(given, sets=given.out)
    claim = {
        "name": "one", "source": "s", "data": "D", "metrics": {"psnr": 20.0},
        "status": "reproduced", "tolerance": {"psnr": 0.1}, "command": "p test $WEIGHTS",
        "weights": "weights.pt",
        "measured": {
            "metrics": {"psnr": 20.0}, "command": "p test $WEIGHTS", "date": "2026-01-31",
            "versions": {}, "hardware": "h",
            "weights_sha256": file_digest(given.weights / "weights.pt"),
        },
    }  # fmt: skip
    about = {"title": "t", "authors": "a", "venue": "v"}
    embedded = {"make": "m", "train": "t", "test": "e", "tolerance": {"psnr": 0.1},
                "measured": claim["measured"]}  # fmt: skip
    whole = {"paper": about, "claim": [claim], "embedded": embedded}
    claims = {"p": PaperClaims.model_validate(whole)}
    none = {"weights": None, "weights_sha256": None, "failure": None, "warping_error_flow": "DIS"}
    file = {"weights": "w.pt", "weights_sha256": "0" * 64}
    rows = [
        none | {"name": "input", "title": "as it is", "niqe": 5.5},
        none | file | {"name": "p", "title": "P", "niqe": 4.5, "psnr": None},
        none | {"name": "q", "title": "Q", "failure": "no weights"},
    ]
    calls = []

    def run(words, paper, package):
        calls.append(words)
        Path(words[-1]).mkdir()
        (Path(words[-1]) / "comparison.json").write_text(json.dumps({"rows": rows}))
        return checks.Done(1, "", 1.0)

    monkeypatch.setattr("reproduce.real.run", run)
    bundled = check_compared(checks.LIME, claims, given, published=False)
    assert [(c.state, c.found) for c in bundled] == [
        ("measured", {"niqe": 5.5}), ("measured", {"niqe": 4.5}), ("failed", {}),
    ]  # fmt: skip
    published = check_compared(checks.LIME, claims, given, published=True)
    assert [c.name.partition(": ")[2] for c in published] == ["p, w.pt", "q, Q"]
    assert calls[1][calls[1].index("--weights") + 1] == f"p={given.weights / 'weights.pt'}"
    write_ledger(Ledger([*bundled, *published], claims), given.out)
    for name in FILES:
        assert str(given.out) not in (given.out / name).read_text(encoding="utf-8")
    [absent] = check_compared(checks.PAIR21, claims, given, published=False)
    assert (absent.state, absent.detail[:32]) == ("not run", "needs SDSD indoor pair21: --sets")


# The embedded set


@pytest.fixture
def check_embedded(given):
    """Checks bundled weights and a training; keywords replace parts of the record."""
    measured = {"metrics": {"psnr": 20.0}, "command": "c", "date": "2026-01-31", "versions": {},
                "hardware": "h", "weights_sha256": "0" * 64, "data_sha256": "2" * 64}  # fmt: skip

    def check(**parts):
        fields = {"make": "make $DATA", "train": "p train $OUT", "test": "p test $OUT",
                  "tolerance": {"psnr": 0.1}, "measured": measured}  # fmt: skip
        embedded = Embedded.model_validate(fields | parts)
        return list(checks.check_embedded("p", "llve_p", embedded, given))

    return check


@pytest.mark.parametrize(
    ("outcome", "states"),
    [
        ({}, ["passed", "passed"]),
        ({"losses": (1, 2)}, ["passed", "failed"]),
        ({"psnr": 20.2}, ["differs", "passed"]),
        ({"digest": "1" * 64}, ["differs", "passed"]),
        ({"status": 1}, ["failed", "failed"]),
    ],
)
def test_embedded_set(check_embedded, runs, outcome, states, monkeypatch):
    runs(**outcome)
    monkeypatch.setattr(checks, "data_digest", lambda folder: "2" * 64)
    found = check_embedded()
    assert [(c.part, c.state) for c in found] == list(
        zip(("embedded", "training"), states, strict=True)
    )


@pytest.mark.parametrize(("digest", "words"), [("2" * 64, "is of"), ("3" * 64, "is not of")])
def test_images_of_other_bytes_are_told(check_embedded, runs, monkeypatch, digest, words):
    runs()
    monkeypatch.setattr(checks, "data_digest", lambda folder: digest)
    scores, _ = check_embedded()
    assert scores.state == "passed"
    assert f"the set made here {words} the same bytes as on record" in scores.detail


def test_paper_without_bundled_weights_or_embedded_set(check_embedded, given, runs):
    runs()
    scores, training = check_embedded(test=None, measured=None, tolerance={})
    assert (scores.state, training.state) == ("not run", "passed")
    for check in checks.check_embedded("p", "llve_p", None, given):
        assert (check.state, check.detail) == ("not run", "paper.toml has no embedded set")


# Other papers, other commands


def test_paper_without_a_record_fails_and_the_others_go_on(given, monkeypatch, tmp_path):
    class Entry:
        module = "llve_common.paper.contract"

    monkeypatch.setattr(tool, "check_reference", lambda paper, given: [])
    found = list(tool.check_all({"sixth": Entry}, replace(given, papers=["sixth"]), {}))
    assert [(c.part, c.state) for c in found] == [("record", "failed")]
    write_ledger(Ledger(found, {}), tmp_path)
    assert "without a paper.toml" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_paper_from_elsewhere_has_no_tests_here(given):
    [check] = checks.check_reference("sixth", given)
    assert (check.state, check.detail.split(" is ")[0]) == ("not run", "packages/sixth/tests")


@pytest.mark.parametrize(
    "command", ["rm -rf $OUT", "sci test", "python -c 1", "python -m http.server"]
)
def test_only_the_papers_own_commands_are_run(command):
    with pytest.raises(UserError, match="not a command of this paper"):
        checks.run(command.split(), "p", "llve_p")


# The program


@pytest.fixture
def main(monkeypatch, tmp_path, capsys):
    """Runs the program in this process; gives its status and what it printed."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["reproduce", "--out", str(tmp_path / "out"), *words])
        with pytest.raises(SystemExit) as ended:
            tool.main()
        code, printed = ended.value.code, "".join(capsys.readouterr())
        # Python prints a message that is given instead of a status, and ends with 1.
        return (1, printed + code) if isinstance(code, str) else (code, printed)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier ledger, with what a run that was killed left there."""
    (tmp_path / "out" / "work" / "gamma-training").mkdir(parents=True)
    (tmp_path / "out" / "ledger.json").write_text("of before")
    return tmp_path / "out"


def content(folder):
    return {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize(("state", "status"), [("passed", 0), ("differs", 1)])
def test_status_says_whether_anything_differs(main, monkeypatch, earlier, state, status):
    check = Check("common", "reference", "pytest", state, "why", "command")
    monkeypatch.setattr(tool, "check_all", lambda *_: iter([check]))
    ended, printed = main()
    assert ended == status
    assert f"1 {state}" in printed
    assert content(earlier).keys() == set(FILES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--paper", "gone"), "no such paper is installed"),
        (("--data", "."), "not the images of LOL v1 eval15"),
        (("--weights", "gone"), "--weights gone: no such folder"),
        (("--sets", "gone"), "--sets gone: no such folder"),
    ],
)
def test_mistake_leaves_what_was_there(main, earlier, options, message):
    status, printed = main(*options)
    assert status == 1
    assert message in printed
    assert content(earlier) == {"ledger.json": "of before"}
    shutil.rmtree(earlier)
    assert main(*options)[0] == 1
    assert not earlier.exists()


def test_folder_that_holds_other_things(main, earlier):
    (earlier / "thesis.tex").write_text("years of work")
    status, printed = main()
    assert status == 1
    assert "holds something other than a ledger" in printed
    assert (earlier / "thesis.tex").read_text() == "years of work"


def test_given_folders_are_taken(monkeypatch, given):
    out = given.out / "new"
    words = ["--data", str(given.data), "--weights", str(given.weights), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["reproduce", *words, "--sets", str(given.data)])
    assert tool.parse_arguments() == replace(given, out=out, sets=given.data)


def test_stop_by_sigterm_is_as_by_ctrl_c(main, monkeypatch, earlier):
    monkeypatch.setattr(tool, "check_all", lambda *_: signal.raise_signal(signal.SIGTERM))
    status, printed = main()
    assert (status, printed.strip()) == (130, STOPPED.format(earlier))
    assert content(earlier) == {"ledger.json": "of before"}


GAMMA = Path("packages/gamma")
STOPPED = "stopped: nothing was written; what {} held before is as it was"
CLAIMS = """
[paper]
title = "Gamma"
authors = "Nobody"
venue = "nowhere"

[[claim]]
name = "table"
source = "Table 1"
data = "somewhere"
metrics = {{ psnr = "not at hand" }}
status = "not at hand"

[embedded]
make = "python -m llve_common synthetic $DATA --clips 1 --frames 1 --height 24 --width 32"
train = "gamma train --data_path $DATA/train/low --target_path $DATA/train/high --epochs 2 \
run.log_every=1 run.tensorboard=false --save $OUT"
loss = "finite"
test = "gamma test --data_path $DATA/test/low --target_path $DATA/test/high --save_path $OUT"
tolerance = {{ psnr = 100 }}

[embedded.measured]
metrics = {{ psnr = 20 }}
command = "made up; with this tolerance anything passes"
date = 2026-01-31
versions = {{}}
hardware = "none"
weights_sha256 = "{weights}"
"""


@pytest.fixture
def started(tmp_path):
    """Starts the program where the paper of docs/add-a-paper.md is installed, with weights."""
    write_page_files(ROOT / "docs" / "add-a-paper.md", tmp_path)
    source = tmp_path / GAMMA / "src"
    paper, weights = (
        source / "llve_gamma" / "config.py",
        source / "llve_gamma/bundled/w.safetensors",
    )
    paper.write_text(paper.read_text().replace('kind="', 'bundled="w.safetensors", kind="'))
    network = nn.ModuleDict({"look": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))})
    write_weights(weights, network.state_dict())
    claims = CLAIMS.format(weights=file_digest(weights))
    (tmp_path / GAMMA / "paper.toml").write_text(claims)
    info = source / "llve_gamma-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llve-gamma\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[llve.papers]\ngamma = llve_gamma.paper:PAPER\n")
    path = [str(source), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "LLVE_SHARED": str(info)}
    return subprocess.Popen(
        [sys.executable, "-m", "reproduce", "--out", tmp_path / "out", "--paper", "gamma",
         "--quick"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        # A shell's background job, as this may run in, ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), cwd=tmp_path,
    )  # fmt: skip


def test_quick_run(started, tmp_path):
    printed, errors = started.communicate()
    assert started.returncode == 0, printed + errors
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert [(c["part"], c["state"]) for c in ledger["checks"]] == [
        ("claims", "not run"),
        ("embedded", "passed"),
        ("training", "passed"),
        ("reference", "not run"),
        ("real", "not run"),
    ]
    assert ledger["good"] is True
    assert "not run  gamma claims: table: the published figure is not at hand\n" in printed
    assert f"The ledger is at {tmp_path / 'out' / 'index.html'}" in printed
    assert "○ 2 not run" in (tmp_path / "out" / "ledger.md").read_text(encoding="utf-8")
    block = (tmp_path / "out" / "measured.toml").read_text(encoding="utf-8")
    record = tmp_path / GAMMA / "paper.toml"
    record.write_text(record.read_text().partition("[embedded.measured]")[0] + block)
    taken_over = read_claims(record).embedded.measured
    assert taken_over.metrics == ledger["checks"][1]["found"]


def test_ctrl_c_leaves_the_earlier_ledger(earlier, started):
    assert any(line.startswith("$ ") for line in started.stdout)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate()
    assert (started.returncode, errors.strip()) == (130, STOPPED.format(earlier))
    assert [file.name for file in earlier.iterdir()] == ["ledger.json"]
    assert content(earlier) == {"ledger.json": "of before"}
