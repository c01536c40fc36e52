"""A page of everything that pages show."""

import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

from llve_common.report.page import Group, Panel, Section, Strips, scatter, write_page
from llve_common.report.tables import plain_table

EVIL = '<script>alert(1)</script> & "quotes" onload=x'


@pytest.fixture
def page(tmp_path, picture):
    """Writes a page with one of everything, with the text given everywhere."""

    def make(text="words"):
        panels = [Panel(text, [picture(seed=seed)], text, [text]) for seed in (1, 2)]
        section = Section(
            heading=text,
            text=text,
            commands=[f"sci enhance {text}"],
            tables=[plain_table(text, (text, "b"), [(text, 1)])],
            plots=[scatter(text, {text: (10, 20.0)}, text, text, (text, 7.0))],
            notes=[text],
            groups=[Group(text, panels, [text])],
            strips=[Strips(text, panels)],
        )
        write_page(tmp_path / "page.html", text, text, [section])
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return make


def test_page_needs_nothing_beside_it(page, read, tmp_path):
    text = page()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert [link for link in read(text).links if not link.startswith(("data:", "#"))] == []
    assert not {"link", "iframe", "object", "embed", "base"} & set(read(text).tags)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", text))
    assert "@import" not in text
    assert "file:" not in text


def test_pictures_are_in_the_page_once(page, read, picture):
    found = read(page())
    assert len(found.pictures) == 4  # two panels and two strips
    shown = found.groups[0]["panels"][0]["pictures"][0]
    decoded = PIL.Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2])))
    difference = np.asarray(decoded).astype(float) - picture(seed=1)
    assert decoded.size == (10, 8)
    assert abs(difference).mean() < 60  # WebP of random pixels


def test_words_commands_and_cells_are_shown(page, read):
    shown = read(page("grün")).text
    assert "$ sci enhance grün" in shown
    assert shown.count("grün") >= 12


def test_text_is_escaped_everywhere(page, read):
    plain, evil = read(page("words")), read(page(EVIL))
    assert [evil.tags.count(tag) for tag in ("script", "img")] == [2, 6]
    assert set(evil.attributes) == set(plain.attributes)
    assert "".join(evil.words).count("<script>alert(1)</script>") >= 12


def test_page_over_an_old_one(page, read):
    page("old")
    assert "old" not in read(page("new")).words


def test_a_plot_is_the_same_bytes_every_time_and_shows_what_is_given():
    def draw(**changes):
        given = {"points": {"a": (10, 20.0), "b": (300, 25.0)}, "level": ("base", 7.0), **changes}
        return scatter("t", x="ms", y="dB", **given)

    assert draw() == draw()
    assert draw().startswith("<svg")
    assert "dc:date" not in draw()
    assert draw() != draw(points={"a": (10, 20.0), "b": (300, 26.0)})
    assert draw() != draw(level=None)
