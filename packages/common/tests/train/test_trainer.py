import json
import logging
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from llve_common.config import RunSettings, load_settings
from llve_common.errors import DataError, UserError
from llve_common.io.images import read_image
from llve_common.paper.contract import Clip, Plan
from llve_common.train.loader import stack_samples
from llve_common.train.trainer import train
from llve_common.weights.files import load_into, read_checkpoint, read_weights
from llve_common.weights.network import evaluating


@pytest.fixture
def run(paper, procedure, settings_in):
    """Trains the tiny procedure, parts of it replaced, and gives the run's folder."""

    def start(train_settings=None, run=None, **changes):
        settings = settings_in(run, **(train_settings or {}))
        return train(paper(), procedure(**changes), settings)

    return start


def losses(folder):
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def weights(folder):
    return read_weights(sorted((folder / "checkpoints").iterdir())[-1])


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_loss_falls(run):
    lines = losses(run({"iterations": 60, "batch_size": 5}))
    assert lines[-1]["losses"]["total"] < 0.05 * lines[0]["losses"]["total"]


def test_run_folder_holds_what_the_plan_says(run):
    folder = run()
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files == {
        "settings.yml",
        "command.txt",
        "train.log",
        "losses.jsonl",
        *(f"checkpoints/0000000{number}.ckpt" for number in (2, 4, 6)),
        # Five samples, one a batch: the sixth iteration is the second epoch's first.
        *(f"weights/{name}.pt" for name in ("0_2", "0_4", "1_6")),
    }


def test_last_iteration_is_kept_whatever_the_plan_says(run):
    folder = run(plan=lambda settings, length: Plan(3, 2, 100))
    assert [file.name for file in (folder / "checkpoints").iterdir()] == ["00000003.ckpt"]
    assert sorted(file.name for file in (folder / "weights").iterdir()) == ["0_2.pt", "0_3.pt"]


def test_the_last_weights_have_a_second_name_where_the_paper_says_so(run):
    folder = run(latest_name="weights/latest.pt")
    assert equal(
        read_weights(folder / "weights" / "latest.pt"), read_weights(folder / "weights" / "1_6.pt")
    )


def test_a_named_run_is_archived_by_the_next(run, tmp_path):
    first = run(run={"name": "mine"})
    kept = (first / "settings.yml").read_text()
    assert first == tmp_path / "runs" / "mine" == run(run={"name": "mine"})
    [archived] = (tmp_path / "runs").glob("mine_archived_*")
    assert (archived / "settings.yml").read_text() == kept


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", ""])
def test_a_runs_name_is_no_path(name):
    with pytest.raises(ValidationError):
        RunSettings(name=name)


def test_notes_stand_once_in_the_log(paper, procedure, settings_in):
    folder = train(paper(), procedure(), settings_in(), notes=["this has no effect"])
    assert (folder / "train.log").read_text().count("this has no effect") == 1


def test_an_enlarged_epoch_is_so_many_times_longer(run):
    folder = run({"iterations": 12, "batch_size": 5}, enlarge=10)
    assert [line["epoch"] for line in losses(folder)] == [0] * 10 + [1] * 2


def test_published_weights_have_the_published_names(run, paper):
    folder = run()
    state = read_weights(folder / "weights" / "1_6.pt")
    assert all(key.startswith("net.") for key in state)
    network = paper().network(state)
    load_into(network, paper().from_published(state), folder)
    assert equal(network.state_dict(), weights(folder))


def test_checkpoint_says_what_it_is_of(run):
    content = read_checkpoint(run() / "checkpoints" / "00000004.ckpt")
    assert (content["paper"], content["procedure"], content["iteration"]) == ("tiny", "Train", 4)
    assert content["versions"]["torch"] == torch.__version__
    assert content["settings"]["train"]["lr"] == 0.05
    assert content["optimizer"]["state"][0]["step"] == 4


def test_settings_load_back_equal(run, settings_in, procedure):
    folder = run({"lr": 1e-5, "clip_norm": 0.5})
    back = load_settings(procedure().settings, folder / "settings.yml")
    assert back == settings_in(lr=1e-5, clip_norm=0.5)


