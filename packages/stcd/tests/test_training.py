"""A small training on the embedded set, with dense inverse search: plain and cached."""

import json
import math

import pytest
import torch

from llve_common.data.synthetic import write_clip_set
from llve_common.errors import CheckpointError
from llve_common.io.images import read_image
from llve_common.paper.contract import Progress
from llve_common.train.trainer import train
from llve_common.weights.files import read_weights
from llve_stcd.config import TrainSettings
from llve_stcd.paper import PAPER, objective

PROCEDURE = PAPER.procedures["train"]
LATEST = "models/latest_G.pth"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return write_clip_set(folder, clips=1, frames=3, height=20, width=24)


def settings(clips, folder, cache=None):
    return TrainSettings.model_validate(
        {
            "data": {"root": clips, "size": None},
            "network": {"nf": 8},
            "objective": {"matcher": {"cache": cache}},
            "train": {
                "batch_size": 2,
                "workers": 0,
                "iterations": 4,
                "save_every": 2,
                "validate_every": 4,
            },
            "run": {"save": folder, "device": "cpu", "log_every": 2, "tensorboard": False},
        }
    )


@pytest.fixture(scope="module")
def run(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(PAPER, PROCEDURE, settings(clips, folder, folder / "cache"))


def test_what_a_run_leaves(run):
    assert {file.name for file in (run / "models").iterdir()} == {
        "2_G.pth", "4_G.pth", "latest_G.pth",
    }  # fmt: skip
    losses = [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    for line in losses:
        *named, total = line["losses"].values()
        assert list(line["losses"]) == ["pixel", "smoothness", "correspondence", "total"]
        assert min(named) > 0
        assert math.isclose(total, sum(named), rel_tol=1e-5)
    text = (run / "train.log").read_text()
    assert "matcher: dis" in text
    assert "pairs (" in text
    # Input, view-independent part, shading, enhanced, target.
    assert read_image(run / "val_images" / "000004.png").pixels.shape == (5 * 20, 24, 3)


def test_the_cache_of_matches_changes_nothing(run, clips, tmp_path):
    plain = train(PAPER, PROCEDURE, settings(clips, tmp_path))
    wanted, cached = (read_weights(folder / "models" / "latest_G.pth") for folder in (plain, run))
    torch.testing.assert_close(cached, wanted, rtol=0, atol=0)


def test_the_rate_falls_to_its_lowest_and_stays_there():
    schedule = {"periods": (20,), "restarts": (20,)}
    short = TrainSettings.model_validate({"train": {"schedule": schedule}})
    optimizer = PROCEDURE.optimizer(short, torch.nn.Linear(1, 1))
    group = optimizer.param_groups[0]
    rates = []
    for iteration in range(1, 26):
        PROCEDURE.schedule(short, optimizer, Progress(iteration, 1))
        rates.append(group["lr"])
    expected = [1e-7 + (1e-4 - 1e-7) * (1 + math.cos(math.pi * k / 20)) / 2 for k in range(1, 21)]
    assert rates[:20] == pytest.approx(expected)
    assert set(rates[20:]) == {rates[19]}


def test_a_matcher_without_its_weights_stops_at_once():
    chosen = TrainSettings.model_validate({"objective": {"matcher": {"kind": "dkm"}}})
    with pytest.raises(CheckpointError, match="no weights"):
        objective(chosen, torch.device("cpu"))
