"""A comparison as tables, page, JSON and CSV."""

import csv
import json
from pathlib import Path

import pytest
import torch

from llve_common.evaluate.compare import Comparison, Cost, Row
from llve_common.evaluate.meter import View
from llve_common.io.images import to_webp
from llve_common.paper.contract import LoadedWeights
from llve_common.report.compared import Command, comparison_tables, dashes, write_comparison

SCORES = ("psnr", "ssim_skimage7", "ssim_gaussian11", "warping_error", "mabd", "mabd_mse")
COMMAND = Command("compare all", {"tiny": ["compare tiny", "tiny enhance"], "gone": ["gone"]})


def view(picture, frames, scores):
    names = tuple(f"{number}.png" for number in range(frames))
    strip = picture[:frames] if frames > 1 else None
    return View(names, (to_webp(picture),) * frames, (scores,) * frames, strip)


@pytest.fixture
def comparison(picture):
    """Makes a comparison of the input, a paper and one that failed, on a clip of some frames."""

    def make(frames=4, *, truth=True):
        fidelity = (20.0, 0.5, 0.25) if truth else (None, None, None)
        steady = (0.001, 0.002, 3e-6 if truth else None) if frames > 1 else (None, None, None)
        figures = {"a": dict(zip(SCORES, (*fidelity, *steady), strict=True))}
        scores = dict(zip(SCORES[:3], fidelity, strict=True)) if truth else {}
        views = {"a": view(picture(), frames, scores)}
        weights = LoadedWeights(Path("medium.pt"), "0123456789abcdef", bundled=False)
        rows = (
            Row("input", "the frames as they are", figures, views),
            Row(
                "tiny", "Tiny", figures, views, Cost(1234, 5 * 10**9, "fp32", 0.25, 2**20), weights
            ),
            Row("gone", "Gone", failure="no\nweights"),
        )
        references = {"a": view(picture(seed=1), frames, {})} if truth else {}
        left_out = {"b": "b.png: broken"}
        return Comparison(
            rows, references, {"a": frames}, left_out, (8, 10), torch.device("cpu"), "DIS"
        )

    return make


def test_tables_have_a_row_for_each_and_dashes_for_what_is_missing(comparison):
    quality, cost, weights = comparison_tables(comparison())
    assert quality.title.startswith("Quality on 1 item, frames: 4 (PSNR in dB, warping error")
    assert quality.rows[1] == ("tiny", "20.000", "0.5000", "0.2500", "1.000", "2.000", "3.000")
    assert quality.rows[2] == ("gone", *"------")
    assert cost.rows == (("tiny", "1,234", "5 G", "250.0", "1.0"), ("gone", *"----"))
    assert weights.rows[0] == ("tiny", "Tiny", "medium.pt (sha256 0123456789ab...)")
    assert weights.rows[1] == ("gone", "Gone", "failed: no; weights")
    assert dashes(comparison()) == []


def test_single_images_without_ground_truth(comparison, tmp_path, read):
    write_comparison(tmp_path, comparison(1, truth=False), COMMAND)
    found = read((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert (len(found.pictures), found.tags.count("svg")) == (2, 0)
    assert 'class="play"' not in (tmp_path / "index.html").read_text()
    assert len(dashes(comparison(1, truth=False))) == 2
    assert all(said in found.text for said in dashes(comparison(1, truth=False)))


def test_files_hold_the_same_figures(comparison, tmp_path):
    write_comparison(tmp_path, comparison(), COMMAND)
    facts = json.loads((tmp_path / "comparison.json").read_text())
    rows = {row["name"]: row for row in facts["rows"]}
    assert facts["command"] == "compare all"
    assert (facts["frames"], facts["left_out"]) == ({"a": 4}, {"b": "b.png: broken"})
    assert [rows["tiny"][name] for name in SCORES] == [20.0, 0.5, 0.25, 0.001, 0.002, 3e-6]
    assert rows["tiny"]["items"]["a"]["psnr"] == 20.0
    assert rows["tiny"]["multiply_accumulates"] == 5 * 10**9
    assert (rows["gone"]["failure"], rows["gone"]["psnr"]) == ("no\nweights", None)
    with (tmp_path / "comparison.csv").open() as file:
        written = {row["name"]: row for row in csv.DictReader(file)}
    assert float(written["tiny"]["psnr"]) == 20.0
    assert written["tiny"]["warping_error_flow"] == "DIS"
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| tiny | 20.000 |" in markdown
    assert "tiny enhance\n" in markdown
    assert "gone\n```" not in markdown  # a row that failed has no commands


def test_the_page_needs_nothing_beside_it_and_names_every_picture_s_weights(
    comparison, tmp_path, read
):
    write_comparison(tmp_path, comparison(), COMMAND)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    found = read(text)
    assert all(link.startswith(("data:", "#")) for link in found.links)
    assert not {"link", "iframe", "object", "embed", "base"} & set(found.tags)
    # Four frames of the input, of tiny and of the ground truth, and three strips.
    assert len(found.pictures) == 3 * 4 + 3
    [group] = found.groups
    scored = "PSNR 20.000\nSSIM skimage7 0.5000\nSSIM gaussian11 0.2500"
    assert group["frames"] == ["0.png", "1.png", "2.png", "3.png"]
    assert [panel["label"] for panel in group["panels"]] == ["input", "tiny", "ground truth"]
    assert group["panels"][1]["said"] == [scored] * 4
    assert text.count('class="strip"') == 3
    assert found.tags.count("svg") == 2
    for said in (
        "tiny medium.pt (sha256 0123456789ab...)", "a: 4 frames", "$ compare all",
        "Left out: b: b.png: broken", "failed: no; weights", "optical flow (DIS)",
    ):  # fmt: skip
        assert said in found.text
