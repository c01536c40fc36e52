import csv
import json
import math
import re
import shlex
import sys
from fractions import Fraction
from functools import partial
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.errors import ConfigError, DataError
from llve_common.evaluate import meter
from llve_common.evaluate.compare import compare, find_contenders, find_items
from llve_common.evaluate.meter import Item
from llve_common.flow.raft import Raft, raft_frame_flow
from llve_common.io.images import read_image, write_image
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.metrics.cost import parameter_count
from llve_common.metrics.temporal import NamedFlow, WarpingError
from llve_common.paper.contract import Window
from llve_common.weights.files import write_weights
from llve_common.weights.pretrained import load_raft

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "tests" / "papers"))

CPU = torch.device("cpu")
FIVE = EntryPoint("five", "llve_five.paper:PAPER", "llve.papers")


def flat(value, height=40, width=48):
    return np.full((height, width, 3), value, np.uint8)


def entry_of(paper):
    return SimpleNamespace(name=paper.name, load=lambda: paper)


@pytest.fixture
def weights(tmp_path):
    """A file that fits the tiny network."""
    state = {"conv.weight": torch.zeros(3, 3, 1, 1), "conv.bias": torch.zeros(3)}
    write_weights(tmp_path / "tiny.safetensors", state)
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def entries(monkeypatch, paper):
    """Says which papers are installed: five, and tiny with the parts given."""

    def install(**changes):
        found = [FIVE, entry_of(paper(**changes))]
        monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: found)
        return {entry.name: entry for entry in found}

    return install


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "dark.mp4"
    with VideoWriter(
        path, VideoInfo(path, 48, 40, Fraction(25), Fraction(1, 12800)), width=48, height=40
    ) as writer:
        for number in range(8):
            writer.write(flat(10 + 12 * (number % 3)), Fraction(number, 25))
    return path


@pytest.fixture
def pairs(tmp_path):
    """Two images with ground truth; the errors of the input are 10 and 20 of 255."""
    for name, low, high in (("a", 20, 30), ("b", 20, 40)):
        write_image(tmp_path / "low" / f"{name}.png", flat(low))
        write_image(tmp_path / "high" / f"{name}.png", flat(high))
    return tmp_path / "low", tmp_path / "high"


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def rows_in(folder):
    facts = json.loads((folder / "comparison.json").read_text())
    return {row["name"]: row for row in facts["rows"]}


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.said = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        names = {"src", "href", "xlink:href", "srcset", "data", "poster"}
        self.links += [value for name, value in attrs if name in names]

    def handle_data(self, data):
        self.said.append(data)


