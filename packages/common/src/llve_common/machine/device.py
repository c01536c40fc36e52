"""Which device to compute on, and in which number format."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import get_args

import torch

from llve_common.config import DEVICES, AnyPrecision, Precision, known_device
from llve_common.errors import ConfigError
from llve_common.machine.processes import processes

log = logging.getLogger(__name__)


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


def choose_precision(name: AnyPrecision, device: torch.device, *, pays: bool) -> Precision:
    """The number format of a name.

    ``auto`` is bf16 on a processor with instructions for it (AVX512-BF16, AMX) and on a CUDA device
    of compute capability 8.0, fp16 on an older one, and fp32 elsewhere, or where no half
    format pays for the network at hand.

    Raises:
        ConfigError: there is no such format, or it is fp16 on a CPU.
    """
    if name not in get_args(AnyPrecision):
        expected = ", ".join(get_args(AnyPrecision))
        raise ConfigError("no such precision", where="precision", got=name, expected=expected)
    if name == "fp16" and device.type == "cpu":
        what, expected = "fp16 is for GPUs", "auto, fp32 or bf16"
        raise ConfigError(what, where="precision", got=f"{name} on a CPU", expected=expected)
    if name != "auto":
        warn_of_emulation(name, device)
        return name
    return _fastest(device) if pays else "fp32"


def warn_of_emulation(precision: Precision, device: torch.device) -> None:
    """Say that a processor without instructions for bf16 is slower with it."""
    if precision == "bf16" and device.type == "cpu" and _fastest(device) != "bf16":
        log.warning("bf16 is emulated on this processor: fp32 is several times faster")


def _fastest(device: torch.device) -> Precision:
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    # Older versions of PyTorch do not tell.
    tell: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    multiplies = device.type == "cpu" and (tell().get("avx512_bf16") or tell().get("amx_bf16"))
    return "bf16" if multiplies else "fp32"


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to a number format; fp32 is without."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, half, enabled=half is not None)
