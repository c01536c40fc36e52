"""What TCE-Net's tests share: weights, which do not come with the package, and small data sets."""

from pathlib import Path

import pytest
import torch

from llve_common.data.synthetic import write_clip_set
from llve_common.weights.files import write_weights
from llve_tcenet.network import TCENet


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory) -> Path:
    """Weights as torch draws them, which at least let a picture through."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    write_weights(path, TCENet().state_dict())
    return path


def write_pairs(folder: Path, **options: int) -> list[str]:
    """Write the embedded set with lists; the options of ``tcenet train`` that point at it.

    The real and the synthetic videos are the same ones.
    """
    sizes = {"clips": 1, "frames": 7, "height": 40, "width": 48} | options
    write_clip_set(folder, suffix=".png", **sizes)
    return [
        "--data_path", str(folder / "input"), "--target_path", str(folder / "GT"),
        "--syn_dir", str(folder / "input"), "--syn_ref_dir", str(folder / "GT"),
        "data.real.list=null", "data.synthetic.list=null", "objective.flow=dis",
        "objective.perceptual=false", "train.crop=32", "train.workers=0",
    ]  # fmt: skip


@pytest.fixture(name="pairs")
def pairs_fixture():
    return write_pairs
