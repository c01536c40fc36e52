import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from llve_common.evaluate.test import FrameScore, Scores
from llve_common.report.page import (
    Group,
    Panel,
    Section,
    Slider,
    Strips,
    curve,
    scatter,
    write_page,
)
from llve_common.report.tables import Table, plain_table, score_table

EVIL = '<script>alert(1)</script> & "quotes" onload=x'
LINKS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class Reader(HTMLParser):
    """Collects the elements, the text and the links of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.text, self.attributes = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in LINKS]

    def handle_data(self, data):
        self.text.append(data)


def scores_of(**clips):
    names = ("input_psnr", "psnr", "input_ssim", "ssim")
    return Scores(
        tuple(
            FrameScore(clip, f"{n}.png", dict(zip(names, values, strict=False)), 0.1)
            for clip, rows in clips.items()
            for n, values in enumerate(rows)
        )
    )


@pytest.fixture
def page(tmp_path, picture):
    """Writes a page with one of everything, with the text given everywhere."""

    def make(text="words"):
        section = Section(
            heading=text,
            text=text,
            commands=[f"sci enhance {text}"],
            sliders=[Slider(picture(), picture(seed=1), text, text, text)],
            tables=[plain_table(text, (text, "b"), [(text, 1)])],
            plots=[curve(text, {text: ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, text, text)],
        )
        write_page(tmp_path / "page.html", text, text, [section])
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return make


def test_page_needs_nothing_beside_it(page, tmp_path):
    read = Reader(page())
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert [link for link in read.links if not link.startswith(("data:", "#"))] == []
    assert not {"link", "script", "iframe", "object", "embed", "base"} & set(read.tags)
    text = page()
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", text))
    assert "@import" not in text
    assert "file:" not in text


def test_pictures_are_in_the_page(page, picture):
    read = Reader(page())
    pictures = [link for link in read.links if link.startswith("data:image/webp;base64,")]
    assert len(pictures) == read.tags.count("img") == 2
    decoded = PIL.Image.open(io.BytesIO(base64.b64decode(pictures[1].partition(",")[2])))
    difference = np.asarray(decoded).astype(float) - picture()
    assert decoded.size == (10, 8)
    assert abs(difference).mean() < 60  # WebP of random pixels


def test_words_commands_and_cells_are_shown(page):
    read = Reader(page("grün"))
    shown = " ".join(read.text)
    assert "$ sci enhance grün" in shown
    assert shown.count("grün") >= 8


def test_text_is_escaped_everywhere(page):
    plain, evil = Reader(page("words")), Reader(page(EVIL))
    assert "script" not in evil.tags
    assert evil.tags.count("img") == 2
    assert set(evil.attributes) == set(plain.attributes)
    assert "".join(evil.text).count("<script>alert(1)</script>") >= 8


def test_plot_is_the_same_bytes_every_time():
    def draw():
        return curve("loss", {"a": ([0, 1, 2], [3, 1, 2])}, "iteration", "loss")

    assert draw() == draw()
    assert draw().startswith("<svg")
    assert draw() != curve("loss", {"a": ([0, 1, 2], [3, 1, 1])}, "iteration", "loss")


def test_plot_has_no_date():
    assert "dc:date" not in curve("loss", {"a": ([0, 1], [1, 0])}, "x", "y")


def test_legend_is_drawn_for_several_series_only():
    one = curve("t", {"a": ([0, 1], [1, 0])}, "x", "y")
    two = curve("t", {"a": ([0, 1], [1, 0]), "b": ([0, 1], [1, 0])}, "x", "y")
    assert "legend" not in one
    assert "legend" in two


@pytest.fixture
def group_page(tmp_path, picture):
    """A page with two groups of pictures and strips, with the text given everywhere."""

    def make(text="words"):
        panels = [Panel(text, picture(seed=seed), text) for seed in (1, 2)]
        group = Group(text, picture(), text, panels)
        section = Section(text, groups=[group], strips=[Strips(text, panels)], notes=[text])
        write_page(tmp_path / "page.html", text, text, [section])
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return make


def test_group_holds_the_picture_beneath_its_handles_once(group_page):
    read = Reader(group_page())
    pictures = [link for link in read.links if link.startswith("data:image/webp;base64,")]
    # Beside the two panels and the one beneath them, the two strips.
    assert (read.tags.count("img"), len(pictures)) == (6, 5)
    assert "script" not in read.tags


def test_groups_and_strips_escape_text(group_page):
    plain, evil = Reader(group_page()), Reader(group_page(EVIL))
    assert evil.tags == plain.tags
    assert set(evil.attributes) == set(plain.attributes)


def test_scatter_names_its_points_and_level():
    def draw(**changes):
        given = {"points": {"a": (10, 20.0), "b": (300, 25.0)}, "level": ("base", 7.0), **changes}
        return scatter("t", x="ms", y="dB", **given)

    assert draw() == draw()
    assert draw() != draw(points={"a": (10, 20.0), "b": (300, 26.0)})
    assert draw() != draw(level=None)
    assert draw().startswith("<svg")


def test_page_over_an_old_one(page):
    page("old")
    assert "old" not in Reader(page("new")).text


def test_markdown():
    table = plain_table("t", ("name", "PSNR", "n"), [("a", 20.5, 1), ("b", None, 2)])
    assert table.markdown() == (
        "| name | PSNR | n |\n| --- | ---: | ---: |\n| a | 20.5 | 1 |\n| b | None | 2 |\n"
    )


def test_bars_and_line_breaks_do_not_break_a_markdown_table():
    table = plain_table("t", ("a|b", "c"), [("x|y\nz", "1")])
    lines = table.markdown().splitlines()
    assert lines == [r"| a\|b | c |", "| --- | ---: |", r"| x\|y z | 1 |"]


def shown(table):
    console = Console(width=200, file=io.StringIO())
    console.print(table.rich())
    return console.file.getvalue()


def test_terminal_table_shows_square_brackets_as_they_are():
    text = shown(plain_table("set [b]", ("[red]", "n"), [("img[final].png", 1), ("[/x].png", 2)]))
    for part in ("set [b]", "[red]", "img[final].png", "[/x].png"):
        assert part in text


def test_single_clip_has_a_row_for_each_frame():
    table = score_table(
        scores_of(a=[(8, 20, 0.25, 0.75), (10, 30, 0.5, 0.5)]), "SCI", ssim_definition="skimage7"
    )
    assert table.title == "SCI (PSNR in dB; SSIM: skimage7)"
    assert table.columns == ("", "PSNR before", "PSNR after", "SSIM before", "SSIM after")
    assert table.rows == (
        ("0.png", "8.000", "20.000", "0.2500", "0.7500"),
        ("1.png", "10.000", "30.000", "0.5000", "0.5000"),
        ("mean of 2 frames", "9.000", "25.000", "0.3750", "0.6250"),
    )


def test_several_clips_have_a_row_each_and_both_means():
    scores = scores_of(a=[(10, 20, 0.5, 0.5)], b=[(20, 30, 0.5, 0.5), (30, 40, 0.5, 0.5)])
    rows = score_table(scores, "SCI", ssim_definition="skimage7").rows
    assert [row[:3] for row in rows] == [
        ("a", "10.000", "20.000"),
        ("b", "25.000", "35.000"),
        ("mean of 3 frames", "20.000", "30.000"),
        ("mean of 2 clips", "17.500", "27.500"),
    ]


def test_clip_without_ground_truth_has_dashes():
    rows = score_table(scores_of(a=[(10, 20, 0.5, 0.5)], b=[()]), "SCI", ssim_definition="x").rows
    assert rows[1] == ("b", "-", "-", "-", "-")


def test_equal_images_have_an_infinite_score():
    rows = score_table(scores_of(a=[(8, float("inf"), 0.2, 1)]), "SCI", ssim_definition="x").rows
    assert rows[0][2] == "inf"


def test_words_begin_at_the_left():
    table = Table("t", ("a", "b"), (("x", "some words"),), words=True)
    assert "| --- | --- |" in table.markdown()
    assert {column.justify for column in table.rich().columns} == {"left"}


def test_narrow_terminal_shows_every_digit():
    table = plain_table("t", ("name", "figure"), [("a" * 30, "1234567.1234567")])
    console = Console(width=30, record=True, file=io.StringIO())
    console.print(table.rich())
    digits = "".join(re.findall(r"[0-9.]+", console.export_text()))
    assert digits == "1234567.1234567"


def test_table_is_a_value():
    assert plain_table("t", ["a"], [[1]]) == Table("t", ("a",), (("1",),))
