"""What TCE-Net's tests share: weights, which do not come with the package."""

from pathlib import Path

import pytest
import torch

from llve_common.weights.files import write_weights
from llve_tcenet.network import TCENet


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """Weights as torch draws them, which at least let a picture through."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    write_weights(path, TCENet().state_dict())
    return path
