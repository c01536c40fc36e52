"""A run that was interrupted ends as an unbroken one."""

import errno
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest
import torch
from torch import nn

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.errors import CheckpointError, DataError, MediaError, UserError
from llve_common.paper.contract import Clip, Plan
from llve_common.train.checkpoint import newest_checkpoint
from llve_common.weights.files import read_checkpoint, write_checkpoint


class Chancy(nn.Module):
    """Dropout, batch norm and two layers: everything whose state a resume must bring back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.out = nn.Conv2d(4, 3, 1)

    def forward(self, image):
        return self.out(self.inner(self.conv(image)))


def two_groups(settings, network):
    groups = [{"params": network.conv.parameters(), "lr": 0.01}]
    rest = [*network.inner.parameters(), *network.out.parameters()]
    return torch.optim.Adam([*groups, {"params": rest}], lr=settings.train.lr)


def falling(settings, optimizer, progress):
    for number, group in enumerate(optimizer.param_groups, 1):
        group["lr"] = 0.05 / progress.iteration / number


CHANCY = {
    "network": lambda settings: Chancy(),
    "optimizer": two_groups,
    "schedule": falling,
    "plan": lambda settings, length: Plan(settings.train.iterations, 3, 3),
}


@pytest.fixture
def go(go):
    """Trains for nine iterations, two samples a batch."""

    def start(chosen=None, *args, **options):
        return go({"iterations": 9, "batch_size": 2} | (chosen or {}), *args, **options)

    return start


@pytest.fixture
def stopped(go, tmp_path):
    """Trains until a signal after iteration ``at``, and gives the run's folder.

    It comes when that iteration is done, and is seen after the one that runs then.
    """

    def start(at, *args, **options):
        before = set((tmp_path / "runs").glob("*"))
        with pytest.raises(UserError, match=f"stopped by a signal after iteration {at + 1} of"):
            go(
                *args,
                watch=lambda done, *_: done == at and os.kill(os.getpid(), signal.SIGTERM),
                **options,
            )
        (folder,) = set((tmp_path / "runs").glob("*")) - before
        return folder

    return start


@pytest.fixture
def assert_as_unbroken(go, losses):
    """Compares a run's end with that of a run which never stopped."""

    def final(folder):
        """All that the last checkpoint holds and the losses, without times."""
        state = read_checkpoint(sorted((folder / "checkpoints").glob("*.ckpt"))[-1])
        return {
            "state": {key: state[key] for key in state if key not in ("seconds", "settings")},
            "losses": [line | {"seconds": 0} for line in losses(folder)],
        }

    def check(folder, *args, **options):
        assert same(final(folder), final(go(*args, **options)))

    return check


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def checkpoints(folder):
    return sorted(file.name for file in (folder / "checkpoints").iterdir())


def test_checkpoint_says_what_it_is_of(go):
    content = read_checkpoint(go() / "checkpoints" / "00000008.ckpt")
    assert (content["paper"], content["procedure"], content["iteration"]) == ("tiny", "Train", 8)
    assert content["versions"]["torch"] == torch.__version__
    assert content["settings"]["train"]["lr"] == 0.05
    assert content["optimizer"]["state"][0]["step"] == 8


@pytest.mark.parametrize(
    "chosen",
    [{}, {"accumulate": 2}, {"clip_norm": 0.1}, {"precision": "bf16"}, {"precision": "fp16"}],
    ids=str,
)
def test_resume_is_exact(go, stopped, assert_as_unbroken, chosen):
    folder = stopped(4, chosen, **CHANCY)
    assert checkpoints(folder) == ["00000003.ckpt", "00000005.ckpt"]
    go(chosen, resume=folder, **CHANCY)
    assert_as_unbroken(folder, chosen, **CHANCY)


def test_losses_not_yet_logged_survive(go, stopped, assert_as_unbroken):
    folder = stopped(4, run={"log_every": 4})
    go(run={"log_every": 4}, resume=folder)
    assert_as_unbroken(folder, run={"log_every": 4})


@pytest.mark.multiprocess
def test_loader_processes_change_nothing_after_a_resume(go, stopped, assert_as_unbroken):
    folder = stopped(4, {"workers": 2}, **CHANCY)
    go({"workers": 2}, resume=folder, **CHANCY)
    assert_as_unbroken(folder, **CHANCY)


def test_tensorboard_goes_on_in_its_folder(go, stopped):
    folder = stopped(4, run={"tensorboard": True})
    go(run={"tensorboard": True}, resume=folder)
    assert len(list((folder / "tensorboard").iterdir())) == 2


