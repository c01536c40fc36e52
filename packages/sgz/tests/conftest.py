"""What the tests of SGZ share."""

from collections.abc import Callable

import pytest
import torch

from llve_sgz.network import Enhancer


@pytest.fixture(scope="session")
def network_of() -> Callable[..., Enhancer]:
    """Makes a network of a scale factor and kind of convolutions, the same every time."""

    def make(scale: int, conv_type: str = "dsc") -> Enhancer:
        torch.manual_seed(0)
        network = Enhancer(scale, conv_type).eval().requires_grad_(False)
        # New networks give factors near 0, which hide mistakes.
        state = network.e_conv7.state_dict()
        network.e_conv7.load_state_dict({name: 9 * value for name, value in state.items()})
        return network

    return make
