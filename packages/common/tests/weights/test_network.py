import pytest
from torch import nn

from llve_common.weights.network import evaluating


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