def test_truncated_checkpoint_is_named_and_the_one_before_is_used(
    go, stopped, assert_as_unbroken, caplog
):
    folder = stopped(4, **CHANCY)
    newest = folder / "checkpoints" / "00000005.ckpt"
    newest.write_bytes(newest.read_bytes()[:1000])
    go(resume=folder, **CHANCY)
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert str(newest) in warnings[0]
    assert_as_unbroken(folder, **CHANCY)


def test_no_whole_checkpoint_is_one_clear_error(go, stopped):
    folder = stopped(4)
    for file in (folder / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated") as caught:
        go(resume=folder)
    assert str(folder / "checkpoints" / "00000005.ckpt") in str(caught.value)


def test_run_without_a_checkpoint_begins_anew_in_its_folder(go, stopped, assert_as_unbroken):
    folder = stopped(1, **CHANCY)
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    assert go(resume=folder, **CHANCY) == folder
    assert_as_unbroken(folder, **CHANCY)


def test_leftovers_of_killed_writers_are_removed_and_a_users_hidden_files_are_not(go, stopped):
    folder = stopped(4)
    name = ".llve-0123456789abcdef"
    ours = [folder / f"{name}.yml", folder / "checkpoints" / f"{name}.ckpt"]
    theirs = [".notes-20261126.txt", "mine/.backup-settings.yml", f"mine/deep/{name}.txt"]
    theirs += [".llve-notes.txt", f"checkpoints/{name}.ckpt.old"]
    for file in (*ours, *(folder / each for each in theirs)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, (0, 0))
    go(resume=folder)
    assert not [file for file in ours if file.exists()]
    assert [file for file in theirs if (folder / file).exists()] == theirs


def test_a_folder_that_a_live_process_holds_is_refused_until_it_dies(go, tmp_path, caplog):
    """For a new run of its name as for a resume; the lock outlives no process that is killed."""
    mine, (read, write) = {"name": "mine"}, os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            go(run=mine, watch=lambda done, *_: done == 3 and os.write(write, b"!") and sleep(60))
        os._exit(1)
    os.read(read, 1)
    folder = tmp_path / "runs" / "mine"
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for again in ({}, {"resume": folder}):
        with pytest.raises(MediaError, match="another process writes to this folder") as caught:
            go(run=mine, **again)
        assert f"got: process {child} on " in str(caught.value)
    assert {
        file: file.read_bytes() for file in folder.parent.rglob("*") if file.is_file()
    } == before
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert go(run=mine, resume=folder) == folder
    assert go(run=mine) == folder
    assert len(list(folder.parent.iterdir())) == 2


def test_a_file_system_without_locks_is_said(go, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    go()
    assert "this file system has no locks: No locks available" in caplog.text


@pytest.mark.parametrize("cut", [-1, -2, -3, 10])
def test_cut_off_line_of_the_losses_is_dropped(go, stopped, assert_as_unbroken, cut):
    folder = stopped(4)
    file = folder / "losses.jsonl"
    last = file.read_text().splitlines()[-1].replace('"iteration": 5', '"iteration": 6')
    file.write_text(file.read_text() + last[:cut])
    go(resume=folder)
    assert_as_unbroken(folder)


def test_finished_run_is_left_as_it_is_and_says_so(go, caplog):
    folder = go(run={"tensorboard": True})
    written = ("train.log", "lock")
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in written]
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    go(run={"tensorboard": True}, resume=folder)
    assert "the run is finished already" in caplog.messages[-1]
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files} == before
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_other_settings_are_an_error_that_names_them(go, stopped):
    folder = stopped(4)
    settings = (folder / "settings.yml").read_bytes()
    with pytest.raises(CheckpointError, match="other settings") as caught:
        go({"lr": 0.1}, resume=folder)
    assert "train.lr=0.1 instead of 0.05" in str(caught.value)
    assert (folder / "settings.yml").read_bytes() == settings


def test_a_run_may_be_made_longer(go, assert_as_unbroken, caplog):
    folder = go({"iterations": 4}, **CHANCY)
    go({"workers": 0}, resume=folder, **CHANCY)
    assert "changed from iteration 5 on: train.iterations=9 instead of 4" in caplog.text
    assert "iterations: 9" in (folder / "settings.yml").read_text()
    assert_as_unbroken(folder, **CHANCY)
    with pytest.raises(CheckpointError, match="the run is beyond its new end"):
        go({"iterations": 8}, resume=folder, **CHANCY)


