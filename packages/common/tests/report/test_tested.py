"""The tables and the page of a test."""

import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

from llve_common.clips.clip import Clip
from llve_common.evaluate import meter
from llve_common.evaluate.scores import FrameScore, Scores
from llve_common.evaluate.test import Tested as Finished
from llve_common.io.images import read_image, write_image
from llve_common.metrics.temporal import NamedFlow
from llve_common.paper.contract import Detail, Pictures, Scoring
from llve_common.report import tested as report
from llve_common.report.tables import plain_table

FACTS = {"command": "sci test <here>", "weights": "medium.pt", "ssim": "skimage7"}
NAMES = tuple(
    f"{when}{name}" for name in ("psnr", "ssim", "fsim", "lpips") for when in ("input_", "")
)


def scores_of(**clips):
    return Scores(
        tuple(
            FrameScore(clip, f"{n}.png", n, dict(zip(NAMES, values, strict=False)), 0.1)
            for clip, rows in clips.items()
            for n, values in enumerate(rows)
        )
    )


def table_of(**clips):
    return report.score_table(scores_of(**clips), "SCI", ssim_definition="skimage7")


def test_single_clip_has_a_row_for_each_frame():
    table = table_of(a=[(8, 20, 0.25, 0.75), (10, 30, 0.5, 0.5)])
    assert table.title == "SCI (PSNR in dB; SSIM: skimage7)"
    assert table.columns == ("", "PSNR before", "PSNR after", "SSIM before", "SSIM after")
    assert table.rows == (
        ("0.png", "8.000", "20.000", "0.2500", "0.7500"),
        ("1.png", "10.000", "30.000", "0.5000", "0.5000"),
        ("mean of 2 frames", "9.000", "25.000", "0.3750", "0.6250"),
    )


def test_several_clips_have_a_row_each_and_both_means():
    table = table_of(a=[(10, 20, 0.5, 0.5)], b=[(20, 30, 0.5, 0.5), (30, 40, 0.5, 0.5)])
    assert [row[:3] for row in table.rows] == [
        ("a", "10.000", "20.000"),
        ("b", "25.000", "35.000"),
        ("mean of 3 frames", "20.000", "30.000"),
        ("mean of 2 clips", "17.500", "27.500"),
    ]


def test_clip_without_ground_truth_has_dashes_and_what_was_asked_for_its_columns():
    table = table_of(a=[(10, float("inf"), 0.5, 1, 0.5, 0.5, 0.25, 0)], b=[()])
    assert table.title == "SCI (PSNR in dB; SSIM: skimage7; LPIPS: AlexNet, version 0.1)"
    assert table.columns[-4:] == ("FSIM before", "FSIM after", "LPIPS before", "LPIPS after")
    cells = ("10.000", "inf", "0.5000", "1.0000", "0.5000", "0.5000", "0.2500", "0.0000")
    assert table.rows[0] == ("a", *cells)
    assert table.rows[1] == ("b", *"--------")


def test_steadiness_has_a_row_for_each_clip():
    a = {"warping_error": 0.001, "mabd": 0.004, "input_warping_error": 0.002, "input_mabd": 0.008}
    scores = Scores((FrameScore("a", "0.png", 0, {}, 0), FrameScore("b", "0.png", 0, {}, 0)),
                    {"a": a, "b": {}}, "DIS")  # fmt: skip
    table = report.steadiness_table(scores, "Tiny")
    assert table.title.endswith("lower is steadier; warping error by DIS)")
    assert table.columns[1:5] == (
        "warping error before", "warping error after", "MABD before", "MABD after",
    )  # fmt: skip
    cells = ("2.000", "1.000", "8.000", "4.000", "-", "-")
    assert table.rows == (("a", *cells), ("b", *"------"), ("mean of 2 clips", *cells))


@pytest.fixture
def tested(tmp_path, image_file, model):
    """Makes a test of clips, whose enhanced frames have the size given."""

    def make(
        lengths, *, truth=True, size=(12, 14), counts=lambda n: True, details=(), kind="image"
    ):
        clips = []
        for name, length in lengths.items():
            low = [image_file(f"{name}/low/{n}.png", 12, 14, seed=n) for n in range(length)]
            high = [image_file(f"{name}/high/{n}.png", 12, 14, seed=9 + n) for n in range(length)]
            for n in range(length):
                write_image(tmp_path / "out" / name / f"{n}.png", np.zeros((*size, 3), np.uint8))
            clips.append(Clip(name, tuple(low), tuple(high) if truth else None))
        frames = [
            FrameScore(clip.name, clip.file(n).name, n, {"psnr": n} if truth else {}, 0.1)
            for clip in clips for n in range(clip.count) if counts(n)
        ]  # fmt: skip
        pictures = Pictures(lambda clip, file: tmp_path / "out" / clip.name / file.name)
        return Finished(
            Scores(tuple(frames)), model(kind=kind), Scoring(), clips, pictures, details
        )

    return make


