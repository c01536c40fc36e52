import logging
from pathlib import Path

import pytest

from llve_common.clips.folders import in_natural_order, list_images, match_by_name
from llve_common.clips.frames import sources_in
from llve_common.errors import DataError
from llve_common.io.atomic import write_text


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "A.JPG", "a.png", "10.png", "9.png", "sub/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder, files):
    return [file.relative_to(folder).as_posix() for file in files]


def test_images_come_sorted_as_plain_strings_and_subfolders_are_read_when_asked_for(folder):
    assert names(folder, list_images(folder)) == ["10.png", "9.png", "A.JPG", "a.png", "b.png"]
    assert names(folder, list_images(folder, recursive=True))[-1] == "sub/c.webp"


def test_what_is_left_out_is_named_in_the_log(folder, caplog, monkeypatch):
    """Other files, what is hidden, what may not be read, and links to nothing."""
    for name in ("notes.txt", ".hidden.png", ".git/b.png", "locked/a.png"):
        write_text(folder / name, "")
    (folder / "broken.png").symlink_to("nowhere.png")
    iterate = Path.iterdir

    def refusing(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterate(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with caplog.at_level(logging.WARNING):
        assert len(list_images(folder, recursive=True)) == 6
    named = ".git; .hidden.png; broken.png; locked/ (may not be read); notes.txt"
    assert f"left out, not images: {named}\n" in caplog.text
    with pytest.raises(DataError, match=r"locked: the folder may not be read\n  got: Permission"):
        list_images(folder / "locked")


def test_results_beside_images_are_left_out_of_them_and_named(folder, caplog):
    """A folder of results alone is what is meant."""
    for name in ("EXP/a/command.txt", "EXP/a/steps/a.png", "EXP/mine.png"):
        write_text(folder / name, "")
    with caplog.at_level(logging.WARNING):
        found = names(folder, list_images(folder, recursive=True))
    assert [each for each in found if "EXP" in each] == ["EXP/mine.png"]
    assert names(folder, sources_in(folder, clips=False)) == found
    assert caplog.text.count("EXP/a/ (results)") == 2
    for inside in ("EXP/a", "EXP/a/steps"):
        [found] = list_images(folder / inside, recursive=True)
        assert found.name == "a.png"
    (folder / "EXP" / "mine.png").unlink()
    assert len(list_images(folder / "EXP", recursive=True)) == 1


def test_linked_folders_are_followed_without_loops(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "d.png").touch()
    (outside / "back").symlink_to(folder)
    (folder / "linked").symlink_to(outside)
    (folder / "sub" / "again").symlink_to(folder)
    found = names(folder, list_images(folder, recursive=True))
    assert found[-2:] == ["linked/d.png", "sub/c.webp"]
    assert len(found) == 7


def test_natural_order_is_the_plain_one_of_padded_names():
    def ordered(*names):
        return [path.as_posix() for path in sorted(map(Path, names), key=in_natural_order)]

    assert ordered("10.png", "9.png", "1.png") == ["1.png", "9.png", "10.png"]
    assert ordered("a10b2", "a9b10", "a9b9") == ["a9b9", "a9b10", "a10b2"]
    padded = [
        "0001-a.png",
        "0001_2.png",
        "0001a.png",
        "0010.png",
        "A2/0001.png",
        "a-1",
        "a1",
        "a_1",
    ]
    assert ordered(*reversed(padded)) == sorted(padded)
    assert ordered("1.png", "01.png") == ordered("01.png", "1.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.touch(), "is a file, not a folder"),
        (lambda path: path.mkdir(), "the folder holds no image\n  got: an empty folder"),
        (
            lambda path: (path / "a").mkdir(parents=True),
            "the folder holds no image\n  got: the folders a",
        ),
        (lambda path: write_text(path / "a.txt", ""), "the folder holds no image\n  got: 1 other"),
    ],
)
def test_folder_without_images_is_named(tmp_path, make, message):
    make(tmp_path / "images")
    with pytest.raises(DataError) as caught:
        list_images(tmp_path / "images")
    assert str(caught.value).startswith(f"{tmp_path / 'images'}: {message}")


def test_pairs_are_of_one_stem_whatever_the_order_and_suffix():
    low, high = [Path("low/a.png"), Path("low/b.png")], [Path("high/b.jpg"), Path("high/a.png")]
    assert match_by_name(low, high) == [(low[0], high[1]), (low[1], high[0])]


def test_a_file_alone_has_its_pair_in_a_folder():
    low, high = Path("low/a.png"), Path("high")
    assert match_by_name([low], [high / "a.jpg"], (low, high)) == [(low, high / "a.jpg")]


def test_folders_are_of_one_name_whole(tmp_path):
    sides = [[tmp_path / side / f"scene.{n}" for n in (1, 2)] for side in ("low", "high")]
    for folder in (*sides[0], *sides[1]):
        folder.mkdir(parents=True)
    assert match_by_name(*sides) == list(zip(*sides, strict=True))


def test_every_unmatched_and_repeated_name_is_reported():
    low = [Path("low/a.png"), Path("low/b.png"), Path("low/b.jpg")]
    with pytest.raises(DataError, match="do not match by file name") as caught:
        match_by_name(low, [Path("high/b.png"), Path("high/c.png")])
    text = str(caught.value)
    assert "low/a.png has no ground truth" in text
    assert "high/c.png has no input" in text
    assert "low/b.png shares its stem; low/b.jpg shares its stem" in text


def test_long_lists_of_faults_are_cut():
    with pytest.raises(DataError, match="and 15 more"):
        match_by_name([Path(f"{number}.png") for number in range(25)], [])
