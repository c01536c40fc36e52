"""Published checkpoints in and out."""

import os
from pathlib import Path

import pytest
import torch

from llve_common.errors import CheckpointError
from llve_common.testing.conformance import run_command
from llve_common.weights.files import read_file, read_weights, write_published, write_weights
from llve_common.weights.network import load_model
from llve_tcenet.__main__ import app
from llve_tcenet.config import TrainSettings
from llve_tcenet.network import TCENet
from llve_tcenet.paper import PAPER, adam, build_network
from llve_tcenet.weights import network_arguments, published_checkpoint, trained_weights


@pytest.fixture(scope="module")
def trained():
    """A network and its optimizer after a step."""
    torch.manual_seed(0)
    network = TCENet()
    optimizer = adam(TrainSettings(), network)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return network, optimizer


@pytest.mark.parametrize(
    "arguments", [{"features": 32, "blocks": 16}, {"features": 4, "blocks": 3}]
)
def test_shapes_tell_how_the_network_was_built(arguments):
    assert network_arguments(TCENet(**arguments).state_dict()) == arguments


def test_checkpoints_of_several_gpus_are_read(trained, tmp_path):
    network, optimizer = trained
    content = published_checkpoint(network, optimizer, 3, 1e-4)
    content["G_net"] = {f"module.{key}": value for key, value in content["G_net"].items()}
    write_published(tmp_path / "a_epoch_3.pth", content)
    loaded = load_model(PAPER, tmp_path / "a_epoch_3.pth", torch.device("cpu")).network
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, network.state_dict()[key])


def test_exported_weights_are_wrapped_as_the_published_code_reads_them(trained, tmp_path):
    write_weights(tmp_path / "own.pt", trained[0].state_dict())
    run_command(app, "weights", "export", tmp_path / "own.pt", tmp_path / "published.pth")
    content = torch.load(tmp_path / "published.pth", weights_only=True)
    trained[0].load_state_dict(content["G_net"])


def test_training_goes_on_from_a_published_checkpoint(trained, tmp_path):
    network, optimizer = trained
    path = tmp_path / "a_epoch_1.pth"
    write_published(path, published_checkpoint(network, optimizer, 1, 1e-4))
    assert read_file(path)["epoch"] == 1
    settings = TrainSettings(weights=path, optimizer_state=True)
    again = build_network(settings)
    second = adam(settings, again)
    for ours, theirs in zip(again.parameters(), network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(second.state[ours][moment], optimizer.state[theirs][moment])
    assert adam(TrainSettings(weights=path), again).state == {}


def test_the_published_scheduler_takes_the_state_up(trained):
    """LambdaLR with the published rule, made anew and loaded, goes on at the next epoch's rate."""
    network, optimizer = trained
    content = published_checkpoint(network, optimizer, 225, 1e-4)
    again = torch.optim.Adam(network.parameters(), 1e-4)
    rule = lambda epoch: 1 - max(0, epoch + 1 - 150) / 150  # noqa: E731
    scheduler = torch.optim.lr_scheduler.LambdaLR(again, rule)
    scheduler.load_state_dict(content["lr_scheduler_g"])
    again.load_state_dict(content["g_optimizer"])
    assert scheduler.last_epoch == 225
    scheduler.step()
    assert again.param_groups[0]["lr"] == pytest.approx(1e-4 * rule(226))


def test_a_state_that_is_not_there_or_does_not_fit(trained, tmp_path):
    network, optimizer = trained
    settings = TrainSettings(weights=tmp_path / "plain.pth", optimizer_state=True)
    write_published(tmp_path / "plain.pth", network.state_dict())
    with pytest.raises(CheckpointError, match="holds no optimizer's state"):
        adam(settings, build_network(settings))
    content = published_checkpoint(network, optimizer, 1, 1e-4)
    state = dict(content["g_optimizer"]["state"])
    state[0], state[2] = state[2], state[0]
    content["g_optimizer"] = {**content["g_optimizer"], "state": state}
    write_published(tmp_path / "plain.pth", content)
    assert read_weights(tmp_path / "plain.pth").keys() == network.state_dict().keys()
    with pytest.raises(CheckpointError, match="does not fit"):
        adam(settings, build_network(settings))


def test_weights_by_version_and_epoch(tmp_path):
    """Or those of the last epoch of the newest run."""
    with pytest.raises(CheckpointError, match="no weights of that name") as caught:
        trained_weights("Mine", 7, tmp_path, Path("models"))
    assert caught.value.expected == "Mine_epoch_7.pth"
    files = [
        tmp_path / f"Train-{n}" / "models" / f"Mine_epoch_{e}.pth" for n, e in ((1, 7), (2, 3))
    ]
    for second, file in enumerate(files):
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (second, second))
    assert trained_weights("Mine", None, tmp_path, Path("models")) == files[1]
    assert trained_weights("Mine", 7, tmp_path, Path("models")) == files[0]
    assert trained_weights("Mine", None, Path("elsewhere"), files[0].parent) == files[0]
