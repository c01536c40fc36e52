from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llve_common.errors import CheckpointError
from llve_common.weights.network import evaluating, fitting_network


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


def test_names_make_no_more_layers_than_the_file_holds_weights_of():
    made = []

    def network(state, settings):
        return nn.Sequential(*(made.append(place) or nn.Linear(2, 2) for place in range(10**6)))

    with pytest.raises(CheckpointError, match="layers that the file holds no weights of"):
        fitting_network(SimpleNamespace(network=network), {"0.bias": torch.ones(2)}, Path("x.pt"))
    assert len(made) <= 501
