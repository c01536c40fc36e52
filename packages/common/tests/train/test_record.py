import logging
import os
import re
import sys

import numpy as np
import pytest
import torch

from llve_common.config import RunSettings, load_settings
from llve_common.errors import MediaError
from llve_common.io.atomic import open_temporary
from llve_common.io.images import read_image
from llve_common.paper.contract import Plan
from llve_common.train.record import new_folder, train_log
from llve_common.weights.files import load_into, read_weights

# The folder


def test_folder_is_named_by_the_procedure_and_the_time_and_never_given_twice(tmp_path):
    chosen = RunSettings(save=tmp_path / "a" / "b")
    folders = {new_folder(chosen, "Train") for _ in range(20)}
    assert folders == set(chosen.save.iterdir())
    assert len(folders) == 20
    assert all(re.fullmatch(r"Train-\d{8}-\d{6}(-\d+)?", each.name) for each in folders)


def test_a_named_folder_never_overwrites_one(tmp_path, caplog):
    chosen = RunSettings(save=tmp_path / "runs", name="indoor")
    for number in range(3):
        folder = new_folder(chosen, "Train")
        assert folder == tmp_path / "runs" / "indoor"
        assert list(folder.iterdir()) == []
        (folder / "mark").write_text(str(number))
        open_temporary(folder / "a.ckpt").close()  # as a killed process leaves it
    archived = sorted(tmp_path.glob("runs/indoor_archived_*"))
    assert [(each / "mark").read_text() for each in archived] == ["0", "1"]
    assert [len(list(each.iterdir())) for each in archived] == [1, 1]
    assert all(re.fullmatch(r"indoor_archived_\d{6}-\d{6}(-1)?", each.name) for each in archived)
    assert "indoor is there already: renamed to" in caplog.text


@pytest.mark.parametrize("name", [None, "indoor"])
def test_parent_that_is_a_file(tmp_path, name):
    (tmp_path / "file").touch()
    for parent in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MediaError, match="the run's folder cannot be made") as caught:
            new_folder(RunSettings(save=parent, name=name), "Train")
        assert str(parent) in str(caught.value)


def test_names_that_are_not_utf8(go, tmp_path, monkeypatch):
    """Are written by their bytes; TensorBoard cannot write to such a folder."""
    odd = os.fsdecode(b"\xff")
    # Nor can such a line of the log pass from one of pytest's processes to the other.
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    monkeypatch.setattr(sys, "argv", ["sci", "train", odd])
    folder = go({"iterations": 1}, {"save": tmp_path / odd})
    assert (folder / "command.txt").read_text() == "sci train '\\udcff'\n"
    with pytest.raises(MediaError, match=r"tensorboard: .* UTF-8"):
        go({"iterations": 1}, {"save": tmp_path / odd, "tensorboard": True})


# The log


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
    with train_log() as begin:
        log.info("early")
        begin(tmp_path / "train.log")
        lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
        assert [line.split(" ", 2)[2] for line in lines] == ["INFO early"]
        log.info("within, grün")
        lines = (tmp_path / "train.log").read_text(encoding="utf-8").splitlines()
    log.info("after")
    assert [line.split(" ", 2)[2] for line in lines] == ["INFO early", "INFO within, grün"]
    assert (tmp_path / "train.log").read_text(encoding="utf-8").splitlines() == lines


def test_other_libraries_stay_out_and_all_comes_back_even_when_the_run_fails(tmp_path, quiet):
    def fail(file):
        with train_log() as begin:
            if file is not None:
                begin(file)
            logging.getLogger("elsewhere").warning("not ours")
            logging.getLogger("llve_sci").warning("ours")
            raise ZeroDivisionError

    root, core = logging.getLogger(), logging.getLogger("llve_common")
    before = (root.level, core.level, list(root.handlers))
    file = tmp_path / "train.log"
    file.write_text("from before a resume\n")
    for each in (None, file):
        with pytest.raises(ZeroDivisionError):
            fail(each)
        assert (root.level, core.level, list(root.handlers)) == before
    first, second = file.read_text().splitlines()
    assert first == "from before a resume"
    assert second.split()[2:] == ["WARNING", "ours"]


# What is written


def test_run_says_what_it_is_of(go, settings_in, procedure):
    folder = go({"lr": 1e-5, "clip_norm": 0.5}, notes=["this has no effect"])
    settings = load_settings(procedure().settings, folder / "settings.yml")
    assert settings == settings_in(lr=1e-5, clip_norm=0.5)
    log = (folder / "train.log").read_text()
    assert log.count("WARNING this has no effect") == 1
    assert f"torch {torch.__version__}" in log
    assert "5 samples, 6 iterations of 5 to an epoch, on cpu" in log
    assert "finished after 6 iterations" in log


def test_losses_are_one_line_an_entry(go, losses):
    lines = losses(go())
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == [0, 0, 0, 0, 0, 1]
    assert all(line["lr"] == [0.05] for line in lines)
    assert all(line["losses"]["l2"] == line["losses"]["total"] > 0 for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_logged_losses_are_means_since_the_last_line(go, losses):
    every = [line["losses"]["l2"] for line in losses(go())]
    fourth = losses(go(run={"log_every": 4}))
    assert [line["iteration"] for line in fourth] == [4, 6]
    means = [line["losses"]["l2"] for line in fourth]
    assert means == pytest.approx([np.mean(every[:4]), np.mean(every[4:])])


def test_published_weights_have_the_published_names(go, paper):
    folder = go(latest_name="weights/latest.pt")
    state = read_weights(folder / "weights" / "1_6.pt")
    assert all(key.startswith("net.") for key in state)
    torch.testing.assert_close(
        read_weights(folder / "weights" / "latest.pt"), state, rtol=0, atol=0
    )
    ours = paper().from_published(state)
    load_into(paper().network(state, None), ours, folder)
    trained = read_weights(folder / "checkpoints" / "00000006.ckpt")
    torch.testing.assert_close(ours, trained, rtol=0, atol=0)


def test_published_files_may_hold_more_than_weights(go):
    def published(settings, network, optimizer, progress):
        return {"net": network.state_dict(), "epoch": progress.epochs}

    folder = go(published=published, weights_name="{settings.train.lr}_{epochs}.pth")
    assert {file.name for file in folder.glob("*.pth")} == {"0.05_1.pth", "0.05_2.pth"}
    content = torch.load(folder / "0.05_2.pth", weights_only=True)
    assert content["epoch"] == 2
    read = read_weights(folder / "0.05_2.pth")
    torch.testing.assert_close(dict(read), dict(content["net"]), rtol=0, atol=0)


def test_previews_are_made_in_evaluation_mode_and_the_modes_come_back(go):
    modes, training = [], []

    def objective(settings, device):
        def note(network, batch, iteration):
            training.append((network.training, network.norm.training))
            return {"l": network(batch["low"]).square().mean()}

        return note

    def previews(settings, network, progress, clips):
        modes.append((network.training, torch.is_grad_enabled(), progress.iteration))
        yield f"image_epochs/a_{progress.epoch}.png", torch.full((3, 4, 4), 0.5)

    folder = go(
        plan=lambda settings, length: Plan(5, 10, 10, preview_every=2),
        objective=objective,
        previews=previews,
    )
    assert modes == [(False, False, 2), (False, False, 4), (False, False, 5)]
    assert training == [(True, True)] * 5
    assert read_image(folder / "image_epochs" / "a_0.png").pixels.tolist() == [[[128] * 3] * 4] * 4
