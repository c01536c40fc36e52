import contextlib
import time
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llve_common.config import (
    RunSettings,
    ScheduleSettings,
    Settings,
    TrainerSettings,
    as_yaml,
    checked,
    dotted_names,
    load_settings,
    nearest,
    read_yaml,
)
from llve_common.errors import ConfigError, DataError


class Network(Settings):
    stages: int = 3
    seed: int = 7


class Train(TrainerSettings):
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    mode: Literal["fast", "exact"] = "exact"
    limit: int | bool | None = None


class All(Settings):
    network: Network = Network()
    train: Train = Train()
    save: Path = Path("EXP")


class Needs(Settings):
    folder: Path


@pytest.fixture
def load(tmp_path):
    """Loads YAML text, with overrides and options."""

    def make(text, *overrides, kind=All, **options):
        (tmp_path / "c.yml").write_text(text)
        return load_settings(kind, tmp_path / "c.yml", overrides, options)

    return make


@pytest.fixture
def faults(load, tmp_path):
    """The lines of the error that YAML text and overrides give, the file's folder left out."""

    def make(text, *overrides, **rest):
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides, **rest)
        return str(caught.value).replace(f"{tmp_path}/", "").splitlines()

    return make


def test_no_file_and_an_empty_one_are_all_defaults(load):
    assert load_settings(All) == load("# nothing\n") == All()


def test_number_without_a_point_is_a_string_in_yaml_and_still_a_number(load, tmp_path):
    assert load("train: {lr: 1e-4}").train.lr == 1e-4
    assert read_yaml(tmp_path / "c.yml")[0] == {"train": {"lr": "1e-4"}}
    assert load("", "train.lr=1e-4").train.lr == 1e-4


def test_command_line_wins_over_override_over_file(load):
    file = "train: {lr: 1, seed: 1, batch_size: 1}\n"
    settings = load(file, "train.lr=2", "train.seed=2", **{"train.lr": 3})
    assert (settings.train.lr, settings.train.seed, settings.train.batch_size) == (3, 2, 1)


def test_override_values_are_yaml_and_the_last_wins(load):
    settings = load("", "save=c", "train.betas=[0.5, 0.9]", "train.limit=null", "save=a=b")
    assert settings.train.betas == (0.5, 0.9)
    assert settings.train.limit is None
    assert settings.save == Path("a=b")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sav: x", "1: sav: unknown setting; did you mean 'save'?"),
        ("train:\n  sede: 1", "2: train.sede: unknown setting; did you mean 'train.seed'?"),
        ("network:\n  lr: 1", "2: network.lr: unknown setting; did you mean 'train.lr'?"),
        ("lr: 1", "1: lr: unknown setting; did you mean 'train.lr'?"),
        ("netwrok: {stages: 1}", "1: netwrok: unknown setting; did you mean 'network'?"),
        ("zzzzzz: 1", "1: zzzzzz: unknown setting"),
    ],
)
def test_unknown_key_names_the_nearest(faults, text, line):
    assert faults(text) == ["1 setting is wrong", f"c.yml:{line}"]


def test_unknown_key_of_an_override_says_so(faults):
    line = "command line: trian: unknown setting; did you mean 'train'?"
    assert faults("", "trian.seed=1")[1] == line


def test_equal_last_names_give_the_one_of_the_likest_section():
    names = list(dotted_names(All))
    assert nearest("trian.seed", names) == "train.seed"
    assert nearest("netwrk.seed", names) == "network.seed"
    assert nearest("qqq", names) is None


def test_all_faults_are_told_at_once_each_with_its_line(faults):
    text = "network:\n  stages: many\ntrain:\n  lr: fast\n  mode: slow\n  sede: 1\nsav: x\n"
    lines = faults(text, "train.batch_size=0", **{"train.seed": -1})
    assert lines[0] == "7 settings are wrong"
    told = {line.split(": ")[1]: (line.split(": ")[0], line) for line in lines[1:]}
    assert {key: place for key, (place, _) in told.items()} == {
        "network.stages": "c.yml:2", "train.lr": "c.yml:4", "train.mode": "c.yml:5",
        "train.sede": "c.yml:6", "sav": "c.yml:7",
        "train.batch_size": "command line", "train.seed": "command line",
    }  # fmt: skip
    assert "got 'many'; input should be a valid integer" in told["network.stages"][1]
    assert "got 'slow'; input should be 'fast' or 'exact'" in told["train.mode"][1]
    assert "got 0; input should be greater than 0" in told["train.batch_size"][1]


