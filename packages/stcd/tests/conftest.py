"""What STCD's tests share: published option files of small runs, random frames and networks."""

from functools import partial

import pytest
import torch
from option_files import write_option_file

from llve_stcd.network import STCD

OWN = {
    "top": {"model": "video_base4_m2"},
    "network_G": {
        "which_model_G": "low_light_transformer42", "nf": 64, "groups": 8, "back_RBs": 1,
    },
    "path": {"strict_load": False},
    "train": {"mode": "video_samesize_SDSD_train"},
    "test": {"mode": "video_samesize_SDSD_test"},
    "schedule": {
        "niter": 4, "ft_tsa_only": 0, "T_period": [4], "restarts": [4], "manual_seed": 11,
    },
}  # fmt: skip


@pytest.fixture(name="write_option_file")
def write_option_file_fixture():
    return partial(write_option_file, own=OWN)


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
