"""TCE-Net cut in two for the window engine: the same result."""

import torch

from llve_tcenet.fast import combine, part
from llve_tcenet.network import TCENet
from llve_tcenet.paper import OUTPUTS, PAPER


def test_both_outputs_on_request():
    torch.manual_seed(0)
    network, frames = TCENet().eval(), torch.rand(2, 6, 3, 32, 32)
    with torch.inference_mode():
        parts = [part(network, frames[:, start : start + 5]) for start in (0, 1)]
        both = combine(network, parts, OUTPUTS)
        second = combine(network, parts, (1,))
        whole = PAPER.enhance(network, frames)
    torch.testing.assert_close(both, whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(second[:, 0], whole[:, 1], rtol=0, atol=1e-4)
