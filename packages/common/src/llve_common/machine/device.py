"""Which device to compute on."""

from __future__ import annotations

import torch

from llve_common.config import DEVICES, known_device
from llve_common.errors import ConfigError
from llve_common.machine.processes import processes


def choose_device(name: str) -> torch.device:
    """The device of one of the names :data:`~llve_common.config.DEVICES`; auto takes a GPU if any.

    Under torchrun each process takes the GPU of its own number.

    Raises:
        ConfigError: there is no such device, or none of that number.
    """
    try:
        known_device(name)
    except ValueError:
        what = "no such device"
        raise ConfigError(what, where="device", got=name, expected=DEVICES) from None
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    local = processes()
    if name == "cuda" and local.count > 1:
        name = f"cuda:{local.local_rank}"
    device = torch.device(name)
    mend = "use device auto, which takes the CPU where there is no GPU"
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        expected = f"one of {count} CUDA devices, cpu, or auto" if count else "cpu, or auto"
        what = "no such CUDA device"
        raise ConfigError(what, where="device", got=name, expected=expected, mend=mend)
    if device.type == "mps" and not torch.backends.mps.is_available():
        what = "this machine or this PyTorch has no Metal device"
        raise ConfigError(what, where="device", got=name, expected="cpu, or auto", mend=mend)
    return device
