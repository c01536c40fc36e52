"""Streaming: each frame's features are computed once, and the widest by blocks of rows."""

import pytest
import torch

from llve_common.enhance.windows import enhance_clip
from llve_common.paper.contract import Model
from llve_sdsd import fast
from llve_sdsd.fast import combine, part
from llve_sdsd.network import RetinexNet, reconstructed
from llve_sdsd.paper import PAPER


def small_network(**changed: bool) -> RetinexNet:
    """Random weights, offsets included, which start at zero."""
    torch.manual_seed(0)
    network = RetinexNet(nf=16, groups=4, front_blocks=1, back_blocks=1, **changed)
    for name, weight in network.named_parameters():
        if "conv_offset_mask" in name:
            torch.nn.init.normal_(weight, std=0.1)
    # Well away from the smallest illumination, which would enlarge rounding a thousand times.
    torch.nn.init.constant_(network.conv_last.bias, 0.7)
    return network.eval()


def clip(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, 32, 48, generator=generator) * 0.3 for _ in range(count)]


def test_features_of_each_frame_are_computed_once():
    network, frames = small_network(), clip(6)
    seen = []
    network.conv_first_1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    list(enhance_clip(Model(PAPER, network), frames))
    assert len(seen) == len(frames)
    # The first window asks for its mirrored frames first.
    assert all(any(torch.equal(frame, each) for each in seen) for frame in frames)


def test_blocks_of_rows_cover_the_image_whatever_their_size(monkeypatch):
    network = small_network().to(memory_format=torch.channels_last)
    branch, fused = network.branches()[0], torch.rand(1, 16, 8, 12) - 0.5
    with torch.inference_mode():
        plain = reconstructed(branch, fused)
        for rows in (1, 3, 5, 16, 100):
            monkeypatch.setattr(fast, "_BLOCK", rows * 4 * 4 * 256 * 24)
            image = fast._by_rows(branch, fused)
            torch.testing.assert_close(image, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attention", [True, False])
def test_several_clips_at_once_equal_whole_windows(attention):
    network = small_network(attention=attention)
    frames = torch.stack([torch.cat([frame, frame.flip(-1)]) for frame in clip(5)], 1)
    with torch.inference_mode():
        streamed = combine(
            network, [part(network, each[:, None]) for each in frames.unbind(1)], (0,)
        )
        whole = network(frames).enhanced
    torch.testing.assert_close(streamed[:, 0], whole, rtol=1e-5, atol=1e-5)
