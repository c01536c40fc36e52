import pickle
from pathlib import Path

import pytest

from llve_common import errors
from llve_common.errors import DataError, MediaError, UserError, in_one_line, printable


def test_message_says_where_what_got_expected_and_how_to_mend():
    error = DataError("too small", where="a.png", got="2x2", expected="3x3", mend="remove it")
    assert str(error) == "a.png: too small\n  got: 2x2\n  expected: 3x3\n  to mend: remove it"


def test_message_leaves_out_what_is_not_known():
    assert str(UserError("too small")) == "too small"
    assert str(UserError("too small", got=0)) == "too small\n  got: 0"


def test_a_message_in_one_line_keeps_its_parts_apart():
    error = DataError("too small", where="my  pictures/a.png", got="2x2", expected="3x3")
    assert in_one_line(error) == "my  pictures/a.png: too small; got: 2x2; expected: 3x3"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a.png", "a.png"), ("Nacht é 夜.png", "Nacht é 夜.png"), ("a\nb", r"a\nb"),
     ("\x1b[31m", r"\x1b[31m"), ("\udcff", r"\udcff"), ("\u202e", r"\u202e"), ("\x9b", r"\x9b")],
)  # fmt: skip
def test_any_name_is_printable(name, shown):
    assert printable(name) == shown
    assert str(DataError("is dark", where=Path(name), got=Path(name))) == (
        f"{shown}: is dark\n  got: {shown}"
    )
    assert str(DataError("is dark", got=f"- {name}").at("b")).count("\x1b") == 0


def test_every_kind_is_a_user_error():
    kinds = (errors.ConfigError, errors.MediaError, errors.DataError, errors.CheckpointError)
    assert all(issubclass(each, UserError) for each in kinds)


def test_error_survives_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(DataError("too small", where="a.png", mend="remove it")))
    assert type(error) is DataError
    assert str(error) == "a.png: too small\n  to mend: remove it"
    assert error.where == "a.png"


def test_at_names_the_place_only_where_none_was_known():
    assert str(MediaError("is dark", got=0).at("a.png")) == "a.png: is dark\n  got: 0"
    assert type(MediaError("is dark").at("a.png")) is MediaError
    assert str(MediaError("is dark", where="b.png").at("a.png")) == "b.png: is dark"