@pytest.mark.parametrize("given", [("save: ''",), ("", "save=''")])
def test_an_empty_path_is_not_the_working_folder(faults, given):
    assert faults(*given)[1].endswith("save: got ''; it is empty")


def test_setting_that_fits_no_kind_is_one_line(faults):
    assert len(faults("train: {limit: hello, betas: [a, b]}")) == 3


def test_missing_setting(faults):
    assert faults("", kind=Needs)[1:] == ["c.yml: folder: missing; it has no default"]


def test_section_that_is_a_value_and_a_seed_that_torch_cannot_take(faults):
    assert "c.yml:1: train: got 3; " in faults("train: 3")[1]
    assert faults("save: x", "save.a=1") == ["save is not a section", "  got: save.a=1"]
    assert "train.seed: got 4294967296" in faults("train: {seed: 4294967296}")[1]


@pytest.mark.parametrize("text", ["train.lr", "=3", "", "save="])
def test_override_without_key_or_value(faults, text):
    lines = faults("", text)
    assert lines[0] == "not an override"
    assert lines[1] == f"  got: {text}"
    assert "expected: section.key=value" in lines[2]


@pytest.mark.parametrize("value", ["[1", "2001-99-99", "{a: b", "!!python/name:os.system"])
def test_override_whose_value_is_not_yaml(faults, value):
    lines = faults("", f"train.lr={value}")
    assert lines == ["the value of train.lr is not YAML", f"  got: {value}"]


def test_key_that_stands_twice(faults):
    assert faults("save: a\nsave: b") == ["c.yml:2: the key save stands twice"]
    text = "train:\n  lr: 1\n  lr: 2\n"
    assert faults(text) == ["c.yml:3: the key train.lr stands twice"]


@pytest.mark.parametrize(("text", "got"), [("- a", "list"), ("hello", "str"), ("3", "int")])
def test_file_that_is_not_a_mapping(faults, text, got):
    assert faults(text)[:2] == ["c.yml: the file is not a mapping", f"  got: {got}"]


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: b: c", "\ttrain: 1", "a: 2001-99-99", "? [a]\n: 2", "[" * 20_000, "{a: " * 5_000],
    ids=range(7),
)
def test_file_that_is_not_yaml(faults, text):
    assert faults(text)[0] == "c.yml: not a YAML file"


def test_objects_are_refused_without_being_made(faults, tmp_path):
    witness = tmp_path / "witness"
    lines = faults(f"a: !!python/object/apply:os.system ['touch {witness}']")
    assert lines[0] == "c.yml: not a YAML file"
    assert not witness.exists()


def test_binary_file(tmp_path):
    (tmp_path / "c.yml").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"c\.yml: not a YAML file"):
        load_settings(All, tmp_path / "c.yml")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yml: cannot be read\n  got: No such file"):
        load_settings(All, tmp_path / "no.yml")
    with pytest.raises(ConfigError, match=r"cannot be read\n  got: Is a directory"):
        load_settings(All, tmp_path)


