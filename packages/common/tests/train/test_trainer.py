import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from llve_common.errors import ConfigError, DataError, MediaError, UserError
from llve_common.io.images import write_image
from llve_common.paper.contract import Clip, Plan
from llve_common.weights.files import read_checkpoint, read_weights


def last_checkpoint(folder):
    return read_checkpoint(sorted((folder / "checkpoints").iterdir())[-1])


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def totals(lines):
    return [line["losses"]["total"] for line in lines]


def test_loss_falls(go, losses):
    total = totals(losses(go({"iterations": 60, "batch_size": 5})))
    assert total[-1] < 0.05 * total[0]


def test_run_folder_holds_what_the_plan_says(go):
    folder = go()
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "settings.yml",
        "command.txt",
        "train.log",
        "losses.jsonl",
        "lock",
        "data.json",
        *(f"checkpoints/0000000{number}.ckpt" for number in (2, 4, 6)),
        # Five samples, one a batch: the sixth iteration is the second epoch's first.
        *(f"weights/{name}.pt" for name in ("0_2", "0_4", "1_6")),
    }


def test_last_iteration_is_kept_whatever_the_plan_says(go):
    folder = go(plan=lambda settings, length: Plan(3, 2, 100))
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["00000003.ckpt"]
    assert sorted(file.name for file in (folder / "weights").iterdir()) == ["0_2.pt", "0_3.pt"]


def test_an_enlarged_epoch_is_so_many_times_longer(go, losses):
    folder = go({"iterations": 12, "batch_size": 5}, enlarge=10)
    assert [line["epoch"] for line in losses(folder)] == [0] * 10 + [1] * 2


def test_equal_seeds_give_equal_weights_to_the_bit(go):
    one, same, other = (
        last_checkpoint(go({"seed": seed, "batch_size": 2}))["network"] for seed in (3, 3, 4)
    )
    assert equal(one, same)
    assert not equal(one, other)


