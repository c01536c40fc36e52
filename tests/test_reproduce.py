"""The tool behind ``nox -s reproduce``: what it concludes, and one run of it."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from reproduce.claims import Claim, Embedded, data_digest, read_claims

from llve_common.errors import UserError
from llve_common.weights.files import file_digest

ROOT = Path(__file__).resolve().parents[1]
FIVE = Path(__file__).parent / "papers" / "llve_five"

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


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "tools" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reproduce"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["reproduce"]


@pytest.fixture
def given(tool, tmp_path):
    """What a user gives, nothing of it by default."""

    def make(data=None, weights=(), quick=False):
        (tmp_path / "work").mkdir(exist_ok=True)
        return tool.Given(tmp_path, data, tuple(weights), quick)

    return make


@pytest.fixture
def runs(tool, monkeypatch):
    """Stands in for the commands: gives this status, and has scores written."""

    def make(status=0, psnr=20.0, digest="0" * 64, losses=()):
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
            return tool.Done(status, "what it printed", 1.0)

        monkeypatch.setattr(tool, "run", run)
        tool.made_set.cache_clear()
        return calls

    yield make
    tool.made_set.cache_clear()


@pytest.fixture
def images(tmp_path):
    (tmp_path / "LOL" / "low").mkdir(parents=True)
    (tmp_path / "LOL" / "low" / "1.png").write_text("an image")
    (tmp_path / "weights.pt").write_text("weights")
    return tmp_path / "LOL"


@pytest.fixture
def claim(images, tmp_path):
    """A measured claim on the images and weights above."""

    def make(**parts):
        command = "p test $DATA $WEIGHTS $OUT"
        block = {
            "metrics": {"psnr": 20.0, "ssim": 0.5}, "command": command, "date": "2026-01-31",
            "versions": {}, "hardware": "h", "data_sha256": data_digest(images),
            "weights_sha256": file_digest(tmp_path / "weights.pt"),
        }  # fmt: skip
        fields = {
            "name": "one", "source": "s", "data": "LOL v1 eval15", "metrics": {"psnr": 20.0},
            "tolerance": {"psnr": 0.1}, "status": "reproduced",
            "command": command, "weights": "weights.pt", "measured": block,
        }  # fmt: skip
        return Claim.model_validate(fields | parts)

    return make


def test_report_of_pytest_is_told_apart(tool, tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    checks = tool.read_report("sci", tmp_path / "report.xml", "pytest")
    assert [(c.name, c.state, c.detail) for c in checks] == [
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
def test_losses_are_judged(tool, losses, wanted, state):
    assert tool.judge_losses(losses, wanted)[0] == state


@pytest.mark.parametrize(("psnr", "state"), [(20.05, "passed"), (20.15, "differs")])
def test_claim_is_run_and_compared(tool, given, runs, claim, images, tmp_path, psnr, state):
    calls = runs(psnr=psnr)
    check = tool.check_claim("p", "llve_p", claim(), given(images, [tmp_path]))
    assert (check.state, check.found) == (state, {"psnr": psnr})
    assert calls == [["p", "test", str(images), str(tmp_path / "weights.pt"), str(
        tmp_path / "work" / "p-one")]]  # fmt: skip
    assert check.inputs == {"weights": "0" * 64, "data": data_digest(images)}


def test_mean_of_clips(tool, given, runs, claim, images, tmp_path):
    runs(psnr=20.0)
    check = tool.check_claim("p", "llve_p", claim(mean="clips"), given(images, [tmp_path]))
    assert (check.state, check.found) == ("differs", {"psnr": 21.0})


def test_command_that_fails(tool, given, runs, claim, images, tmp_path):
    runs(status=1)
    check = tool.check_claim("p", "llve_p", claim(), given(images, [tmp_path]))
    assert (check.state, check.detail, check.found) == ("failed", "what it printed", {})


def test_figure_that_does_not_come_out(tool, given, runs, claim, images, tmp_path):
    runs()
    wanted = claim(metrics={"ssim": 0.5}, tolerance={"ssim": 0.1})
    check = tool.check_claim("p", "llve_p", wanted, given(images, [tmp_path]))
    assert (check.state, check.detail) == ("failed", "no ssim came out")


@pytest.mark.parametrize(
    ("parts", "options", "reason"),
    [
        ({}, {"quick": True}, "left out by --quick"),
        ({}, {"data": None}, "needs LOL v1 eval15: --data DIR"),
        ({}, {"weights": ()}, "needs the published weights.pt: --weights DIR"),
        (
            {"weights": "gone.pt"},
            {},
            "needs the published gone.pt: --weights DIR; none is in /",
        ),
        ({"data": "LSRW"}, {}, "needs LSRW"),
        ({"status": "not run: needs a GPU", "measured": None}, {}, "needs a GPU"),
        (
            {"status": "not at hand", "metrics": {"psnr": "not at hand"}, "measured": None},
            {},
            "the published figure is not at hand",
        ),
    ],
)
def test_what_is_not_here_is_not_run(
    tool, given, runs, claim, images, tmp_path, parts, options, reason
):
    calls = runs()
    here = {"data": images, "weights": [tmp_path]} | options
    check = tool.check_claim("p", "llve_p", claim(**parts), given(**here))
    assert (check.state, check.found, calls) == ("not run", {}, [])
    assert check.detail.startswith(reason)


def test_other_images_or_weights_than_on_record_are_not_run(
    tool, given, runs, claim, images, tmp_path
):
    calls, wanted = runs(), claim()
    (tmp_path / "weights.pt").write_text("others")
    check = tool.check_claim("p", "llve_p", wanted, given(images, [tmp_path]))
    assert "is not the file on record" in check.detail
    (images / "low" / "2.png").write_text("one more")
    check = tool.check_claim("p", "llve_p", wanted, given(images, [tmp_path]))
    assert "does not hold the images that the figure is of" in check.detail
    assert (check.state, calls) == ("not run", [])


def embedded(**parts):
    measured = {"metrics": {"psnr": 20.0}, "command": "c", "date": "2026-01-31", "versions": {},
                "hardware": "h", "weights_sha256": "0" * 64}  # fmt: skip
    fields = {"make": "make $DATA", "train": "p train $OUT", "test": "p test $OUT",
              "tolerance": {"psnr": 0.1}, "measured": measured}  # fmt: skip
    return Embedded.model_validate(fields | parts)


def states(checks):
    return [(check.part, check.state) for check in checks]


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        ({"losses": (2, 1)}, ("passed", "passed")),
        ({"losses": (1, 2)}, ("passed", "failed")),
        ({"losses": (2, 1), "psnr": 20.2}, ("differs", "passed")),
        ({"losses": (2, 1), "digest": "1" * 64}, ("differs", "passed")),
        ({"status": 1}, ("failed", "failed")),
    ],
)
def test_embedded_set(tool, given, runs, outcome, wanted, tmp_path, monkeypatch):
    runs(**outcome)
    monkeypatch.setattr(tool, "data_digest", lambda folder: "2" * 64)
    found = list(tool.check_embedded("p", "llve_p", embedded(), given()))
    assert states(found) == [("embedded", wanted[0]), ("training", wanted[1])]


@pytest.mark.parametrize(("digest", "words"), [("2" * 64, "is of"), ("3" * 64, "is not of")])
def test_images_of_other_bytes_are_told(tool, given, runs, monkeypatch, digest, words):
    runs(losses=(2, 1))
    monkeypatch.setattr(tool, "data_digest", lambda folder: digest)
    measured = embedded().measured.model_copy(update={"data_sha256": "2" * 64})
    source = embedded().model_copy(update={"measured": measured})
    scores = next(tool.check_embedded("p", "llve_p", source, given()))
    assert scores.state == "passed"
    assert f"the set made here {words} the same bytes as on record" in scores.detail


def test_paper_without_bundled_weights_or_embedded_set(tool, given, runs):
    runs(losses=(2, 1))
    bare = embedded(test=None, measured=None, tolerance={})
    assert states(tool.check_embedded("p", "llve_p", bare, given())) == [
        ("embedded", "not run"),
        ("training", "passed"),
    ]
    found = list(tool.check_embedded("p", "llve_p", None, given()))
    assert states(found) == [("embedded", "not run"), ("training", "not run")]
    assert all("no embedded set" in check.detail for check in found)


def test_paper_without_a_record_fails_and_the_others_go_on(tool, given, monkeypatch, tmp_path):
    class Entry:
        module = "llve_common.paper.contract"

    monkeypatch.setattr(tool, "check_reference", lambda paper, given: [])
    claims = {}
    checks = list(tool.check_all({"sixth": Entry}, given(), claims))
    assert [(c.part, c.state) for c in checks] == [("record", "failed")]
    assert "without a paper.toml" in checks[0].detail
    tool.write_ledger(tool.Ledger(checks, claims), tmp_path)
    assert "without a paper.toml" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_paper_from_elsewhere_has_no_tests_here(tool, given):
    [check] = tool.check_reference("sixth", given())
    assert (check.state, check.detail.split(" is ")[0]) == ("not run", "packages/sixth/tests")


@pytest.mark.parametrize(
    "command", ["rm -rf $OUT", "sci test", "python -c 1", "python -m http.server"]
)
def test_only_the_papers_own_commands_are_run(tool, command):
    with pytest.raises(UserError, match="not a command of this paper"):
        tool.run(command.split(), "p", "llve_p")


CLAIMS = """
[paper]
title = "Five"
authors = "Nobody"
venue = "nowhere"