@pytest.fixture
def page(tmp_path, tested):
    """Writes the page of such a test, and reads it."""

    def write(*args, **options):
        table = plain_table("scores", ("", "PSNR"), [("a", 12.5)])
        report.write_test_page(tmp_path / "index.html", tested(*args, **options), FACTS, [table])
        return (tmp_path / "index.html").read_text(encoding="utf-8")

    return write


def shown(page):
    return re.findall(r"\w+, \d+\.png", page)


def test_tables_are_of_what_was_measured(tested):
    one = tested({"a": 1})
    assert [table.title for table in report.test_tables(one)] == [
        "Tiny (PSNR in dB; SSIM: skimage7)"
    ]
    assert report.test_tables(tested({"a": 1}, truth=False)) == []
    still = NamedFlow("still", None)
    measured = Finished(one.scores, one.model, Scoring(flow=still), one.clips, one.pictures)
    assert len(report.test_tables(measured)) == 2


def test_it_says_what_was_run_and_scored(page, read):
    text = page({"a": 1})
    said = ("Tiny, tested", "sci test <here>", "12.5", "medium.pt", "skimage7", "ground truth")
    assert [words for words in said if words not in read(text).text] == []


def test_of_a_single_clip_some_tested_frames_are_shown(page):
    assert shown(page({"a": 9})) == ["a, 1.png", "a, 3.png", "a, 5.png", "a, 7.png"]
    assert shown(page({"b": 6}, counts=lambda n: n in (2, 3))) == ["b, 2.png", "b, 3.png"]


def test_of_clips_the_middle_frames_are_shown(page, read, monkeypatch):
    monkeypatch.setattr(report, "FRAMES", 6)
    found = read(page({"a": 3, "b": 6}, kind="video"))
    assert [group["frames"] for group in found.groups] == [
        ["0.png", "1.png", "2.png"], ["1.png", "2.png", "3.png"],
    ]  # fmt: skip
    panels = found.groups[1]["panels"]
    assert [panel["label"] for panel in panels] == ["input", "enhanced", "ground truth"]
    assert panels[1]["said"] == ["PSNR 1.000", "PSNR 2.000", "PSNR 3.000"]
    assert len({*panels[0]["pictures"], *panels[2]["pictures"]}) == 6
    assert len(read(page(dict.fromkeys("cdefgh", 1), kind="video")).groups) == 4


def test_cropped_results_and_no_ground_truth(page, read):
    text = page({"a": 1}, truth=False, size=(8, 8))
    assert "ground truth" not in text
    assert len(read(text).pictures) == 2


def test_pictures_are_reduced_in_the_page_alone(tmp_path, page, read, monkeypatch):
    monkeypatch.setattr(meter, "LONGEST_SIDE", 5)
    shown = read(page({"a": 2}, size=(8, 10))).pictures
    files = [io.BytesIO(base64.b64decode(each.partition(",")[2])) for each in shown]
    sizes = [PIL.Image.open(file).size for file in files]
    assert sizes == [(5, 4)] * 6
    assert read_image(tmp_path / "out" / "a" / "0.png").pixels.shape == (8, 10, 3)


def test_a_video_s_frames_are_shown(tmp_path, tested, video_file):
    video = Clip("v", (video_file("v.mp4", [40, 80]),), (video_file("w.mp4", [90, 99]),))
    write_image(tmp_path / "out" / "v" / "00001.png", np.zeros((40, 48, 3), np.uint8))
    one = tested({"a": 1})
    scores = Scores((FrameScore("v", "00001.png", 1, {}, 0.1),))
    of_video = Finished(scores, one.model, one.scoring, [video], one.pictures)
    report.write_test_page(tmp_path / "index.html", of_video, FACTS, [])
    assert shown((tmp_path / "index.html").read_text()) == ["v, 00001.png"]


def test_details_with_pictures_have_a_section(page, read, picture):
    details = [Detail("parts", {"whole": picture(), "left": picture()}), Detail("only words")]
    found = read(page({"a": 1}, details=details)).text
    assert "In detail" in found
    assert "parts" in found
    assert "only words" not in found
    assert "In detail" not in read(page({"b": 1}, details=details[1:])).text
