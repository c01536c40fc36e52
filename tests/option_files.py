"""Option files of small runs, as the published scripts of SDSD and STCD take them."""

from pathlib import Path
from typing import Any

import yaml


def write_option_file(
    folder: Path,
    command: str,
    root: Path,
    *,
    clips: str,
    size: list[int],
    weights: Path | None,
    own: dict[str, dict[str, Any]],
) -> Path:
    """Write a published option file.

    Args:
        folder: for the file, and for what the command writes.
        command: ``train`` or ``test``.
        root: holds GT and input.
        clips: the test's, with commas between them.
        size: width and height that frames are resized to.
        weights: to test, or to start from.
        own: what is the paper's own, by section; ``top`` for keys of none.
    """
    data = {
        "name": "tiny", "dataroot_GT": str(root / "GT"), "dataroot_LQ": str(root / "input"),
        "train_size": size, "N_frames": 5, "padding": "new_info", "cache_data": True,
        "testing_dir": clips, **own[command],
    }  # fmt: skip
    start = None if weights is None else str(weights)
    network = {"nframes": 5, "front_RBs": 1, "predeblur": True, "HR_in": True, "w_TSA": True}
    content = {
        "name": "tiny", "distortion": "sr", "scale": 1, "gpu_ids": [0], **own["top"],
        "network_G": network | own["network_G"],
        "path": {"root": str(folder), "pretrain_model_G": start, **own["path"]},
        "datasets": {command: data},
    }  # fmt: skip
    if command == "train":
        content["datasets"]["val"] = dict(data)
        data |= {
            "batch_size": 2, "GT_size": 16, "LQ_size": 16, "n_workers": 0,
            "use_flip": True, "use_rot": True, "use_shuffle": True, "color": "RGB",
        }  # fmt: skip
        content["train"] = {
            "lr_G": 1e-5, "lr_scheme": "CosineAnnealingLR_Restart", "beta1": 0.9, "beta2": 0.99,
            "warmup_iter": -1, "restart_weights": [1], "eta_min": 1e-7, "pixel_criterion": "cb",
            "pixel_weight": 1.0, "val_freq": 2.0, **own["schedule"],
        }  # fmt: skip
        every = own["schedule"]["niter"] / 2
        content["logger"] = {"print_freq": 1, "save_checkpoint_freq": every}
    file = folder / f"{command}.yml"
    file.write_text(yaml.dump(content))
    return file
