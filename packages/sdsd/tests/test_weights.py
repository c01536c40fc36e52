"""The published names, and the network that weights belong to."""

import pytest

from llve_common.errors import CheckpointError
from llve_common.weights.files import load_into
from llve_sdsd.network import RetinexNet
from llve_sdsd.weights import network_arguments

SMALL = {
    "nf": 16, "nframes": 3, "groups": 4, "front_blocks": 1, "back_blocks": 2, "attention": True,
    "last_features": 12,
}  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [{}, {"attention": False}, {"nframes": 5}, {"nf": 8}, {"groups": 2}, {"front_blocks": 2},
     {"back_blocks": 1}, {"last_features": 64}],
)  # fmt: skip
def test_shapes_tell_how_the_network_was_built(changed):
    arguments = SMALL | changed
    assert network_arguments(RetinexNet(**arguments).state_dict()) == arguments


def test_weights_that_lack_a_key_name_it():
    state = RetinexNet(**SMALL).state_dict()
    for missing in ("conv_first_1.weight", "tsa_fusion.fea_fusion.weight"):
        partial = {key: value for key, value in state.items() if key != missing}
        network = RetinexNet(**network_arguments(partial))
        with pytest.raises(CheckpointError, match=f"missing {missing}"):
            load_into(network, partial, "partial.pth")