def test_log_tells_the_versions_and_the_end(run):
    log = (run() / "train.log").read_text()
    assert f"torch {torch.__version__}" in log
    assert "5 samples, 6 iterations of 5 to an epoch, on cpu" in log
    assert "finished after 6 iterations" in log


def test_losses_are_one_line_an_entry(run):
    lines = losses(run())
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == [0, 0, 0, 0, 0, 1]
    assert all(line["lr"] == [0.05] for line in lines)
    assert all(line["losses"]["l2"] == line["losses"]["total"] > 0 for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_logged_losses_are_means_since_the_last_line(run):
    every = [line["losses"]["l2"] for line in losses(run())]
    fourth = losses(run(run={"log_every": 4}))
    assert [line["iteration"] for line in fourth] == [4, 6]
    means = [line["losses"]["l2"] for line in fourth]
    assert means == pytest.approx([np.mean(every[:4]), np.mean(every[4:])])


def test_total_is_the_sum_of_the_named_losses(run):
    def objective(settings, device):
        def both(network, batch, iteration):
            value = network(batch["low"]).mean()
            return {"a": value**2, "b": 2 * value**2 + 1}

        return both

    line = losses(run(objective=objective))[0]["losses"]
    assert line["total"] == pytest.approx(line["a"] + line["b"])


def test_tensorboard_has_its_files(run):
    folder = run(run={"tensorboard": True})
    assert [file.name.startswith("events.") for file in (folder / "tensorboard").iterdir()] == [
        True
    ]


def test_two_runs_in_one_second_have_two_folders(run):
    first, second = run({"iterations": 1}), run({"iterations": 1})
    assert first != second
    assert len(losses(first)) == len(losses(second)) == 1


def test_equal_seeds_give_equal_weights_to_the_bit(run):
    one, same, other = (run({"seed": seed, "batch_size": 2}) for seed in (3, 3, 4))
    assert equal(weights(one), weights(same))
    assert not equal(weights(one), weights(other))


@pytest.mark.multiprocess
def test_workers_give_equal_weights(run):
    assert equal(weights(run()), weights(run({"workers": 1})))


def test_loss_that_is_no_number_stops_before_the_weights_are_touched(run, tmp_path):
    seen = []

    def objective(settings, device):
        def fails_at_five(network, batch, iteration):
            seen.append({key: value.clone() for key, value in network.state_dict().items()})
            loss = network(batch["low"]).square().mean()
            return {"good": loss, "bad": loss * (math.nan if iteration == 5 else 1)}

        kept.append(fails_at_five)
        return fails_at_five

    kept, networks = [], []

    def network(settings):
        networks.append(nn.Conv2d(3, 3, 1))
        return networks[-1]

    with pytest.raises(UserError, match="iteration 5: the loss is not a finite number") as caught:
        run(objective=objective, network=network)
    assert "bad nan" in str(caught.value)
    assert "lower the learning rate" in str(caught.value)
    assert equal(networks[0].state_dict(), seen[-1])
    folder = next((tmp_path / "runs").iterdir())
    content = read_checkpoint(folder / "checkpoints" / "00000004.ckpt")
    assert equal(content["network"], seen[-1])
    assert not (folder / "checkpoints" / "00000005.ckpt").exists()


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_loss_stops_too(run, value):
    def objective(settings, device):
        return lambda network, batch, iteration: {"l": network(batch["low"]).mean() + value}

    with pytest.raises(UserError, match="iteration 1: the loss is not a finite number"):
        run(objective=objective)


def test_gradient_that_is_no_number_stops_before_the_weights_are_touched(run):
    networks = []

    def network(settings):
        networks.append(nn.Conv2d(3, 3, 1))
        return networks[-1]

    def objective(settings, device):
        # The root's value at 0 is 0, and its gradient infinite.
        return lambda network, batch, iteration: {"l": (network.weight * 0).sum().sqrt()}

    with pytest.raises(UserError, match="iteration 1: the gradient is not a finite number"):
        run(objective=objective, network=network)
    assert all(value.isfinite().all() for value in networks[0].state_dict().values())


def test_warnings_from_before_the_run_folder_stand_in_its_log(run):
    def objective(settings, device):
        logging.getLogger("llve_common.paper.contract").warning("without weights")
        return lambda network, batch, iteration: {"l": network(batch["low"]).square().mean()}

    assert "WARNING without weights" in (run(objective=objective) / "train.log").read_text()


def test_empty_set_is_an_error_before_a_folder_is_made(run, tiny_set, tmp_path):
    with pytest.raises(DataError, match="Train: the training set is empty"):
        run(data=lambda settings: tiny_set(length=0))
    assert not (tmp_path / "runs").exists()


class Mixed:
    """Pictures of two sizes."""

    def __len__(self):
        return 2

    def sample(self, index, rng):
        return {"low": torch.zeros(3, 4 + index, 4), "high": torch.zeros(3, 4 + index, 4)}


@pytest.mark.parametrize(
    "workers",
    [
        0,
        pytest.param(1, marks=pytest.mark.multiprocess),
    ],
)
def test_mixed_sizes_are_an_error_that_says_how_to_mend(run, workers):
    with pytest.raises(DataError, match="the images of a batch differ in size") as caught:
        run({"batch_size": 2, "workers": workers}, data=lambda settings: Mixed())
    assert "(3, 4, 4), (3, 5, 4)" in str(caught.value)
    assert "train.batch_size=1" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_mixed_sizes_one_by_one_are_fine(run):
    assert len(losses(run(data=lambda settings: Mixed()))) == 6


def test_nested_samples_are_stacked_in_their_nesting():
    samples = [{"a": {"low": torch.full((3, 2, 2), n)}, "b": torch.tensor(n)} for n in (0.0, 1.0)]
    batch = stack_samples(samples)
    assert batch["a"]["low"].shape == (2, 3, 2, 2)
    assert batch["b"].tolist() == [0, 1]
    with pytest.raises(DataError, match=r"\(3, 2, 2\), \(3, 3, 2\)"):
        stack_samples([samples[0], {"a": {"low": torch.zeros(3, 3, 2)}, "b": torch.tensor(0.0)}])


def test_nested_batches_reach_the_objective(run, tiny_set):
    class Nested(tiny_set):
        def sample(self, index, rng):
            return {"real": super().sample(index, rng), "name": str(index)}

    seen = []

    def objective(settings, device):
        def take(network, batch, iteration):
            seen.append((tuple(batch["real"]["low"].shape), len(batch["name"])))
            return {"l": network(batch["real"]["low"]).square().mean()}

        return take

    run({"batch_size": 2, "iterations": 3}, data=lambda settings: Nested(), objective=objective)
    assert seen == [((2, 3, 8, 8), 2), ((2, 3, 8, 8), 2), ((1, 3, 8, 8), 1)]


def test_rates_and_modes_are_set_before_each_step(run):
    seen = []

    def schedule(settings, optimizer, progress):
        optimizer.param_groups[0]["lr"] = 0.1 * progress.iteration
        seen.append(("schedule", progress.iteration, progress.epoch_length))

    def objective(settings, device):
        def note(network, batch, iteration):
            seen.append(("objective", iteration, network.training))
            return {"l": network(batch["low"]).square().mean()}

        return note

    folder = run(
        {"iterations": 3},
        schedule=schedule,
        objective=objective,
        before_step=lambda settings, network, iteration: network.train(iteration != 2),
    )
    assert seen == [
        *[("schedule", 1, 5), ("objective", 1, True)],
        *[("schedule", 2, 5), ("objective", 2, False)],
        *[("schedule", 3, 5), ("objective", 3, True)],
    ]
    assert [line["lr"][0] for line in losses(folder)] == pytest.approx([0.1, 0.2, 0.3])


def test_rate_of_zero_changes_no_weight(run):
    def schedule(settings, optimizer, progress):
        optimizer.param_groups[0]["lr"] = 0.0

    folder = run(schedule=schedule)
    assert equal(
        read_weights(folder / "weights" / "0_2.pt"), read_weights(folder / "weights" / "1_6.pt")
    )


def test_published_files_may_hold_more_than_weights(run):
    def published(settings, network, optimizer, progress):
        return {"net": network.state_dict(), "epoch": progress.epochs}

    folder = run(published=published, weights_name="{settings.train.lr}_{epochs}.pth")
    assert {file.name for file in folder.glob("*.pth")} == {"0.05_1.pth", "0.05_2.pth"}
    content = torch.load(folder / "0.05_2.pth", weights_only=True)
    assert content["epoch"] == 2
    assert equal(read_weights(folder / "0.05_2.pth"), content["net"])


def test_several_parameter_groups(run):
    def optimizer(settings, network):
        groups = [{"params": [network.conv.weight], "lr": 0.0}, {"params": [network.conv.bias]}]
        return torch.optim.Adam(groups, lr=0.05)

    folder = run(optimizer=optimizer)
    assert losses(folder)[0]["lr"] == [0.0, 0.05]
    early, late = (read_weights(folder / "weights" / name) for name in ("0_2.pt", "1_6.pt"))
    assert torch.equal(early["net.conv.weight"], late["net.conv.weight"])
    assert not torch.equal(early["net.conv.bias"], late["net.conv.bias"])


def test_clipping_bounds_the_step(run):
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

        run({"clip_norm": clip, "iterations": 2}, objective=objective, optimizer=sgd)
        return norms

    assert steps(0.01) == pytest.approx([0.01], rel=1e-3)
    assert steps(None)[0] > 1


def test_previews_are_made_in_evaluation_mode_and_the_modes_come_back(run):
    modes, training = [], []

    def before_step(settings, network, iteration):
        if iteration == 1:
            network.train()
            network.norm.eval()
        training.append((network.training, network.norm.training))

    def previews(settings, network, progress, clips):
        modes.append((network.training, torch.is_grad_enabled(), progress.iteration))
        yield f"image_epochs/a_{progress.epoch}.png", torch.full((3, 4, 4), 0.5)

    folder = run(
        plan=lambda settings, length: Plan(5, 10, 10, preview_every=2),
        before_step=before_step,
        previews=previews,
    )
    assert modes == [(False, False, 2), (False, False, 4), (False, False, 5)]
    assert training == [(True, False)] * 5
    assert read_image(folder / "image_epochs" / "a_0.png").pixels.tolist() == [[[128] * 3] * 4] * 4


def test_validation_is_scored_when_the_plan_says(run, image_file, caplog):
    low, high = image_file("low.png"), image_file("high.png", seed=1)
    calls = []

    def validation(settings):
        calls.append(settings)
        return [Clip("pairs", (low,), (high,))]

    with caplog.at_level(logging.INFO):
        run(plan=lambda settings, length: Plan(4, 10, 10, validate_every=2), validation=validation)
    assert len(calls) == 1
    said = [line for line in caplog.messages if ", validation: " in line]
    assert [line.split(":")[0] for line in said] == [
        "iteration 2, validation",
        "iteration 4, validation",
    ]
    assert "psnr" in said[0]
    assert "input" not in said[0]


def test_previews_see_the_clips_that_are_scored(run, image_file):
    clip, seen = Clip("pairs", (image_file("low.png"),)), []

    def previews(settings, network, progress, clips):
        seen.append(list(clips))
        return iter(())

    plan = Plan(2, 10, 10, preview_every=1)
    run(plan=lambda *_: plan, validation=lambda settings: [clip], previews=previews)
    assert seen == [[clip], [clip]]


def test_nothing_is_scored_where_there_is_no_clip(run, caplog):
    plan = Plan(2, 10, 10, validate_every=1)
    with caplog.at_level(logging.INFO):
        run(plan=lambda *_: plan, validation=lambda settings: [])
    assert "validation" not in caplog.text


def test_plan_without_previews_and_validation_calls_neither(run):
    def never(*args):
        raise AssertionError("called")

    run(previews=never, validation=never)


def test_evaluating_restores_the_modes_after_an_error():
    network = nn.Sequential(nn.Dropout(), nn.Dropout()).train()
    network[0].eval()

    def fail():
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in network.modules()] == [True, False, True]


def test_watcher_is_told_every_iteration(paper, procedure, settings_in):
    told = []
    train(
        paper(),
        procedure(),
        settings_in({"log_every": 100}, iterations=3),
        watch=lambda *each: told.append(each),
    )
    assert [each[:2] for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(loss > 0 for *_, loss in told)


def test_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match="the run's folder cannot be made"):
        run()
