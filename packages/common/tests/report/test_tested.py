"""The page that a test writes."""

import re

import numpy as np
import pytest

from llve_common.evaluate.test import FrameScore, Scores
from llve_common.io.images import write_image
from llve_common.paper.contract import Clip
from llve_common.report.tables import plain_table
from llve_common.report.tested import write_test_page

FACTS = {"command": "sci test <here>", "weights": "medium.pt", "ssim": "skimage7"}


@pytest.fixture
def page(tmp_path, image_file):
    """Writes the page of clips, whose enhanced frames have the size given, and reads it."""

    def write(lengths, *, truth=True, size=(12, 14), tested=lambda n: True):
        clips = []
        for name, length in lengths.items():
            low = [image_file(f"{name}/low/{n}.png", 12, 14, seed=n) for n in range(length)]
            high = [image_file(f"{name}/high/{n}.png", 12, 14, seed=9 + n) for n in range(length)]
            for n in range(length):
                write_image(tmp_path / "out" / name / f"{n}.png", np.zeros((*size, 3), np.uint8))
            clips.append(Clip(name, tuple(low), tuple(high) if truth else None))
        scores = Scores(
            tuple(
                FrameScore(clip.name, file.name, {}, 0.1)
                for clip in clips
                for n, file in enumerate(clip.frames)
                if tested(n)
            )
        )
        path = tmp_path / "index.html"
        table = plain_table("scores", ("", "PSNR"), [("a", 12.5)])
        saved = tmp_path / "out"
        write_test_page(
            path, "SCI, tested", FACTS, [table], scores, clips, lambda c, f: saved / c.name / f.name
        )
        return path.read_text(encoding="utf-8")

    return write


def shown(page):
    return re.findall(r"\w+, \d\.png", page)


def test_it_says_what_was_run_and_scored(page):
    text = page({"a": 1})
    for word in ("sci test &lt;here&gt;", "12.5", "medium.pt", "skimage7", "ground truth"):
        assert word in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_of_a_single_clip_some_tested_frames_are_shown(page):
    assert shown(page({"a": 9})) == ["a, 1.png", "a, 3.png", "a, 5.png", "a, 7.png"]
    assert shown(page({"b": 6}, tested=lambda n: n in (2, 3))) == ["b, 2.png", "b, 3.png"]


def test_of_several_clips_the_middle_frames_are_shown(page):
    assert shown(page({"a": 3, "b": 5})) == ["a, 1.png", "b, 2.png"]
    assert len(shown(page(dict.fromkeys("cdefgh", 1)))) == 4


def test_cropped_results_and_no_ground_truth(page):
    text = page({"a": 1}, truth=False, size=(8, 8))
    assert "ground truth" not in text
    assert "enhanced" in text
