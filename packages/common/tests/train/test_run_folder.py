import logging
import re

import pytest

from llve_common.errors import MediaError
from llve_common.train.run_folder import fresh_folder, log_file, named_folder


def test_folder_is_named_by_the_procedure_and_the_time(tmp_path):
    folder = fresh_folder(tmp_path / "a" / "b", "Train")
    assert folder.is_dir()
    assert folder.parent == tmp_path / "a" / "b"
    assert re.fullmatch(r"Train-\d{8}-\d{6}", folder.name)


def test_no_folder_is_given_twice(tmp_path):
    folders = [fresh_folder(tmp_path, "Train") for _ in range(20)]
    assert len(set(folders)) == len(list(tmp_path.iterdir())) == 20


def test_a_named_folder_never_overwrites_one(tmp_path, caplog):
    for number in range(3):
        folder = named_folder(tmp_path / "runs", "indoor")
        assert folder == tmp_path / "runs" / "indoor"
        assert list(folder.iterdir()) == []
        (folder / "mark").write_text(str(number))
    archived = sorted(tmp_path.glob("runs/indoor_archived_*"))
    assert [(each / "mark").read_text() for each in archived] == ["0", "1"]
    assert all(re.fullmatch(r"indoor_archived_\d{6}-\d{6}(-1)?", each.name) for each in archived)
    assert "indoor is there already: renamed to" in caplog.text


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    for parent in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MediaError, match="the run's folder cannot be made") as caught:
            fresh_folder(parent, "Train")
        assert str(parent) in str(caught.value)


@pytest.fixture
def quiet():
    """The root logger as in a program that never set it up: warnings and worse."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    yield
    root.setLevel(level)


def test_log_is_written_where_no_logging_was_set_up(tmp_path, quiet):
    log = logging.getLogger("llve_common.train.trainer")
    log.info("before")
    with log_file() as begin:
        log.info("early")
        begin(tmp_path / "train.log")
        log.info("within, grün")
        lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    log.info("after")
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO early", "INFO within, grün"]
    assert (tmp_path / "train.log").read_text(encoding="utf-8").splitlines() == lines


def test_other_libraries_stay_out_and_levels_come_back(tmp_path, quiet):
    root, core = logging.getLogger(), logging.getLogger("llve_common")
    before = (root.level, core.level, list(root.handlers))
    with log_file() as begin:
        begin(tmp_path / "train.log")
        logging.getLogger("elsewhere").warning("not ours")
        logging.getLogger("llve_sci").warning("ours")
    assert (tmp_path / "train.log").read_text().split()[2:] == ["WARNING", "ours"]
    assert (root.level, core.level, list(root.handlers)) == before


def test_handler_goes_even_when_the_run_fails(tmp_path):
    def fail():
        with log_file():
            raise ZeroDivisionError

    before = list(logging.getLogger().handlers)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert logging.getLogger().handlers == before