def test_other_data_are_noticed_and_taken_on_purpose_only(go, stopped, tiny_set, tmp_path, caplog):
    files = [tmp_path / "data" / f"{number}.png" for number in range(4)]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(b"pixels")

    def data(*names):
        return {"data": lambda settings: tiny_set(files=[files[each] for each in names])}

    folder = stopped(4, **data(0, 1, 2))
    before = {file: file.read_bytes() for file in folder.rglob("*.*") if file.suffix != ".log"}
    files[1].write_bytes(b"others")  # as many bytes
    files[2].write_bytes(b"other pixels")
    with pytest.raises(DataError, match="data: the run's data have changed") as caught:
        go(resume=folder, **data(1, 2, 3))
    assert "3.png is new; 0.png is missing; 2.png has 12 bytes instead of 6" in str(caught.value)
    assert before == {file: file.read_bytes() for file in before}
    listed = folder / "data.json"
    assert f"to go on with these, remove {listed}" in str(caught.value)
    (tmp_path / "data").rename(tmp_path / "moved")
    files = [tmp_path / "moved" / file.name for file in files]
    files[2].write_bytes(b"pixels")
    go(resume=folder, **data(0, 1, 2))  # the same, elsewhere
    listed.unlink()
    go({"iterations": 10}, resume=folder, **data(3))
    assert "has no list of its data: taken as they are" in caplog.text
    assert '"3.png": 6' in listed.read_text()


NEW, TAKEN = "2.png is new; 1.png is missing", None


@pytest.mark.parametrize(
    ("before", "listed", "after", "said"),
    [
        (("01", "2"), None, ("01", "2", None), TAKEN),
        (("01", ""), None, ("01", "2"), TAKEN),
        (("01", "2"), None, ("02", "1"), NEW),
        (("01", "2"), None, ("01", "3"), "3.png is new; 2.png is missing"),
        # Of older versions: training and validation in one list.
        (("01", "2"), "012", ("01", "2"), TAKEN),
        (("01", "2"), "012", ("01", "2", None), TAKEN),
        (("01", ""), "01", ("01", "2"), TAKEN),
        (("01", ""), "01", ("02", "3"), "2.png is new; 3.png is new; 1.png is missing"),
        (("01", "2"), "012", ("01", "3"), "3.png is new; 2.png is missing"),
    ],
)
def test_data_of_training_and_of_validation_are_compared_apart(
    go, tiny_set, image_file, before, listed, after, said
):
    """Each by the numbers of its files; a run may begin to validate, or end it."""
    files = [image_file(f"{number}.png") for number in range(4)]

    def data(training, held, every=9):
        clip = Clip("held", *2 * (tuple(files[int(each)] for each in held),))
        return {
            "data": lambda settings: tiny_set(files=[files[int(each)] for each in training]),
            "validation": lambda settings: [clip] if held else [],
            "plan": lambda settings, _: Plan(settings.train.iterations, 9, 9, None, every),
        }

    folder = go({"iterations": 1}, **data(*before))
    if listed:
        sizes = {f"{each}.png": files[int(each)].stat().st_size for each in listed}
        older = {"folder": str(files[0].parent), "files": sizes}
        (folder / "data.json").write_text(json.dumps(older))
    if said is not None:
        with pytest.raises(DataError, match=said):
            go({"iterations": 2}, resume=folder, **data(*after))
        return
    go({"iterations": 2}, resume=folder, **data(*after))
    with pytest.raises(DataError, match=NEW):  # what is listed now
        go({"iterations": 3}, resume=folder, **data("02", ""))


class Data(Settings):
    root: Path
    size: int = 8
    test_clips: str = "a"


class Train(TrainerSettings):
    iterations: int = 1
    lr: float = 0.05


class Chosen(Settings):
    weights: Path
    data: Data
    train: Train = Train()
    run: RunSettings


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data": {"root": "moved"}}, None),
        ({"data": {"root": "data", "test_clips": "b"}}, None),
        ({"data": {"root": "data", "size": 9}}, "got: data.size=9 instead of 8\n"),
        ({"train": {"iterations": 2, "accumulate": 2}}, "train.accumulate=2 instead of 1\n"),
    ],
)
def test_of_all_sections_only_what_was_computed_may_not_change(go, tmp_path, more, said):
    """And the weights that the run once started from are needed no more."""

    def chosen(**more):
        run = {"save": tmp_path, "device": "cpu", "tensorboard": False}
        return Chosen(**{"weights": start, "data": {"root": "data"}, "run": run} | more)

    def network(settings):
        if settings.weights:
            settings.weights.read_bytes()
        return Chancy()

    start = tmp_path / "start.pt"
    start.touch()
    folder = go(whole=chosen(), network=network)
    start.unlink()
    longer = chosen(**{"train": {"iterations": 2}} | more)
    if said is None:
        assert go(whole=longer, resume=folder, network=network) == folder
        assert f"weights: {start}\n" in (folder / "settings.yml").read_text()
    else:
        with pytest.raises(CheckpointError, match="other settings") as caught:
            go(whole=longer, resume=folder, network=network)
        assert said in str(caught.value)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(MediaError, match="cannot be read or written"):  # without a checkpoint
        go(whole=longer, resume=folder, network=network)


