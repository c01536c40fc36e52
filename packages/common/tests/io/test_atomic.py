import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llve_common.errors import MediaError
from llve_common.io.atomic import (
    open_temporary,
    remove_leftovers,
    remove_temporaries,
    replacing,
    write_text,
)

WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from llve_common.io.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    print(temporary.name, flush=True)
    time.sleep(600)
"""
FOLDER_FOR_EVER = """
import time
from llve_common.io.atomic import temporary_folder
with temporary_folder() as folder:
    (folder / "a" / "b").mkdir(parents=True)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_text_is_written_into_folders_that_were_missing_and_lasts(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(Path(file.name).read_bytes()))
    write_text(tmp_path / "a" / "b" / "c.txt", "grün\n")
    assert [(tmp_path / "a" / "b" / "c.txt").read_bytes()] == synced == ["grün\n".encode()]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def fail():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_old_file_stands_until_the_block_ends(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        assert temporary.name.startswith(".")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask_is_respected_and_left_alone(tmp_path, umask, mask, mode):
    umask(mask)
    write_text(tmp_path / "a.txt", "")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert umask(mask) == mask


def test_full_disk_is_one_message_and_keeps_the_old_file(tmp_path, full_disk):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(MediaError, match=r"a\.txt: cannot be written\n  got: File too large"):
        write_text(tmp_path / "a.txt", "x" * 50_000)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_folder_that_is_a_file_and_target_that_is_a_folder_are_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MediaError, match=r"folder: cannot be written\n  got: Is a directory"):
        write_text(tmp_path / "folder", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_next_process_removes_what_a_killed_one_left_and_nothing_else(tmp_path):
    """Not what a live one still writes, nor a stranger's hidden file."""

    def writes(name):
        command = [sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path / name)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with writes("a.png") as killed:
        half = killed.stdout.readline().strip()
        killed.send_signal(signal.SIGKILL)
    strangers = [".llve-notes.txt", ".llve-0123456789abcdef.d.png", ".a-0123abcd.png"]
    for name in strangers:
        (tmp_path / name).touch()
    assert (tmp_path / half).is_file()
    with writes("b.png") as first, writes("c.png") as second:
        held = [each.stdout.readline().strip() for each in (first, second)]
        assert {path.name for path in tmp_path.iterdir()} == {*strangers, *held}
        first.kill()
        second.kill()


def test_the_next_process_removes_a_killed_one_s_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def started():
        process = subprocess.Popen(
            [sys.executable, "-c", FOLDER_FOR_EVER], stdout=subprocess.PIPE, text=True
        )
        return process, Path(process.stdout.readline().strip())

    killed, left = started()
    with killed:
        killed.kill()
    assert left.parent == tmp_path
    assert (left / "a" / "b").is_dir()
    (tmp_path / ".llve-0123456789abcdef").mkdir()
    other, held = started()
    with other:
        strange = tmp_path / ".llve-0123456789abcdef"
        assert set(tmp_path.iterdir()) == {strange, held, held.with_suffix(".folder")}
        other.kill()


def test_another_machine_s_file_is_spared_for_an_hour(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: "another")
        with open_temporary(tmp_path / "a.txt") as file:  # whose lock ends with it
            left = Path(file.name)
    remove_leftovers(tmp_path)
    assert left.exists()
    os.utime(left, (0, 0))
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_another_machine_s_folder_is_spared_while_something_in_it_is_new(tmp_path):
    file, inside = (tmp_path / f".llve-{'0' * 16}{end}" for end in (".folder", "/pair1/0.npy"))
    inside.parent.mkdir(parents=True)
    for each in (inside, file):
        each.touch()
    for each in (inside.parents[1], inside.parent, file):
        os.utime(each, (0, 0))
    remove_leftovers(tmp_path)
    assert inside.exists()
    os.utime(inside, (0, 0))
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked off here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_that_ends_leaves_its_parents_files(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        child = os.fork()
        if child == 0:
            remove_temporaries()
            os._exit(0)
        os.waitpid(child, 0)
        assert temporary.exists()
        remove_temporaries()
        assert not temporary.exists()
        temporary.write_text("whole")
