"""What STCD's tests share: random frames and networks."""

import pytest
import torch

from llve_stcd.network import STCD


@pytest.fixture
def frames():
    def make(number, height=16, width=20, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(number, 1, 3, height, width, generator=generator)

    return make


@pytest.fixture
def network_of():
    def make(nf=16, front_blocks=2):
        torch.manual_seed(0)
        network = STCD(nf, front_blocks).eval()
        with torch.no_grad():
            # Larger than at the start, so that every part shows in the result.
            for parameter in network.parameters():
                parameter.mul_(2)
        return network

    return make