def bomb(pattern):
    """Aliases that stand for 2^40 values; the pattern says how one is made of the one before."""
    rows = [f"a{n}: &a{n} {pattern.format(f'*a{n - 1}')}" for n in range(1, 40)]
    return "\n".join(["a0: &a0 {x: 1, y: 1}", *rows, "save: *a39"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb("{{x: {0}, y: {0}}}"), "stands for more than settings are"),
        (bomb("[{0}, {0}]"), "stands for more than settings are"),
        (bomb("{{<<: [{0}, {0}], z: 1}}"), "stands for more than settings are"),
        ("a: &a\n  b: *a\n", "stands for more than settings are"),
        ("a: &a [*a]", "stands for more than settings are"),
        ("save: " + "[" * 30 + "]" * 30, "line 1 stands for more than settings are"),
        ("train:\n  seed: " + "1" * 5000, "line 2 has a value of 5000 characters"),
        ("train: {seed: 0x" + "f" * 4000 + "}", "line 1 has a value of 4002 characters"),
        ("train: {seed: " + "1:" * 4000 + "1}", "line 1 has a value of 8001 characters"),
        ("save: " + "a" * 5000, "line 1 has a value of 5000 characters"),
        ('save: "a\\0b"', "line 1 has a NUL character\n  got: a\\x00b"),
        ('save: "\\ud800"', "not a YAML file"),
        ("save: !!bool x", "not a YAML file"),
        ("save: !!timestamp x", "not a YAML file"),
        ("#" * 2**20 + "#", "the file is too large"),
    ],
    ids=range(15),
)  # fmt: skip
def test_what_grows_without_bound_or_names_nothing_is_one_message_soon(faults, text, said):
    started = time.monotonic()
    lines = faults(text)
    assert time.monotonic() - started < 5
    assert "\n".join(lines).startswith("c.yml: ")
    assert said in "\n".join(lines)
    if "\n" not in text and len(text) < 2**20:
        key, _, value = text.partition(": ")
        assert len(faults("", f"{key}={value}")) <= 3


@pytest.mark.parametrize("path", ["a\0b", "a" * 256, "a/" * 2100])
def test_a_path_that_no_file_can_have(faults, path):
    assert "no file can have such a name" in faults("", save=path)[1]
    assert "no file can have such a name" in faults("", kind=Needs, folder=Path(path))[1]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(st.sampled_from("ab01:,[]{}&*!<>-|%@\"'\\ \n\t#?=xe.~\0\x85\ud800"), max_size=30))
def test_any_text_is_a_setting_or_one_error(text):
    for name in ("train.lr", "save", "train.betas"):
        with contextlib.suppress(ConfigError):
            load_settings(All, overrides=[f"{name}={text}"])


def test_an_endless_file(tmp_path):
    with pytest.raises(ConfigError, match="/dev/zero: the file is too large"):
        read_yaml(Path("/dev/zero"))


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan"])
def test_numbers_are_finite(faults, text):
    assert "input should be a finite number" in faults(f"train: {{lr: {text}}}")[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"stages": 3', "Invalid JSON: EOF while parsing an object"),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        (b'{"stages": ' + b"1" * 5000 + b"}", "Invalid JSON: number out of range"),
        (b"\xff", "Invalid JSON"),
        (b'{"stages": "many", "more": 1}', "stages: Input should be a valid integer"),
        (b"[]", "Input should be an object"),
    ],
    ids=range(6),
)
def test_a_file_of_ours_that_holds_something_else(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)a.json: the content is not.*{said}"):
        checked(Network, tmp_path / "a.json", tmp_path / "a.json")


def test_settings_as_yaml_load_back_equal(load):
    settings = load("", "train.lr=1e-5", "train.limit=3", "save=some/where", "train.clip_norm=5")
    assert load(as_yaml(settings)) == settings
    assert load(as_yaml(All())) == All()


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        All().save = Path("x")


def test_dotted_names_are_in_order():
    assert list(dotted_names(All)) == [
        "network.stages", "network.seed", "train.seed", "train.batch_size", "train.workers",
        "train.clip_norm", "train.accumulate", "train.precision", "train.graph", "train.lr",
        "train.betas", "train.mode", "train.limit", "save",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"periods": (5, 5), "restarts": (2, 3), "restart_weights": (1.0,)}, "2 restarts, 1 weig"),
        ({"periods": (5,)}, "too few periods"),
        ({"periods": (5,), "restarts": (1, 2), "restart_weights": (1, 1)}, "too few periods"),
        ({"scheme": "multistep", "restarts": (2,)}, "1 restarts, 0 weights"),
    ],
)
def test_a_schedule_that_does_not_fit_together_is_an_error(wrong, said):
    with pytest.raises(ValidationError, match=said):
        ScheduleSettings(**wrong)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a\nb", "a\0", "a\x1b[m", "a" * 101])
def test_a_runs_name_is_no_path(name):
    with pytest.raises(ValidationError):
        RunSettings(name=name)
