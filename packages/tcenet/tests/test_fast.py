"""TCE-Net cut in two for the window engine: the same result, each five frames encoded once."""

import pytest
import torch

from llve_common.data.windows import reflected
from llve_common.enhance.windows import enhance_clip
from llve_common.paper.contract import Model
from llve_tcenet.fast import combine, part
from llve_tcenet.network import TCENet
from llve_tcenet.paper import INPUTS, OUTPUTS, PAPER


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TCENet().eval()


class Count:
    """Counts the calls of a module."""

    def __init__(self, module):
        self.calls = 0
        module.register_forward_hook(self.add)

    def add(self, *_):
        self.calls += 1


def test_the_streams_offsets_are_the_windows():
    stream = PAPER.stream
    offsets = {first + second for first in stream.parts for second in stream.frames}
    assert sorted(offsets) == list(INPUTS) == list(PAPER.window.inputs)


def test_streamed_frames_equal_whole_windows(network):
    frames = [torch.rand(1, 3, 32, 36) for _ in range(9)]
    encoded, decoded = Count(network.encoder), Count(network.decoder)
    streamed = list(enhance_clip(Model(PAPER, network), frames))
    # One encoding for each frame, and one beyond the clip's end.
    assert (encoded.calls, decoded.calls) == (10, 9)
    for number, frame in enumerate(streamed):
        window = [frames[reflected(number + offset, 8)] for offset in INPUTS]
        with torch.inference_mode():
            whole = PAPER.enhance(network, torch.stack(window, 1))[:, 0]
        torch.testing.assert_close(frame, whole, rtol=0, atol=1e-4)
        assert frame.std() > 1e-3


def test_both_outputs_on_request(network):
    frames = torch.rand(2, 6, 3, 32, 32)
    with torch.inference_mode():
        parts = [part(network, frames[:, start : start + 5]) for start in (0, 1)]
        both = combine(network, parts, OUTPUTS)
        second = combine(network, parts, (1,))
        whole = PAPER.enhance(network, frames)
    torch.testing.assert_close(both, whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(second[:, 0], whole[:, 1], rtol=0, atol=1e-4)


def test_a_clip_shorter_than_a_window(network):
    frames = [torch.rand(1, 3, 16, 16) for _ in range(3)]
    assert len(list(enhance_clip(Model(PAPER, network), frames))) == 3
