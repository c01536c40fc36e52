"""C files compiled where they are used: the cache folder and all that can be wrong with it."""

import os
import shutil
import subprocess
import sys

import pytest

from llve_common.machine.folders import cache_folder
from llve_common.ops import compiler
from llve_common.ops.compiler import shared_library
from llve_common.ops.implementation import Unavailable

SOURCE = "int answer(void) { return ANSWER; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "answer.c"
    path.write_text(SOURCE)
    return path


def answer(source, value=42):
    return shared_library(source, f"-DANSWER={value}").answer()


def libraries():
    return sorted(cache_folder().glob("*"))


def test_compiles_once(source, monkeypatch):
    assert answer(source) == 42
    (library,) = libraries()
    before = library.stat().st_mtime_ns
    assert answer(source) == 42
    assert library.stat().st_mtime_ns == before


def test_another_definition_or_source_is_another_library(source):
    assert (answer(source, 1), answer(source, 2)) == (1, 2)
    source.write_text(SOURCE.replace("ANSWER;", "ANSWER + 1;"))
    assert answer(source, 2) == 3
    assert len(libraries()) == 3


def test_another_header_is_another_library(source, tmp_path, monkeypatch):
    source.write_text('#include "kernel.h"\nint answer(void) { return ANSWER + MORE; }\n')
    monkeypatch.setattr(compiler, "_HEADER", tmp_path / "kernel.h")
    for more in (0, 1):
        (tmp_path / "kernel.h").write_text(f"#define MORE {more}\n")
        assert answer(source) == 42 + more
    assert len(libraries()) == 2


def test_a_damaged_library_is_made_again(source, tmp_path, monkeypatch):
    assert answer(source) == 42
    (library,) = libraries()
    whole = library.read_bytes()
    for number, content in enumerate((b"", whole[:3000], b"x" + whole)):
        # Elsewhere: a process may not change a file that it has loaded.
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"another{number}"))
        damaged = cache_folder() / library.name
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(content)
        assert answer(source) == 42
        assert len(damaged.read_bytes()) == len(whole)


@pytest.mark.multiprocess
def test_processes_that_compile_at_once(source):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from llve_common.ops.compiler import shared_library\n"
        "sys.stdin.readline()\n"
        "print(shared_library(Path(sys.argv[1]), '-DANSWER=42').answer())\n"
    )
    several = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(source)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in several:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in several] == ["42\n"] * 2
    assert len(libraries()) == 1


def test_a_cache_that_cannot_be_written(source, tmp_path):
    # A file where the folder should be: that stops even root.
    (tmp_path / "cache").write_text("")
    assert answer(source) == 42


def test_a_compiler_that_knows_its_processor_by_another_option(source, monkeypatch, tmp_path):
    """As clang for ARM does."""
    stand_in = tmp_path / "bin" / "cc"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-march=native*) echo "unsupported -march=" >&2; exit 1;; esac\n'
        f'echo "$*" >> {tmp_path}/called\nexec {shutil.which("cc")} "$@"\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)
    assert answer(source) == 42
    assert all("-mcpu=native" in line for line in (tmp_path / "called").read_text().splitlines())


def mode(path):
    return oct(path.stat().st_mode & 0o777)


def test_cache_is_the_users_alone_whatever_the_umask(source, tmp_path):
    before = os.umask(0)
    try:
        assert answer(source) == 42
    finally:
        os.umask(before)
    [library] = libraries()
    folders = (tmp_path / "cache", cache_folder())
    assert [mode(each) for each in (*folders, library)] == ["0o700", "0o700", "0o600"]
    cache_folder().chmod(0o777)
    assert answer(source) == 42
    assert mode(cache_folder()) == "0o700"


PLANTED = "int answer(void) { return 666; }\n"


@pytest.fixture
def plant(source, tmp_path, monkeypatch):
    """Puts another library where the cache would have this one, with a digest that agrees."""

    def make():
        assert answer(source) == 42
        [library] = libraries()
        evil = tmp_path / "evil.c"
        evil.write_text(PLANTED)
        assert shared_library(evil).answer() == 666
        [other] = set(libraries()) - {library}
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
        cache_folder().mkdir(parents=True, mode=0o700)
        planted = cache_folder() / library.name
        shutil.copy(other, planted)
        planted.chmod(0o600)
        return planted

    return make


def test_a_library_with_a_digest_that_agrees_is_trusted(source, plant):
    plant()
    assert answer(source) == 666


@pytest.mark.parametrize("how", ["file", "folder", "link", "writable"])
def test_a_library_that_another_may_have_written_is_not_loaded(source, plant, tmp_path, how):
    planted = plant()
    if how == "writable":
        planted.chmod(0o666)
    elif how == "link":
        planted.rename(tmp_path / "elsewhere.so")
        planted.symlink_to(tmp_path / "elsewhere.so")
    elif os.geteuid() == 0:
        os.chown(planted if how == "file" else cache_folder(), 12345, 12345)
    else:
        pytest.skip("only root can give files away")
    assert answer(source) == 42


@pytest.mark.parametrize("home", [None, "relative"])
def test_no_cache_in_the_working_folder_nor_without_a_home(source, tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home") if home is None else home)
    if home is None:
        assert cache_folder() == tmp_path / "home" / ".cache" / "llve"
        monkeypatch.delenv("HOME")

        def unknown(user):
            raise KeyError(user)

        monkeypatch.setattr("pwd.getpwuid", unknown)
    assert answer(source) == 42
    assert not (tmp_path / "relative").exists()


def test_a_compiler_that_fails_or_is_not_there(source, monkeypatch, tmp_path):
    source.write_text("this is not C\n")
    with pytest.raises(Unavailable, match="error"):
        answer(source)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no program `cc`"):
        answer(source)
