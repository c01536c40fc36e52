"""A table in the terminal and in Markdown."""

import io
import re

from rich.console import Console

from llve_common.report.tables import Column, Table, plain_table


def shown(table, width=200):
    console = Console(width=width, file=io.StringIO())
    console.print(table.rich())
    return console.file.getvalue()


def test_markdown():
    table = plain_table("t", ("name", "PSNR", "n"), [("a", 20.5, 1), ("b", None, 2)])
    assert table == Table("t", ("name", "PSNR", "n"), (("a", "20.5", "1"), ("b", "None", "2")))
    assert table.markdown() == (
        "| name | PSNR | n |\n| --- | ---: | ---: |\n| a | 20.5 | 1 |\n| b | None | 2 |\n"
    )


def test_bars_and_line_breaks_do_not_break_a_markdown_table():
    table = plain_table("t", ("a|b", "c"), [("x|y\nz", "1")])
    lines = table.markdown().splitlines()
    assert lines == [r"| a\|b | c |", "| --- | ---: |", r"| x\|y z | 1 |"]


def test_terminal_table_shows_square_brackets_as_they_are():
    text = shown(plain_table("set [b]", ("[red]", "n"), [("img[final].png", 1), ("[/x].png", 2)]))
    for part in ("set [b]", "[red]", "img[final].png", "[/x].png"):
        assert part in text


def test_words_begin_at_the_left():
    table = Table("t", ("a", "b"), (("x", "some words"),), words=True)
    assert "| --- | --- |" in table.markdown()
    assert {column.justify for column in table.rich().columns} == {"left"}


def test_narrow_terminal_shows_every_digit():
    table = plain_table("t", ("name", "figure"), [("a" * 30, "1234567.1234567")])
    assert "".join(re.findall(r"[0-9.]+", shown(table, 30))) == "1234567.1234567"


def test_figures_have_their_columns_form():
    column = Column("MABD", "mabd", ".2f", 1e3)
    assert [column.cell(value) for value in (0.0125, float("inf"), None)] == ["12.50", "inf", "-"]
