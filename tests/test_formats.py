"""docs/formats.md says what is read and written."""

import re
from pathlib import Path

import PIL.Image
import pytest

from llve_common.io.images import (
    IMAGE_SUFFIXES,
    OF_16_BITS,
    OF_TRANSPARENCY,
    WRITTEN,
    result_suffix,
)
from llve_common.io.metadata import options_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


def rows(section):
    """The cells of each row of the table in a section."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


IMAGES = [
    (suffix, *row[2:]) for row in rows("Images") for suffix in re.findall(r"`(\.\w+)`", row[1])
]


def test_table_names_what_is_read():
    assert sorted(suffix for suffix, *_ in IMAGES) == sorted(IMAGE_SUFFIXES)


@pytest.mark.parametrize(("suffix", "result", "deep", "clear", "exif", "resolution"), IMAGES)
def test_table_says_what_is_written(suffix, result, deep, clear, exif, resolution):
    if suffix not in WRITTEN:
        assert result == f"`{result_suffix(Path('a' + suffix))}`"
        return
    tags = PIL.Image.Exif()
    tags[270] = "a"
    kind = WRITTEN[suffix]
    options = options_of(kind, {"exif": tags, "xmp": b"<x/>", "dpi": (300, 300)})
    says = {"same": True, "yes": True, "no": False}
    assert [says[cell] for cell in (result, deep, clear, exif, resolution)] == [
        result_suffix(Path("a" + suffix)) == suffix,
        kind in OF_16_BITS,
        kind in OF_TRANSPARENCY,
        "exif" in options or bool(options.get("tiffinfo")),
        "dpi" in options,
    ]
