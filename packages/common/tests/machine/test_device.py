import pytest
import torch

from llve_common.errors import ConfigError
from llve_common.machine.device import choose_precision, computing_in

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "has", "format_"),
    [
        (CPU, {"avx512_bf16": True}, "bf16"),
        (CPU, {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        (CPU, {"avx512_f": True}, "fp32"),
        (CUDA, (9, 0), "bf16"),
        (CUDA, (7, 5), "fp16"),
        (torch.device("mps"), {"avx512_bf16": True}, "fp32"),
    ],
)
def test_auto_is_what_the_device_multiplies_where_that_pays(monkeypatch, device, has, format_):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: has)
    assert choose_precision("auto", device, pays=True) == format_
    assert choose_precision("auto", device, pays=False) == "fp32"
    assert choose_precision("bf16", device, pays=False) == "bf16"


def test_bf16_that_the_processor_lacks_is_said_to_be_slow(monkeypatch, caplog):
    for has, said in (({"avx512_bf16": True}, False), ({}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        choose_precision("bf16", CPU, pays=True)
        assert ("fp32 is several times faster" in caplog.text) == said


def test_a_pytorch_that_does_not_tell_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU, pays=True) == "fp32"


@pytest.mark.parametrize(("name", "said"), [("fp16", "fp16 is for GPUs"), ("fp8", "no such")])
def test_formats_that_there_are_not(name, said):
    with pytest.raises(ConfigError, match=said):
        choose_precision(name, CPU, pays=True)


def test_float32_is_computed_in_whatever_is_around():
    weight = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), computing_in("fp32", CPU):
        assert (weight @ weight).dtype == torch.float32
    with computing_in("bf16", CPU):
        assert (weight @ weight).dtype == torch.bfloat16
