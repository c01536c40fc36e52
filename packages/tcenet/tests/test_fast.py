"""TCE-Net cut in two for the window engine: the same result, each five frames encoded once."""

import pytest
import torch

from llve_common.enhance.windows import enhance_clip
from llve_common.paper.contract import Model
from llve_tcenet.fast import combine, part
from llve_tcenet.network import TCENet
from llve_tcenet.paper import INPUTS, OUTPUTS, PAPER


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TCENet().eval()


def test_the_streams_offsets_are_the_windows():
    stream = PAPER.stream
    offsets = {first + second for first in OUTPUTS for second in stream.frames}
    assert sorted(offsets) == list(INPUTS) == list(Model(PAPER, TCENet()).window.inputs)


def test_each_five_frames_are_encoded_once_and_each_frame_decoded_once(network):
    calls = []
    for module in (network.encoder, network.decoder):
        module.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    assert len(list(enhance_clip(Model(PAPER, network), list(torch.rand(9, 1, 3, 32, 36))))) == 9
    # One encoding for each frame, and one beyond the clip's end.
    assert (calls.count("Encoder"), calls.count("Decoder")) == (10, 9)


def test_both_outputs_on_request(network):
    frames = torch.rand(2, 6, 3, 32, 32)
    with torch.inference_mode():
        parts = [part(network, frames[:, start : start + 5]) for start in (0, 1)]
        both = combine(network, parts, OUTPUTS)
        second = combine(network, parts, (1,))
        whole = PAPER.enhance(network, frames)
    torch.testing.assert_close(both, whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(second[:, 0], whole[:, 1], rtol=0, atol=1e-4)
