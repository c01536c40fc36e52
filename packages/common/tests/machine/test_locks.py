import pytest

from llve_common.errors import MediaError
from llve_common.machine.locks import alone_in


def test_results_are_of_one_process_at_a_time_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "runs" / "mine"
    with alone_in(folder):
        with pytest.raises(MediaError, match="another process writes to this folder"):
            alone_in(folder).__enter__()
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        with alone_in(folder):
            (folder / "a.txt").touch()
    assert [each.name for each in folder.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="file/below: cannot be written"):
        alone_in(tmp_path / "file" / "below").__enter__()