[[claim]]
name = "table"
source = "Table 1"
data = "somewhere"
metrics = {{ psnr = "not at hand" }}
status = "not at hand"

[[claim]]
name = "lol"
source = "Table 2"
data = "LOL v1 eval15"
metrics = {{ psnr = 99 }}
tolerance = {{ psnr = 0 }}
status = "reproduced"
command = "five test --data_path $DATA/low data.high=$DATA/high --save_path $OUT"

[claim.measured]
metrics = {{ psnr = 99 }}
command = "made up"
date = 2026-01-31
versions = {{}}
hardware = "none"
data_sha256 = "{data}"

[embedded]
make = "python -m llve_common synthetic $DATA --clips 1 --frames 1 --height 24 --width 32"
train = "five train --data_path $DATA/train/low data.high=$DATA/train/high train.iterations=6 \
run.log_every=1 run.tensorboard=false --save $OUT"
loss = "finite"
test = "five test --data_path $DATA/test/low data.high=$DATA/test/high --save_path $OUT"
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
def started(tmp_path, image_file):
    """Starts the tool where the test paper is installed as from a wheel."""
    for folder in ("low", "high"):
        image_file(f"LOL/{folder}/1.png", 24, 32, seed=len(folder))
    site = tmp_path / "site"
    shutil.copytree(FIVE, site / "llve_five")
    weights = file_digest(FIVE / "bundled" / "five-random.safetensors")
    text = CLAIMS.format(weights=weights, data=data_digest(tmp_path / "LOL"))
    (site / "llve_five" / "paper.toml").write_text(text)
    info = site / "llve_five-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llve-five\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[llve.papers]\nfive = llve_five.paper:PAPER\n")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "LLVE_SHARED": str(tmp_path / "none")}

    def start(*options):
        return subprocess.Popen(
            [sys.executable, ROOT / "tools" / "reproduce.py", "--out", tmp_path / "out",
             "--paper", "five", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            # A shell's background job, as this may run in, ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            cwd=tmp_path,
        )  # fmt: skip

    return start


@pytest.fixture
def reproduce(started):
    """Runs the tool to its end."""

    def run(*options):
        process = started(*options)
        out, error = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    return run


def test_quick_run(reproduce, tmp_path):
    (tmp_path / "out" / "work" / "five-training").mkdir(parents=True)  # by a run that was killed
    done = reproduce("--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert [(c["part"], c["state"]) for c in ledger["checks"]] == [
        ("claims", "not run"),
        ("claims", "not run"),
        ("embedded", "passed"),
        ("training", "passed"),
        ("reference", "not run"),
    ]
    assert "left out by --quick" in ledger["checks"][1]["detail"]
    assert ledger["good"] is True
    assert "not run  five claims: lol: left out by --quick\n" in done.stdout
    assert f"The ledger is at {tmp_path / 'out' / 'index.html'}" in done.stdout
    assert (tmp_path / "out" / "index.html").is_file()
    assert "○ 3 not run" in (tmp_path / "out" / "ledger.md").read_text(encoding="utf-8")
    block = (tmp_path / "out" / "measured.toml").read_text(encoding="utf-8")
    record = (tmp_path / "site" / "llve_five" / "paper.toml").read_text(encoding="utf-8")
    (tmp_path / "paper.toml").write_text(record.partition("[embedded.measured]")[0] + block)
    taken_over = read_claims(tmp_path / "paper.toml").embedded.measured
    assert taken_over.metrics == ledger["checks"][2]["found"]


@pytest.mark.slow
def test_run_with_images_that_give_another_figure(reproduce, tmp_path):
    done = reproduce("--data", tmp_path / "LOL")
    assert done.returncode == 1, done.stdout + done.stderr
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert [c["state"] for c in ledger["checks"][:2]] == ["not run", "differs"]
    assert ledger["checks"][1]["found"]["psnr"] < 99


def test_folder_that_holds_other_things(reproduce, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    done = reproduce("--quick")
    assert done.returncode != 0
    assert "holds something other than a ledger" in done.stderr
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


@pytest.fixture
def earlier(tmp_path):
    """The folder of an earlier ledger."""
    (tmp_path / "out" / "work").mkdir(parents=True)
    (tmp_path / "out" / "ledger.json").write_text("of before")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_run_that_is_stopped_leaves_the_earlier_ledger(started, earlier, name):
    process = started("--quick")
    assert any(line.startswith("$ ") for line in process.stdout)
    process.send_signal(signal.Signals[name])
    _, error = process.communicate()
    assert process.returncode == 130
    assert error.strip() == f"stopped: nothing was written; what {earlier} held before is as it was"
    assert [file.name for file in earlier.iterdir()] == ["ledger.json"]
    assert (earlier / "ledger.json").read_text() == "of before"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--paper", "gone"), "no such paper is installed"),
        (("--data", "."), "not the images of LOL v1 eval15"),
        (("--weights", "gone"), "--weights gone: no such folder"),
    ],
)
def test_mistake_leaves_the_earlier_ledger(reproduce, earlier, options, message):
    done = reproduce("--quick", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (earlier / "ledger.json").read_text() == "of before"


def test_mistake_makes_no_folder(reproduce, tmp_path):
    assert reproduce("--paper", "gone").returncode == 1
    assert not (tmp_path / "out").exists()
