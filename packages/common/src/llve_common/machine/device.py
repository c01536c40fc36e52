"""Which device to compute on."""

from __future__ import annotations

import torch

from llve_common.errors import ConfigError
from llve_common.machine.processes import processes


def choose_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names; auto takes a GPU if any.

    Under torchrun each process takes the GPU of its own number.

    Raises:
        ConfigError: a GPU is asked for and there is none of that number.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    local = processes()
    if name == "cuda" and local.count > 1:
        name = f"cuda:{local.local_rank}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "no such CUDA device",
            where="device",
            got=name,
            expected=f"one of {torch.cuda.device_count()} CUDA devices, cpu, or auto",
            mend="use device auto, which takes the CPU where there is no GPU",
        )
    return device
