"""The command ``compare``, over a paper of five frames and one of single images."""

import json
import math
import shlex
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.data.clip import read_frame
from llve_common.flow.raft import Raft, raft_frame_flow
from llve_common.io.images import write_image
from llve_common.metrics.temporal import GuideFlow, WarpingError
from llve_common.weights.files import write_weights
from llve_common.weights.pretrained import load_raft

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "tests" / "papers"))

FIVE = EntryPoint("five", "llve_five.paper:PAPER", "llve.papers")


@pytest.fixture(autouse=True)
def _installed(monkeypatch, paper):
    """Five and tiny are the papers that are there."""
    tiny = SimpleNamespace(name="tiny", load=lambda: paper())
    monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: [FIVE, tiny])


@pytest.fixture
def weights(tmp_path, paper):
    write_weights(tmp_path / "tiny.safetensors", paper().network({}, None).state_dict())
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def data(tmp_path):
    """A clip of three frames of noise in SDSD's layout."""
    rng = np.random.default_rng(0)
    for side in ("input", "GT"):
        for number in range(3):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            write_image(tmp_path / "data" / side / "clip" / f"{number}.png", pixels)
    return tmp_path / "data"


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def rows_in(folder):
    facts = json.loads((folder / "comparison.json").read_text())
    return {row["name"]: row for row in facts["rows"]}


def test_papers_over_an_image(weights, data, tmp_path):
    image = data / "input" / "clip" / "0.png"
    result = run(image, "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path / "out")
    assert list(rows) == ["input", "five", "tiny"]
    assert all(row["psnr"] is None and row["mabd"] is None for row in rows.values())
    assert rows["tiny"]["weights_bundled"] is False
    assert "A dash under warping error and MABD" in result.output
    assert "A dash under PSNR" in result.output


def test_a_set_and_the_commands_that_make_its_rows_again(weights, data, tmp_path):
    result = run(data, "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    first = rows_in(tmp_path / "out")
    assert list(first["tiny"]["items"]) == ["clip"]
    assert first["tiny"]["psnr"] == first["input"]["psnr"]  # tiny gives its input back
    again, enhance = (shlex.split(command) for command in first["tiny"]["commands"])
    assert again[:3] == ["python", "-m", "llve_common"]
    assert CliRunner().invoke(app, again[3:]).exit_code == 0
    alone = rows_in(tmp_path / "out" / "tiny")
    assert list(alone) == ["input", "tiny"]
    assert alone["tiny"]["items"] == first["tiny"]["items"]
    assert enhance[:3] == ["tiny", "enhance", str(data / "input")]


def test_what_fails_is_said_and_the_rest_is_there(data, tmp_path):
    (data / "input" / "clip" / "bad.png").write_bytes(b"no image")
    result = run(data / "input" / "clip", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "--weights tiny=FILE" in result.stderr
    assert "bad.png" in result.stderr
    rows = rows_in(tmp_path / "out")
    assert rows["five"]["failure"] is None
    assert rows["tiny"]["parameters"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no weights come with this package, and random ones are never shown" in page
    assert "Left out: bad.png" in page
    assert "--papers tiny -o" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--papers", "tyni"], "expected: five, tiny"),
        (["--weights", "tiny"], "expected: NAME=FILE"),
        (["--papers", "five", "--weights", "tiny=x"], "does not take part"),
        (["--reference", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_bad_requests(data, tmp_path, words, said):
    result = run(data / "input", *words, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def raft(tmp_path):
    """A RAFT file that no training has seen."""
    torch.manual_seed(0)
    write_weights(tmp_path / "raft-tiny.pth", Raft(small=True).state_dict())
    return tmp_path / "raft-tiny.pth"


def test_the_flow_is_named_wherever_its_error_stands(weights, data, raft, tmp_path):
    given = (data, "--papers", "tiny", "--weights", f"tiny={weights}", "-o", tmp_path)
    errors = {}
    for said, more in (("DIS", ()), ("RAFT, raft-tiny.pth, sha256 ", ("--raft", raft))):
        output = " ".join(run(*given, *more).stdout.split())
        [error] = {row["warping_error"] for row in rows_in(tmp_path).values()}
        errors[said] = error
        assert all(row["warping_error_flow"].startswith(said) for row in rows_in(tmp_path).values())
        for file in ("index.html", "comparison.md"):
            text = (tmp_path / file).read_text()
            assert f"warping error by {said}" in text
            assert f"optical flow ({said}" in text
        assert f",{said}" in (tmp_path / "comparison.csv").read_text().replace('"', "")
        assert f"warping error by {said[:4]}" in output
    motion = GuideFlow(partial(raft_frame_flow, load_raft(raft, statistics="running")))
    by_hand = WarpingError()
    for number in range(3):
        low, high = (data / side / "clip" / f"{number}.png" for side in ("input", "GT"))
        by_hand.update(read_frame(low), motion.next(read_frame(high)))
    assert errors.pop(said) == pytest.approx(by_hand.compute())
    assert errors["DIS"] != pytest.approx(by_hand.compute(), rel=0.01)
    again = shlex.split(rows_in(tmp_path)["tiny"]["commands"][0])
    assert again[again.index("--raft") + 1] == str(raft)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "without --raft it is by DIS"),
        ("cut", "raft-tiny.pth"),
        ("foreign", "do not fit the network"),
        ("not finite", "not finite numbers"),
    ],
)
def test_bad_weights_of_raft_are_refused_before_any_work(data, raft, tmp_path, fault, said):
    if fault == "missing":
        raft.unlink()
    elif fault == "cut":
        raft.write_bytes(raft.read_bytes()[:5000])
    else:
        state = Raft(small=True).state_dict() | {"fnet.conv2.bias": torch.full((128,), math.nan)}
        write_weights(raft, state if fault == "not finite" else {"net": torch.zeros(1)})
    result = run(data, "--raft", raft, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1
    assert said in result.stderr
    assert "raft-tiny.pth" in result.stderr
    assert not (tmp_path / "out").exists()