def test_paths_of_a_run_mean_the_same_everywhere(go, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = go(run={"save": "here"})
    assert folder.parent == Path("here")
    assert f"save: {tmp_path / 'here'}\n" in (folder / "settings.yml").read_text()


def test_a_run_that_dies_before_it_validates_does_so_when_it_goes_on(
    go, assert_as_unbroken, losses, image_file, tmp_path
):
    """After the last iteration too: the checkpoint comes first, then previews, then the scores."""
    pair = Clip("pairs", (image_file("low.png"),), (image_file("high.png"),))

    def dies(at):
        def previews(settings, network, progress, clips):
            if progress.iteration == at:
                raise KeyboardInterrupt
            yield f"seen/{progress.iteration}.png", torch.full((3, 4, 4), 0.5)

        plan = {"plan": lambda *_: Plan(9, 3, 9, preview_every=3, validate_every=3)}
        return CHANCY | plan | {"previews": previews, "validation": lambda settings: [pair]}

    run, folder = {"name": "broken"}, tmp_path / "runs" / "broken"
    for at, resume in ((6, None), (9, folder)):
        with pytest.raises(KeyboardInterrupt):
            go(run=run, resume=resume, **dies(at))
        assert checkpoints(folder)[-1] == f"0000000{at}.ckpt"
    go(run=run, resume=folder, **dies(None))
    assert [each["iteration"] for each in losses(folder) if "validation" in each] == [3, 6, 9]
    assert len(list((folder / "seen").iterdir())) == 3
    assert_as_unbroken(folder, **dies(None))


def bomb():
    """Dictionaries that stand for 2^40 settings."""
    inner = {}
    for _ in range(40):
        inner = {"a": inner, "b": inner}
    return inner


def without(moment):
    return lambda state: [state["optimizer"]["state"][n].pop(moment) for n in (0, 1)]


def twice_the_groups(state):
    state["optimizer"]["param_groups"] *= 2


def put(**changed):
    return lambda state: state.update(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(paper="other"), "of another training\n  got: other Train\n  expected: tiny Train"),
        (put(procedure="other"), "of another training\n  got: tiny other\n  expected: tiny Train"),
        (put(paper=["tiny"]), "paper: Input should be a valid string"),
        (put(iteration="many"), "iteration: Input should be a valid integer"),
        (put(iteration=-1), "iteration: Input should be greater"),
        (put(settings=bomb()), "a: Extra inputs are not permitted"),
        (put(settings={"train": {"lr": -1, "seed": "x"}}), "train.seed: Input should be"),
        (put(optimizer={}), "the optimizer's state does not fit"),
        (put(optimizer={"state": 3, "param_groups": [{}]}), "the optimizer's state does not fit"),
        (twice_the_groups, "the optimizer's state does not fit"),
        (lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
         "exp_avg has the shape (7,) for (3, 3, 1, 1)"),
        *((without(moment), f"state does not fit\n  got: no '{moment}'")
          for moment in ("exp_avg", "exp_avg_sq", "step")),
        *((put(processes=[{"rng": rng, "buffers": {}, "recent": {}}]), "state of the run does not")
          for rng in ({}, {"cpu": torch.zeros(3)})),
        (put(scaler=[]), "scaler: Input should be a valid dictionary"),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_checkpoint_that_holds_something_else_is_one_message(go, stopped, change, said):
    folder = stopped(4)
    newest = folder / "checkpoints" / "00000005.ckpt"
    content = read_checkpoint(newest)
    change(content)
    write_checkpoint(newest, content)
    with pytest.raises(CheckpointError) as caught:
        go(resume=folder)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_checkpoints_are_kept(go, stopped, keep):
    folder = stopped(6, run={"keep_checkpoints": keep})
    assert checkpoints(folder) == ["00000006.ckpt", "00000007.ckpt"][-keep:]
    go(run={"keep_checkpoints": keep}, resume=folder)
    assert checkpoints(folder) == ["00000008.ckpt", "00000009.ckpt"][-keep:]


def test_a_damaged_newer_checkpoint_goes_first_and_a_users_copy_is_left_alone(go, stopped):
    folder, run = stopped(4, run={"keep_checkpoints": 1}), {"keep_checkpoints": 1}
    damaged, mine = (folder / "checkpoints" / f"{name}.ckpt" for name in ("00000011", "mine"))
    damaged.touch()
    shutil.copy(folder / "checkpoints" / "00000005.ckpt", mine)
    go(run=run, resume=folder)
    assert checkpoints(folder) == ["00000009.ckpt", "mine.ckpt"]
    assert newest_checkpoint(folder).stem == "00000009"
