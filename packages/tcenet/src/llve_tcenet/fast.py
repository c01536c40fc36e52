"""TCE-Net cut in two, so that neighbouring windows share the encoding of their five common frames.

These are the halves of a :class:`Stream`, each part of five frames. Of the two
encodings that a window combines, only those are decoded whose frame is wanted.
"""

import torch
from torch import Tensor, nn

from llve_tcenet.network import Encoding, TCENet


def part(network: nn.Module, frames: Tensor) -> Encoding:
    """The encoding of five frames (N, 5, 3, H, W), RGB in [0, 1]."""
    assert isinstance(network, TCENet)
    encoding: Encoding = network.encoder(frames)
    return encoding


def combine(network: nn.Module, parts: list[Encoding], outputs: tuple[int, ...]) -> Tensor:
    """The wanted middle frames of two neighbouring encodings, (N, wanted, 3, H, W), not bounded.

    The encodings are of frames 0 to 4 and of frames 1 to 5 of a window.
    """
    assert isinstance(network, TCENet)
    exchanged = network.exchange(*parts)
    return torch.stack([network.decoder(exchanged[output]) for output in outputs], dim=1)