def test_two_papers_over_an_image(entries, weights, image_file, tmp_path):
    entries()
    image = image_file("dark.png", 40, 48)
    result = run(image, "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path / "out")
    assert list(rows) == ["input", "five", "tiny"]
    assert all(row["psnr"] is None and row["mabd"] is None for row in rows.values())
    assert rows["tiny"]["parameters"] == 12
    assert rows["tiny"]["weights_bundled"] is False
    assert rows["five"]["seconds"] > 0
    assert rows["five"]["multiply_accumulates"] > 0
    assert "A dash under warping error and MABD" in result.output
    assert "A dash under PSNR" in result.output


def test_page_needs_nothing_beside_it_and_names_every_picture_s_weights(
    entries, weights, image_file, tmp_path
):
    entries()
    image = image_file("dark.png", 40, 48)
    run(image, "--reference", image, "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert all(link.startswith(("data:", "#")) for link in read.links)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", text))
    assert not {"link", "script", "iframe", "object", "embed", "base"} & set(read.tags)
    said = " ".join(read.said)
    assert f"tiny: {weights} (sha256" in said
    assert "five: five-random.safetensors, bundled" in said
    # Two papers and the ground truth, and the input beneath each.
    assert read.tags.count("img") == 6
    assert len([link for link in read.links if link.startswith("data:image/webp")]) == 4


def test_a_folder_with_ground_truth_is_scored_and_averaged(entries, weights, pairs, tmp_path):
    entries()
    low, high = pairs
    given = ("--reference", high, "--papers", "tiny", "--weights", f"tiny={weights}")
    result = run(low, *given, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path / "out")
    by_hand = {"a.png": 20 * math.log10(25.5), "b.png": 20 * math.log10(12.75)}
    for name in ("input", "tiny"):  # tiny gives its input back
        assert {item: each["psnr"] for item, each in rows[name]["items"].items()} == pytest.approx(
            by_hand
        )
        assert rows[name]["psnr"] == pytest.approx(sum(by_hand.values()) / 2)
        assert rows[name]["ssim_skimage7"] < 1
    with (tmp_path / "out" / "comparison.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in written] == [rows[row["name"]]["psnr"] for row in written]
    assert (
        f"| tiny | {rows['tiny']['psnr']:.3f} |" in (tmp_path / "out" / "comparison.md").read_text()
    )


def test_a_video_is_measured_over_time_frame_by_its_own_frame(entries, weights, video, paper):
    # Five frames in, the middle one out as it is: figures differ if frames are mixed up.
    window = Window(inputs=(-2, -1, 0, 1, 2), outputs=(0,))
    entries = entries(window=window, enhance=lambda network, frames: frames[:, 2:3])
    contenders = find_contenders({"tiny": entries["tiny"]}, {"tiny": [weights]})
    seen = []
    found = compare(
        contenders,
        [Item("dark.mp4", video, video)],
        CPU,
        watch=lambda done, total, note: seen.append((done, total, note)),
    )
    untouched, tiny = found.rows
    assert tiny.failure is None
    assert found.frames == {"dark.mp4": 8}
    assert tiny.figures == untouched.figures
    assert tiny.mean("psnr") == math.inf
    assert tiny.mean("mabd") == pytest.approx(12 * (5 + 2 * 2) / 7 / 255, rel=0.1)
    assert tiny.mean("mabd_mse") == 0
    assert untouched.views["dark.mp4"].strip.shape == (8, 48, 3)
    np.testing.assert_array_equal(
        tiny.views["dark.mp4"].picture, untouched.views["dark.mp4"].picture
    )
    assert seen[7] == (8, None, "input")
    assert seen[-1] == (16, 16, "tiny")


def test_the_page_of_a_video_has_strips_and_plots_steadiness(entries, weights, video, tmp_path):
    entries()
    result = run(video, "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert text.count('class="strip"') == 3
    assert text.count("<svg") == 2
    assert "8 frames" in text


def test_images_of_a_folder_are_frames_only_where_it_is_said(entries, weights, pairs, tmp_path):
    entries()
    given = (pairs[0], "--reference", pairs[1], "--weights", f"tiny={weights}")
    run(*given, "-o", tmp_path / "images")
    run(*given, "--clip", "-o", tmp_path / "clip")
    assert rows_in(tmp_path / "images")["input"]["mabd_mse"] is None
    assert "mean of" not in (tmp_path / "images" / "index.html").read_text()
    assert "mean of 2 frames" in (tmp_path / "clip" / "index.html").read_text()
    # The input rests, the ground truth brightens by 10.
    assert rows_in(tmp_path / "clip")["input"]["mabd"] == 0
    assert rows_in(tmp_path / "clip")["input"]["mabd_mse"] == pytest.approx((10 / 255) ** 2)


def test_multiply_accumulates_and_parameters_by_hand(entries, weights, pairs):
    entries = entries(enhance=lambda network, frames: network(frames[:, 0])[:, None])
    contenders = find_contenders({"tiny": entries["tiny"]}, {"tiny": [weights]})
    row = compare(contenders, find_items(pairs[0], None, clips=False), CPU).rows[1]
    assert row.cost.macs == 9 * 40 * 48
    assert row.cost.parameters == parameter_count(torch.nn.Conv2d(3, 3, 1))


def test_a_paper_without_weights_is_a_row_that_says_so(entries, pairs, tmp_path):
    entries()
    result = run(*pairs[:1], "-o", tmp_path / "out")
    assert result.exit_code == 1
    rows = rows_in(tmp_path / "out")
    assert rows["five"]["failure"] is None
    assert "--weights tiny=FILE" in rows["tiny"]["failure"]
    assert rows["tiny"]["parameters"] is None
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no weights come with this package, and random ones are never shown" in page
    assert "compare" in page
    assert "--papers tiny -o" not in page


@pytest.mark.parametrize("broken", ["weights", "network", "import", "entry", "number"])
def test_a_failing_paper_is_a_row_with_its_reason(
    entries, weights, pairs, tmp_path, monkeypatch, broken, paper
):
    def fail(network, frames):
        raise RuntimeError("not enough memory")

    found = entries(
        **{"enhance": fail} if broken == "network" else {},
        **{"enhance": lambda network, frames: frames / 0 - frames / 0}
        if broken == "number"
        else {},
    )
    if broken == "weights":
        weights.write_bytes(b"no weights")
    if broken == "import":
        found["tiny"] = EntryPoint("tiny", "llve_no_such_package:PAPER", "llve.papers")
    if broken == "entry":
        found["tiny"] = SimpleNamespace(name="tiny", load=lambda: paper(name="other"))
    monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: found.values())
    result = run(pairs[0], "--weights", f"tiny={weights}", "-o", tmp_path / "out")
    assert result.exit_code == 1, result.output
    said = {
        "weights": "tiny.safetensors",
        "network": "RuntimeError: not enough memory",
        "import": "cannot be imported",
        "entry": "not the paper",
        "number": "not a number",
    }
    rows = rows_in(tmp_path / "out")
    assert said[broken] in rows["tiny"]["failure"]
    assert rows["five"]["failure"] is None
    assert "tiny" in result.stderr


def test_an_item_that_cannot_be_read_is_left_out_for_all(entries, weights, pairs, tmp_path):
    entries()
    (pairs[0] / "c.png").write_bytes(b"no image")
    write_image(pairs[1] / "c.png", flat(1))
    write_image(pairs[0] / "d.png", flat(1))
    write_image(pairs[1] / "d.png", flat(1, width=20))
    given = ("--reference", pairs[1], "--weights", f"tiny={weights}")
    result = run(pairs[0], *given, "-o", tmp_path / "out")
    assert result.exit_code == 1
    facts = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(facts["frames"]) == ["a.png", "b.png"]
    assert list(facts["left_out"]) == ["c.png", "d.png"]
    assert all(list(row["items"]) == ["a.png", "b.png"] for row in facts["rows"])
    assert "Left out: c.png" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("name", "count", "said"), [("short", 1, "ends before"), ("long", 3, "more frames")]
)
def test_ground_truth_of_another_length_leaves_the_clip_out(pairs, tmp_path, name, count, said):
    for number in range(count):
        write_image(tmp_path / name / f"{number}.png", flat(1))
    with pytest.raises(DataError, match=said):
        compare([], find_items(pairs[0], tmp_path / name, clips=True), CPU)


def test_several_weights_of_a_paper_are_a_row_each(entries, weights):
    found = entries()
    other = weights.with_name("other.safetensors")
    names = [one.name for one in find_contenders(found, {"tiny": [weights, other]})]
    assert names == ["five", "tiny-tiny", "tiny-other"]
    with pytest.raises(ConfigError, match="two weights files of one name"):
        find_contenders(found, {"tiny": [weights, weights]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--papers", "tyni"], "expected: five, tiny"),
        (["--weights", "tiny"], "expected: NAME=FILE"),
        (["--papers", "five", "--weights", "tiny=x"], "does not take part"),
        (["--reference", "nowhere"], "nowhere"),
    ],
)
def test_bad_requests(entries, pairs, tmp_path, words, said):
    entries()
    result = run(pairs[0], *words, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_commands_of_a_row_make_it_again(entries, weights, pairs, tmp_path):
    entries()
    given = ("--reference", pairs[1], "--clip", "--weights", f"tiny={weights}")
    run(pairs[0], *given, "-o", tmp_path / "out")
    first = rows_in(tmp_path / "out")
    again, enhance = (shlex.split(command) for command in first["tiny"]["commands"])
    assert again[:3] == ["python", "-m", "llve_common"]
    assert CliRunner().invoke(app, again[3:]).exit_code == 0
    alone = rows_in(tmp_path / "out" / "tiny")
    assert list(alone) == ["input", "tiny"]
    assert alone["tiny"]["items"] == first["tiny"]["items"]
    assert enhance[:3] == ["tiny", "enhance", str(pairs[0])]


def test_what_is_kept_does_not_grow_with_the_clip(pairs, monkeypatch, tmp_path):
    for number in range(7):
        write_image(tmp_path / "clip" / f"{number}.png", flat(number, height=20, width=100))
    monkeypatch.setattr(meter, "STRIP_FRAMES", 4)
    monkeypatch.setattr(meter, "LONGEST_SIDE", 50)
    found = compare([], find_items(tmp_path / "clip", None, clips=True), CPU)
    view = found.rows[0].views["clip"]
    assert view.strip[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert view.picture.shape == (10, 50, 3)
    assert view.frame == "3.png"
    assert view.picture[0, 0, 0] == 3


def test_sixteen_bits_are_scored_as_eight(tmp_path):
    deep = np.full((16, 16, 3), 20 * 257, np.uint16)
    write_image(tmp_path / "deep.png", deep)
    write_image(tmp_path / "eight.png", flat(20, 16, 16))
    items = find_items(tmp_path / "deep.png", tmp_path / "eight.png", clips=False)
    assert compare([], items, CPU).rows[0].mean("psnr") == math.inf


def test_items_shown_are_spread_evenly(tmp_path):
    for number in range(20):
        write_image(tmp_path / "many" / f"{number:02}.png", flat(number, 12, 12))
    shown = compare([], find_items(tmp_path / "many", None, clips=False), CPU).rows[0].views
    assert [name[:2] for name in shown] == ["01", "05", "08", "11", "15", "18"]


@pytest.fixture
def clip(image_file):
    """Three frames of noise."""
    return [image_file(f"clip/{number}.png", 40, 48, seed=number) for number in range(3)]


@pytest.fixture
def raft(tmp_path):
    """A RAFT file that no training has seen."""
    torch.manual_seed(0)
    write_weights(tmp_path / "raft-tiny.pth", Raft(small=True).state_dict())
    return tmp_path / "raft-tiny.pth"


def test_warping_error_is_along_the_flow_of_raft_with_its_weights(
    entries, weights, clip, raft, tmp_path
):
    entries()
    given = (clip[0].parent, "--clip", "--papers", "tiny", "--weights", f"tiny={weights}")
    outputs = {
        name: " ".join(run(*given, *more, "-o", tmp_path / name).stdout.split())
        for name, more in (("dis", ()), ("raft", ("--raft", raft)))
    }
    estimate = partial(raft_frame_flow, load_raft(raft, statistics="running"))
    errors = {"dis": WarpingError(), "raft": WarpingError(estimate)}
    for frame in (read_image(path).pixels for path in clip):
        for error in errors.values():
            error.update(frame, frame)
    expected = {name: error.compute() for name, error in errors.items()}
    assert expected["dis"] != pytest.approx(expected["raft"], rel=0.01)
    for name, said in (("dis", "DIS"), ("raft", "RAFT, raft-tiny.pth, sha256 ")):
        for row in rows_in(tmp_path / name).values():
            assert row["warping_error"] == pytest.approx(expected[name])
            assert row["warping_error_flow"].startswith(said)
        for file in ("index.html", "comparison.md"):
            text = (tmp_path / name / file).read_text()
            assert f"warping error by {said}" in text
            assert f"optical flow ({said}" in text
        assert f",{said}" in (tmp_path / name / "comparison.csv").read_text().replace('"', "")
        assert f"warping error by {said[:4]}" in outputs[name]
    again = shlex.split(rows_in(tmp_path / "raft")["tiny"]["commands"][0])
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
def test_bad_weights_of_raft_are_refused_before_any_work(
    entries, weights, clip, raft, tmp_path, fault, said
):
    entries()
    if fault == "missing":
        raft.unlink()
    elif fault == "cut":
        raft.write_bytes(raft.read_bytes()[:5000])
    else:
        state = Raft(small=True).state_dict() | {"fnet.conv2.bias": torch.full((128,), math.nan)}
        write_weights(raft, state if fault == "not finite" else {"net": torch.zeros(1)})
    result = run(clip[0].parent, "--clip", "--raft", raft, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1
    assert said in result.stderr
    assert "raft-tiny.pth" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_item_too_large_for_the_flow_is_left_out(image_file, clip):
    for number in range(2):
        image_file(f"large/{number}.png", 60, 48, seed=number)

    def estimate(first, second):
        if first.shape[0] > 50:
            raise RuntimeError("not enough memory")
        return np.zeros((*first.shape[:2], 2), np.float32)

    items = [Item(name, clip[0].parent.with_name(name)) for name in ("clip", "large")]
    found = compare([], items, CPU, flow=NamedFlow("still", estimate))
    assert list(found.frames) == ["clip"]
    assert "RuntimeError: not enough memory" in found.left_out["large"]