def test_watcher_is_told_every_iteration(go):
    told = []
    go({"iterations": 3}, {"log_every": 100}, watch=lambda *each: told.append(each))
    assert [each[:2] for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(loss > 0 for *_, loss in told)


# Set-up


def test_warnings_from_before_the_run_folder_stand_in_its_log(go):
    def objective(settings, device):
        logging.getLogger("llve_common.paper.contract").warning("without weights")
        return lambda network, batch, iteration: {"l": network(batch["low"]).square().mean()}

    assert "WARNING without weights" in (go(objective=objective) / "train.log").read_text()


def test_run_that_cannot_be_set_up_leaves_what_was_there(go, tiny_set, tmp_path):
    with pytest.raises(DataError, match="Train: the training set is empty"):
        go(data=lambda settings: tiny_set(length=0))
    assert not (tmp_path / "runs").exists()

    def clips_are_missing(settings):
        raise DataError("no clips")

    def validated(settings, length):
        return Plan(1, 1, 1, validate_every=1)

    go(run={"name": "mine"})
    with pytest.raises(DataError, match="no clips"):
        go(run={"name": "mine"}, plan=validated, validation=clips_are_missing)
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["mine"]


# One step


def test_rates_and_modes_are_set_before_each_step(go, losses):
    seen = []

    def schedule(settings, optimizer, progress):
        optimizer.param_groups[0]["lr"] = 0.1 * progress.iteration
        seen.append(("schedule", progress.iteration, progress.epoch_length))

    def objective(settings, device):
        def note(network, batch, iteration):
            seen.append(("objective", iteration, network.training))
            network.eval()  # until the next step
            return {"l": network(batch["low"]).square().mean()}

        return note

    folder = go({"iterations": 3}, schedule=schedule, objective=objective)
    assert seen == [
        *[("schedule", 1, 5), ("objective", 1, True)],
        *[("schedule", 2, 5), ("objective", 2, True)],
        *[("schedule", 3, 5), ("objective", 3, True)],
    ]
    assert [line["lr"][0] for line in losses(folder)] == pytest.approx([0.1, 0.2, 0.3])


def test_total_is_the_sum_of_the_named_losses(go, losses):
    def objective(settings, device):
        def both(network, batch, iteration):
            value = network(batch["low"]).mean()
            return {"a": value**2, "b": 2 * value**2 + 1}

        return both

    line = losses(go(objective=objective))[0]["losses"]
    assert line["total"] == pytest.approx(line["a"] + line["b"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_stops_before_the_weights_are_touched(go, tmp_path, value):
    seen, networks = [], []

    def objective(settings, device):
        def fails_at_five(network, batch, iteration):
            networks.append(network)
            seen.append({key: value.clone() for key, value in network.state_dict().items()})
            loss = network(batch["low"]).square().mean()
            return {"good": loss, "bad": loss * (value if iteration == 5 else 1)}

        return fails_at_five

    with pytest.raises(UserError, match="iteration 5: the loss is not a finite number") as caught:
        go(objective=objective)
    assert f"bad {value}" in str(caught.value)
    assert "lower the learning rate" in str(caught.value)
    assert equal(networks[-1].state_dict(), seen[-1])
    (folder,) = (tmp_path / "runs").iterdir()
    content = last_checkpoint(folder)
    assert content["iteration"] == 4
    assert equal(content["network"], seen[-1])


def test_gradient_that_is_no_number_stops_before_the_weights_are_touched(go):
    networks = []

    def network(settings):
        networks.append(nn.Conv2d(3, 3, 1))
        return networks[-1]

    def objective(settings, device):
        # The root's value at 0 is 0, and its gradient infinite.
        return lambda network, batch, iteration: {"l": (network.weight * 0).sum().sqrt()}

    with pytest.raises(UserError, match="iteration 1: the gradient is not a finite number"):
        go(objective=objective, network=network)
    assert all(value.isfinite().all() for value in networks[0].state_dict().values())


def test_clipping_bounds_the_step(go):
    def steps(clip):
        norms, last = [], []

        def objective(settings, device):
            def note(network, batch, iteration):
                flat = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
                norms.extend((flat - before).norm().item() for before in last)
                last[:] = [flat]
                return {"l": 100 * network(batch["low"]).square().mean()}

            return note

        def sgd(settings, network):
            return torch.optim.SGD(network.parameters(), 1.0)

        go({"clip_norm": clip, "iterations": 2}, objective=objective, optimizer=sgd)
        return norms

    assert steps(0.01) == pytest.approx([0.01], rel=1e-3)
    assert steps(None)[0] > 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_and_keeps_float32_weights(go, losses, precision):
    full, half = (
        go({"batch_size": 5, "iterations": 5, "precision": each}) for each in ("fp32", precision)
    )
    assert totals(losses(half)) == pytest.approx(totals(losses(full)), rel=0.05)
    assert totals(losses(half)) != totals(losses(full))
    state = last_checkpoint(half)
    assert {value.dtype for value in state["network"].values()} == {torch.float32}
    assert state["scaler"].get("_growth_tracker") == (5 if precision == "fp16" else None)
    assert last_checkpoint(full)["scaler"] == {}


@pytest.mark.gpu
@pytest.mark.parametrize("more", [{}, {"precision": "bf16"}, {"batch_size": 4, "accumulate": 2}])
def test_a_cuda_graph_changes_no_loss(go, losses, more):
    chosen = {"batch_size": 2, "iterations": 9, "lr": 0.01, **more}
    usual, replayed = (
        go({**chosen, "graph": graph}, run={"device": "cuda"}) for graph in (False, True)
    )
    assert totals(losses(replayed)) == pytest.approx(totals(losses(usual)), rel=1e-5)


@pytest.mark.gpu
def test_what_a_cuda_graph_cannot_hold_is_said(go):
    def objective(settings, device):
        return lambda network, batch, iteration: {"loss": network(batch["low"]).cpu().mean()}

    with pytest.raises(ConfigError, match="cannot be captured") as caught:
        go({"graph": True}, run={"device": "cuda"}, objective=objective)
    assert caught.value.where == "train.graph"


def test_a_cuda_graph_needs_a_gpu(go):
    with pytest.raises(ConfigError, match="for one process on a GPU"):
        go({"graph": True})


# Validation


def test_validation_is_scored_when_the_plan_says_and_previews_see_its_clips(go, image_file, caplog):
    clip, calls, seen = Clip("pairs", (image_file("low.png"),), (image_file("high.png"),)), [], []

    def validation(settings):
        calls.append(settings)
        return [clip]

    def previews(settings, network, progress, clips):
        seen.append(list(clips))
        return iter(())

    plan = Plan(4, 10, 10, preview_every=3, validate_every=2)
    with caplog.at_level(logging.INFO):
        go(plan=lambda *_: plan, validation=validation, previews=previews)
    assert len(calls) == 1
    assert seen == [[clip], [clip]]
    said = [line for line in caplog.messages if ", validation: " in line]
    assert [line.split(":")[0] for line in said] == [
        "iteration 2, validation",
        "iteration 4, validation",
    ]
    assert "psnr" in said[0]
    assert "input" not in said[0]


@pytest.fixture
def validated(go, paper, tmp_path, picture):
    """Trains for four iterations, a validation after each, whose PSNR these levels give."""

    def start(*levels, **more):
        write_image(tmp_path / "low.png", picture())
        write_image(tmp_path / "high.png", picture())
        clip, levels = Clip("pairs", (tmp_path / "low.png",), (tmp_path / "high.png",)), [*levels]

        def enhance(network, frames):
            level = levels.pop(0)
            if level is None:
                raise MediaError("cannot be decoded", where="high.png")
            return frames + level / 255

        parts = {
            "plan": lambda *_: Plan(4, 9, 9, validate_every=1),
            "validation": lambda settings: [clip],
        }
        return go(paper=paper(enhance=enhance), **parts | more)

    return start


def test_scores_are_logged_and_the_best_weights_kept(validated, losses):
    folder = validated(4, 1, 2, 1, run={"tensorboard": True})
    lines = [each for each in losses(folder) if "validation" in each]
    assert [each["iteration"] for each in lines] == [1, 2, 3, 4]
    scores = [each["validation"]["psnr"] for each in lines]
    assert scores[0] < scores[2] < scores[1] == scores[3]
    assert read_weights(folder / "best.pt").keys() == {"net.conv.weight", "net.conv.bias"}
    second = read_checkpoint(folder / "checkpoints" / "00000002.ckpt")["network"]
    assert read_weights(folder / "best.pt")["net.conv.bias"].equal(second["conv.bias"])
    [events] = (folder / "tensorboard").iterdir()
    assert events.read_bytes().count(b"validation/psnr") == 4


def test_a_failing_validation_costs_neither_checkpoint_nor_training(validated, losses, caplog):
    folder = validated(4, None, 2, 1)
    assert "iteration 2: the validation has failed, and training goes on: high.png" in caplog.text
    scored = [each["iteration"] for each in losses(folder) if "validation" in each]
    assert scored == [1, 3, 4]
    assert len(list((folder / "checkpoints").iterdir())) == 3


def test_validation_data_are_looked_at_before_the_first_iteration(
    validated, tmp_path, image_file, video_file
):
    small = Clip("pairs", (image_file("a.png"),), (image_file("b.png", 4, 4),))
    for clips, said in (
        ([small], "differ in size"),
        ([small, small], "several clips have one name"),
    ):
        with pytest.raises(DataError, match=said):
            validated(validation=lambda settings, clips=clips: clips)
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(MediaError, match="not an image"):
        validated(validation=lambda settings: [small])
    good, cut = video_file("good.mp4", [20, 40]), tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:-100])
    for pair in ((cut, good), (good, cut)):
        clip = Clip("video", *((file,) for file in pair))
        with pytest.raises(MediaError, match=r"cut\.mp4"):
            validated(validation=lambda settings, clip=clip: [clip])
    assert not (tmp_path / "runs").exists()


def test_nothing_is_scored_where_there_is_no_clip(go, caplog):
    plan = Plan(2, 10, 10, validate_every=1)
    with caplog.at_level(logging.INFO):
        go(plan=lambda *_: plan, validation=lambda settings: [])
    assert "validation" not in caplog.text


def test_plan_without_previews_and_validation_calls_neither(go):
    def never(*args):
        raise AssertionError("called")

    go(previews=never, validation=never)


# Two processes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of runs by one process and by two, and what the two said of mistakes."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, check=False, timeout=200, **pipes)
    assert done.returncode == 0, done.stdout
    runs = {each.name: next(each.iterdir()) for each in folder.iterdir() if each.is_dir()}
    said = [json.loads((folder / f"said{rank}.json").read_text()) for rank in (0, 1)]
    return runs, said, (folder / "killed.txt").read_text()


@pytest.mark.multiprocess
@pytest.mark.parametrize("kind", ["plain", "norm", "parts"])
def test_two_processes_equal_one_with_twice_the_batch(trained, losses, kind):
    """Or with two parts of it, where batch norm looks at each process's share alone."""
    runs, *_ = trained
    one, two = (runs[f"{kind} {count}"] for count in (1, 2))
    assert totals(losses(two)) == pytest.approx(totals(losses(one)), abs=1e-9)
    wanted, state = (last_checkpoint(folder) for folder in (one, two))
    for name in (name for name in wanted["network"] if "running" not in name):
        if "num_batches" not in name:  # two parts count their batches both
            torch.testing.assert_close(
                state["network"][name], wanted["network"][name], rtol=0, atol=1e-9
            )
    if kind == "norm":
        first, second = (each["buffers"]["1.running_mean"] for each in state["processes"])
        assert torch.equal(state["network"]["1.running_mean"], first)
        assert not torch.equal(first, second)


@pytest.mark.multiprocess
def test_two_processes_stop_together_and_go_on_exactly(trained):
    runs, said, _ = trained
    for mistakes in said:
        assert "stopped by a signal after iteration 3 of 7" in mistakes["signal"]
    whole, broken = (last_checkpoint(runs[name]) for name in ("norm 2", "stopped 2"))
    for part in ("network", "optimizer", "processes"):
        torch.testing.assert_close(broken[part], whole[part], rtol=0, atol=0)


@pytest.mark.multiprocess
def test_mistake_of_one_process_is_raised_in_both(trained):
    runs, said, _ = trained
    for mistakes in said:
        assert "the batch cannot be shared out evenly" in mistakes["batch"]
        assert mistakes["sample"] == "only in the second process"
        assert mistakes["everywhere"]
    assert "batch 2" not in runs


def test_several_processes_take_no_numbered_gpu(go, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match="cannot share one GPU\n  got: cuda:0\n  to mend: use cuda"
    ):
        go(run={"device": "cuda:0"})


@pytest.mark.multiprocess
def test_the_other_one_of_a_killed_process_says_so(trained):
    *_, said = trained
    assert said.startswith("another process of the training has ended\n  to mend: ")
