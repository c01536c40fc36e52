"""The command ``compare``, over a paper with weights of its own and one without."""

import json
import os
import re
import shlex
import shutil
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.clips.clip import read_frame
from llve_common.flow.raft import Raft, raft_frame_flow
from llve_common.io.images import write_image
from llve_common.metrics.temporal import GuideFlow, WarpingError
from llve_common.nn.lpips import Lpips
from llve_common.weights.files import write_weights
from llve_common.weights.pretrained import load_raft

SCI = EntryPoint("sci", "llve_sci.paper:PAPER", "llve.papers")


@pytest.fixture(autouse=True)
def _installed(monkeypatch, paper):
    """SCI and tiny are the papers that are there."""
    tiny = SimpleNamespace(name="tiny", load=lambda: paper())
    monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: [SCI, tiny])


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A clip of three frames of noise in SDSD's layout, below the working folder."""
    monkeypatch.chdir(tmp_path)
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


def test_a_set_and_the_commands_that_make_its_rows_again(weights, data, tmp_path):
    write_weights(tmp_path / "alexnet.pth", Lpips().state_dict())
    options = ["--quality", "--lpips", tmp_path / "alexnet.pth", "-o", tmp_path / "out"]
    result = run(data, "--weights", f"tiny={weights}", *options)
    assert result.exit_code == 0, result.output
    first = rows_in(tmp_path / "out")
    assert list(first) == ["input", "gamma", "sci", "tiny"]
    assert first["tiny"]["eme"] > 0
    assert first["tiny"]["lpips"] > 0
    assert "LPIPS: AlexNet, version 0.1" in (tmp_path / "out" / "index.html").read_text()
    assert list(first["tiny"]["items"]) == ["clip"]
    assert first["tiny"]["psnr"] == first["input"]["psnr"]  # tiny gives its input back
    again, enhance = (shlex.split(command) for command in first["tiny"]["commands"])
    assert again[:3] == ["python", "-m", "llve_common"]
    assert CliRunner().invoke(app, again[3:]).exit_code == 0
    alone = rows_in(tmp_path / "out" / "tiny")
    assert list(alone) == ["input", "gamma", "tiny"]
    assert alone["tiny"]["items"] == first["tiny"]["items"]
    assert enhance[:3] == ["tiny", "enhance", "data/input"]
    written = [file for file in (tmp_path / "out").iterdir() if file.is_file()]
    assert len(written) == 5
    # The whole of where things lie stands in one file.
    assert {file.name for file in written if str(tmp_path) in file.read_text()} == {"command.txt"}


NAMES = [
    "x[bold]y.png", ":smile:.png", "a\x1b[31m.png", "a\nb.png", "$\\frac$.png",
    "a\u202eb.png", os.fsdecode(b"\xff.png"),
]  # fmt: skip


def test_names_of_files_are_shown_and_never_obeyed(weights, data, tmp_path, monkeypatch):
    clip = data / "input" / "clip"
    for name in NAMES:
        shutil.copy(clip / "0.png", clip / name)
    (clip / "[i]\x1b[m.png").write_bytes(b"no image")
    weights = weights.rename(tmp_path / "$\\frac$[b].safetensors")
    monkeypatch.setenv("COLUMNS", "400")
    result = run(clip, "--weights", f"tiny={weights}", "--papers", "tiny", "-o", "out[/b]")
    assert result.exit_code == 1  # of the one that is no image
    page = Path("out[/b]/index.html").read_text()
    for text in (result.output, page):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    assert "$\\frac$[b]" in result.stdout
    assert "[i]\\x1b[m.png: " in result.stderr
    assert "the page is at out[/b]/index.html" in result.stdout
    left_out = Path("out[/b]/comparison.json").read_text()
    for name in ("x[bold]y.png", ":smile:.png", r"a\u001b[31m.png", r"a\nb.png", r"\udcff.png"):
        assert name in left_out, name
    assert str(tmp_path) not in page


def test_a_paper_without_weights_is_no_failure_unless_it_is_alone(data, tmp_path):
    result = run(data / "input" / "clip", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = re.sub(r"[\s│]+", " ", result.stdout)
    assert "--weights tiny=FILE: a file such as one of your own training" in said
    alone = run(data / "input" / "clip", "--papers", "tiny", "-o", tmp_path / "alone")
    assert (alone.exit_code, alone.stderr.count("error:")) == (1, 1)


def test_what_fails_is_said_and_the_rest_is_there(data, tmp_path):
    (data / "input" / "clip" / "bad.png").write_bytes(b"no image")
    result = run(data / "input" / "clip", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "bad.png" in result.stderr
    assert "--weights tiny=FILE" not in result.stderr
    rows = rows_in(tmp_path / "out")
    assert rows["sci"]["failure"] is None
    assert rows["tiny"]["parameters"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no weights come with this package, and random ones are never shown" in page
    assert "Left out: bad.png" in page
    assert "--papers tiny -o" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--papers", "tyni"], "expected: sci, tiny"),
        (["--weights", "tiny"], "expected: NAME=FILE"),
        (["--papers", "sci", "--weights", "tiny=x"], "does not take part"),
        (["--reference", "nowhere"], "nowhere: no such file or folder"),
        (["--protocol", "smid", "--clip"], "brings its own ground truth and clips\n  got: --clip"),
        (["--clip"], "nowhere: no such file or folder"),
        (["--raft", "nowhere.pth"], "nowhere.pth: the weights of RAFT are not here"),
        (["--raft", "nowhere.pth"], "without --raft it is by DIS"),
    ],
)
def test_bad_requests_are_refused_before_any_work(data, tmp_path, words, said):
    source = "nowhere" if words == ["--clip"] else data / "input"
    result = run(source, *words, "-o", tmp_path / "out")
    assert result.exit_code == result.stderr.count("error:") == 1
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_warping_error_is_along_the_flow_of_raft_with_its_weights(weights, data, tmp_path):
    torch.manual_seed(0)
    raft = tmp_path / "raft-tiny.pth"
    write_weights(raft, Raft(small=True).state_dict())
    result = run(data, "--weights", f"tiny={weights}", "--raft", raft, "-o", tmp_path / "out")
    motion = GuideFlow(partial(raft_frame_flow, load_raft(raft, statistics="running")))
    error = WarpingError()
    for number in range(3):
        low, high = (data / side / "clip" / f"{number}.png" for side in ("input", "GT"))
        error.update(read_frame(low), motion.next(read_frame(high)))
    row = rows_in(tmp_path / "out")["tiny"]
    assert row["warping_error"] == pytest.approx(error.compute())
    assert row["warping_error_flow"].startswith("RAFT, raft-tiny.pth, sha256 ")
    assert "warping error by RAFT" in " ".join(result.stdout.split())
    again = shlex.split(row["commands"][0])
    assert again[again.index("--raft") + 1] == raft.name
