"""What STCD's tests share: published option files of small runs, random frames and networks."""

from pathlib import Path

import pytest
import torch
import yaml

from llve_stcd.network import STCD

BASE = {
    "model": "video_base4_m2", "distortion": "sr", "scale": 1, "gpu_ids": [0],
    "network_G": {
        "which_model_G": "low_light_transformer42", "nf": 64, "nframes": 5, "groups": 8,
        "front_RBs": 1, "back_RBs": 1, "predeblur": True, "HR_in": True, "w_TSA": True,
    },
}  # fmt: skip


def write_option_file(
    folder: Path, command: str, root: Path, *, clips: str, size: list[int], weights: Path | None
) -> Path:
    """Write a published option file.

    Args:
        folder: for the file, and for what the command writes.
        command: ``train`` or ``test``.
        root: holds GT and input.
        clips: the test's, with commas between them.
        size: width and height that frames are resized to.
        weights: to test, or to start from.
    """
    data = {
        "name": "tiny", "mode": f"video_samesize_SDSD_{command}", "dataroot_GT": str(root / "GT"),
        "dataroot_LQ": str(root / "input"), "train_size": size, "N_frames": 5,
        "padding": "new_info", "cache_data": True, "testing_dir": clips,
    }  # fmt: skip
    start = None if weights is None else str(weights)
    path = {"root": str(folder), "pretrain_model_G": start, "strict_load": False}
    content = BASE | {"name": "tiny", "path": path, "datasets": {command: data}}
    if command == "train":
        content["datasets"]["val"] = dict(data)
        data |= {
            "batch_size": 2, "GT_size": 16, "LQ_size": 16, "n_workers": 0,
            "use_flip": True, "use_rot": True, "use_shuffle": True, "color": "RGB",
        }  # fmt: skip
        content["train"] = {
            "lr_G": 1e-5, "lr_scheme": "CosineAnnealingLR_Restart", "beta1": 0.9, "beta2": 0.99,
            "niter": 4, "ft_tsa_only": 0, "warmup_iter": -1, "T_period": [4], "restarts": [4],
            "restart_weights": [1], "eta_min": 1e-7, "pixel_criterion": "cb", "pixel_weight": 1.0,
            "val_freq": 2.0, "manual_seed": 11,
        }  # fmt: skip
        content["logger"] = {"print_freq": 1, "save_checkpoint_freq": 2.0}
    file = folder / f"{command}.yml"
    file.write_text(yaml.dump(content))
    return file


@pytest.fixture(name="write_option_file")
def write_option_file_fixture():
    return write_option_file


def _frames(number, height=16, width=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 1, 3, height, width, generator=generator)


def _network_of(nf=16, front_blocks=2):
    torch.manual_seed(0)
    network = STCD(nf, front_blocks).eval()
    with torch.no_grad():
        # Larger than at the start, so that every part shows in the result.
        for parameter in network.parameters():
            parameter.mul_(2)
    return network


@pytest.fixture(name="frames")
def frames_fixture():
    return _frames


@pytest.fixture(name="network_of")
def network_of_fixture():
    return _network_of
