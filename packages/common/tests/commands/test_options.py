"""Options made from a table of published names and the settings' own fields."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field, PositiveFloat

from llve_common.commands.paper import paper_app
from llve_common.config import RunSettings, Settings, TrainerSettings, load_settings
from llve_common.published_options import OptionTable, PublishedOptions, below, only
from llve_common.testing.conformance import files_below, run_command


class Train(TrainerSettings):
    """Adam."""

    iterations: int = 6
    lr: PositiveFloat | None = Field(0.05, description="learning rate")
    fast: bool = Field(False, description="in a hurry")


class Chosen(Settings):
    """Train for an instant."""

    procedure: Literal["train"] = "train"
    train: Train = Train(workers=0, seed=3)
    run: RunSettings = RunSettings(device="cpu", tensorboard=False, log_every=1)


OPTIONS = PublishedOptions(
    flags={
        "--lr_init": "train.lr",
        "--lr": "train.lr",
        "--fast/--slow": "train.fast",
        "--runs": below("run.save", "experiments"),
        "--kind": only("tiny"),
    },
    without_effect=("--gpu_ids", "--old/--no-old"),
    file=OptionTable(
        settings={"train.lr_G": "train.lr", "name": "run.name"},
        without_effect=("scale",),
        resume="path.resume_state",
    ),
)


@pytest.fixture
def app(paper, procedure):
    made = paper(procedures={"train": procedure(settings=Chosen)})
    [test] = [kind for kind in made.options if kind is made.test.settings]
    return paper_app(replace(made, options={Chosen: OPTIONS, test: PublishedOptions()}))


@pytest.fixture
def run(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(run_command, app)


def settings_of(printed):
    folder = Path(printed.partition("run folder: ")[2].splitlines()[0])
    return load_settings(Chosen, folder / "settings.yml"), (folder / "train.log").read_text()


def test_help_is_the_fields_and_the_first_names(run):
    text = " ".join(run("train", "--help").replace("│", " ").split())
    assert "Train for an instant." in text
    for words in ("--lr_init", "learning rate", "(also --lr)", "[default: (0.05)]", "in a hurry"):
        assert words in text
    assert "--gpu_ids" not in text
    assert "-opt" in text


def test_options_give_settings_in_either_spelling(run):
    printed = run("train", "--lr-init", "0.25", "--fast", "--runs", "here", "--kind", "tiny")
    settings, log = settings_of(printed)
    assert (settings.train.lr, settings.train.fast) == (0.25, True)
    assert settings.run.save == Path("here/experiments").absolute()
    assert "without effect" not in log


def test_options_without_effect_are_named_once(run):
    _, log = settings_of(run("train", "--gpu_ids", "3", "--old"))
    assert log.count("without effect here: --gpu_ids, --old") == 1


def test_what_a_flag_says_wins_over_what_another_implies_and_over_a_file(run):
    Path("mine.yml").write_text("procedure: train\ntrain: {lr: 1.0}\n")
    printed = run("train", "--runs", "a", "--save", "b", "--lr", "0.5", "--config", "mine.yml")
    settings, _ = settings_of(printed)
    assert settings.run.save == Path("b").absolute()
    assert settings.train.lr == 0.5


@pytest.mark.parametrize(
    "typed", [("--lr", "0.5", "--lr_init", "0.25"), ("--lr_init", "0.5", "--lr", "0.25")]
)
def test_of_two_names_of_a_setting_the_last_typed_counts(run, typed):
    settings, _ = settings_of(run("train", *typed))
    assert settings.train.lr == 0.25


def test_wrong_values_are_one_message(run):
    assert "train.lr: got 'fast'" in run("train", "--lr", "fast", fails=True)
    assert "--kind" in run("train", "--kind", "other", fails=True)


NO_FILE = "this command takes no published option file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train -opt missing.yml", ["missing.yml: cannot be read"]),
        ("train -opt empty.yml --config mine.yml", ["give --config or -opt, not both"]),
        ("test -opt empty.yml", [f"test: {NO_FILE}"]),
        ("enhance -opt empty.yml", [f"enhance: {NO_FILE}"]),
        ("train --config none.yml", ["no such settings\n  got: none.yml"]),
        ("test --config none.yml", ["no such settings\n  got: none.yml"]),
        ("train train.batchsize=1 train.seed=zero",
         ["2 settings are wrong", "did you mean 'train.batch_size'?", "train.seed: got 'zero'"]),
        ("test low=. sav=here ssim=[1]",
         ["2 settings are wrong", "sav: unknown setting; did you mean 'save'?", "ssim: got [1]"]),
        ("configs check mine.yml",
         ["mine.yml:3: train.sead: unknown setting; did you mean 'train.seed'?",
          "mine.yml:4: train.batch_size: got 'zero'"]),
        ("configs copy mine.yml empty.yml", ["empty.yml: exists already"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_is_done(run, tmp_path, words, said):
    Path("mine.yml").write_text("procedure: train\ntrain:\n  sead: 3\n  batch_size: zero\n")
    Path("empty.yml").touch()
    before = files_below(tmp_path)
    output = run(*words.split(), fails=True)
    assert [each for each in said if each not in output] == []
    assert files_below(tmp_path) == before


def test_keys_that_stand_twice_with_one_value(run):
    Path("a.yml").write_text(
        "name: x\nscale: 1\ntrain: {lr_G: 0.5}\nname: x\nlist: [1, 2]\nlist: [1, 2]\n"
    )
    assert "list" in run("train", "-opt", "a.yml", fails=True)  # of another kind
    Path("a.yml").write_text("name: x\nscale: 1\ntrain: {lr_G: 0.5}\nname: x\nscale: 1\n")
    settings, log = settings_of(run("train", "-opt", "a.yml"))
    assert (settings.run.name, settings.train.lr) == ("x", 0.5)
    assert "without effect here: scale" in log
    Path("b.yml").write_text("name: x\nname: y\n")
    said = run("train", "-opt", "b.yml", fails=True)
    assert "b.yml:2: the key name stands twice, with another value" in said


def test_a_state_to_resume_is_the_run_that_holds_it(run):
    folder = Path(run("train", "--name", "first").partition("run folder: ")[2].splitlines()[0])
    [*_, last] = sorted((folder / "checkpoints").iterdir())
    last.unlink()
    Path("a.yml").write_text(f"path: {{resume_state: {folder / 'training_state' / '4.state'}}}\n")
    assert f"run folder: {folder}" in run("train", "-opt", "a.yml").replace("\n", " ")
    assert last.is_file()
    Path("a.yml").write_text("path: {resume_state: nowhere/training_state/4.state}\n")
    assert "no run to go on with" in run("train", "-opt", "a.yml", fails=True)
    Path("a.yml").write_text(f"path: {{resume_state: {folder}}}\n")
    said = run("train", "-opt", "a.yml", "--lr", "1", fails=True)
    assert "a run that goes on keeps its settings" in said
    Path("a.yml").write_text("path: {resume_state: ~}\n")
    run("train", "-opt", "a.yml", "--name", "second")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "other"], "run.name: a run that goes on stays where it is\n  got: other\n"),
        (["run.save=elsewhere"], "run.save: a run that goes on stays where it is"),
        (["--name", "first", "run.save=EXP"], None),
    ],
)
def test_a_run_that_goes_on_does_not_move(run, words, said):
    run("train", "--name", "first")
    printed = run("train", "--resume", "EXP/first", "train.iterations=7", *words, fails=bool(said))
    assert (said or "run folder: EXP/first") in printed
    assert "name: first\n" in Path("EXP/first/settings.yml").read_text()


def test_a_section_given_in_part_keeps_the_rest_of_its_default():
    settings = load_settings(Chosen, overrides=["train.lr=1", "run.log_every=5"])
    assert (settings.train.seed, settings.run.tensorboard) == (3, False)


def test_configs_show_says_what_each_setting_is(run, app, monkeypatch, tmp_path):
    file = tmp_path / "fast.yml"
    file.write_text("# A hurry: tiny train\nprocedure: train\ntrain: {fast: true}\n")
    monkeypatch.setattr("llve_common.commands.configs.find_config", lambda paper, name: file)
    run("configs", "copy", "train/fast", "mine.yml")
    assert Path("mine.yml").read_bytes() == file.read_bytes()
    text = run("configs", "show", "train/fast")
    assert "  lr: 0.05  # learning rate, --lr_init, --lr" in text.splitlines()
    shown = yaml.safe_load(text)
    assert shown == load_settings(Chosen, file).model_dump(mode="json")
