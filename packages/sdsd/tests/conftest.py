"""What SDSD's tests share: option files as the published scripts take, of small runs."""

from functools import partial

import pytest
from option_files import write_option_file

OWN = {
    "top": {"model": "video_base"},
    "network_G": {
        "which_model_G": "denoise_illumination_enhance", "nf": 16, "groups": 4, "back_RBs": 2,
    },
    "path": {},
    "train": {"mode": "video_samesize"},
    "test": {"mode": "video_samesize"},
    "schedule": {
        "niter": 6, "ft_tsa_only": 3, "T_period": [3, 3], "restarts": [3], "manual_seed": 2318,
    },
}  # fmt: skip


@pytest.fixture(name="write_option_file")
def write_option_file_fixture():
    return partial(write_option_file, own=OWN)
