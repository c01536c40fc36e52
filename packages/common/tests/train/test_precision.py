"""Parts of a batch, and half precision."""

import json

import pytest
import torch

from llve_common.paper.contract import Plan
from llve_common.train.trainer import train
from llve_common.weights.files import read_checkpoint


@pytest.fixture
def last(paper, procedure, settings_in):
    """Trains and gives the last checkpoint and the losses' lines."""

    def start(train_settings, **changes):
        folder = train(paper(), procedure(**changes), settings_in(**train_settings))
        lines = (folder / "losses.jsonl").read_text().splitlines()
        newest = sorted((folder / "checkpoints").iterdir())[-1]
        return read_checkpoint(newest), [json.loads(line)["losses"]["total"] for line in lines]

    return start


def in_float64(parts):
    """The tiny procedure in float64; its objective averages over this many parts by itself."""

    def objective(settings, device):
        def loss(network, batch, iteration):
            low, high = (batch[name].double().chunk(parts) for name in ("low", "high"))
            each = [((network(a) - b) ** 2).mean() for a, b in zip(low, high, strict=True)]
            return {"l2": torch.stack(each).mean()}

        return loss

    def network(settings):
        return torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.ConvTranspose2d(3, 3, 3)).to(
            torch.float64
        )

    return {
        "objective": objective,
        "network": network,
        "plan": lambda settings, length: Plan(settings.train.iterations, 99, 99),
    }


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulated_parts_are_averaged_also_of_a_short_batch(last, parts):
    # Five samples in batches of three: the last batch of an epoch holds two.
    chosen = {"batch_size": 3, "clip_norm": 0.1, "iterations": 4}
    state, losses = last(chosen | {"accumulate": parts}, **in_float64(1))
    wanted, wanted_losses = last(chosen, **in_float64(parts))
    assert losses == pytest.approx(wanted_losses, abs=1e-12)
    for name, value in wanted["network"].items():
        torch.testing.assert_close(state["network"][name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_and_keeps_float32_weights(last, precision):
    full, wanted = last({"batch_size": 5, "iterations": 5})
    state, losses = last({"batch_size": 5, "iterations": 5, "precision": precision})
    assert losses == pytest.approx(wanted, rel=0.05)
    assert losses != wanted
    assert {value.dtype for value in state["network"].values()} == {torch.float32}
    assert bool(state["scaler"]) == (precision == "fp16")
    assert full["scaler"] == {}


def test_scaler_counts_on_in_the_checkpoint(last):
    state, _ = last({"precision": "fp16", "iterations": 6})
    assert state["scaler"]["_growth_tracker"] == 6
