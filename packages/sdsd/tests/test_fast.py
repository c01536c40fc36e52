"""Streaming: several clips at once, and the widest features by blocks of rows."""

from collections import Counter

import pytest
import torch
from torch import nn

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


def test_blocks_of_rows_cover_the_image_whatever_their_size(monkeypatch):
    network = small_network().to(memory_format=torch.channels_last)
    branch, fused = network.branches()[0], torch.rand(1, 16, 8, 12) - 0.5
    with torch.inference_mode():
        plain = reconstructed(branch, fused)
        for rows in (1, 3, 5, 16, 100):
            monkeypatch.setattr(fast, "_BLOCK", rows * 4 * 4 * 256 * 24)
            image = fast._by_rows(branch, fused)
            torch.testing.assert_close(image, plain, rtol=1e-5, atol=1e-6)


def test_no_layer_sees_twice_a_frame_that_stands_in_for_others():
    network, calls = small_network(), Counter[nn.Module]()
    image = torch.rand(1, 3, 32, 48) * 0.3
    with torch.inference_mode():
        whole = network(torch.stack([image] * 5, 1)).enhanced
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda layer, *_: calls.update([layer]))
        [alone] = enhance_clip(Model(PAPER, network), [image])
    assert set(calls.values()) == {1}
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_several_clips_at_once_equal_whole_windows(attention, on_gpu, monkeypatch):
    if on_gpu:
        monkeypatch.setattr(fast, "_one_by_one", fast._at_once)
        monkeypatch.setattr(fast, "_by_rows", fast._whole)
    network = small_network(attention=attention)
    frames = torch.rand(2, 5, 3, 32, 48) * 0.3
    with torch.inference_mode():
        streamed = combine(
            network, [part(network, each[:, None]) for each in frames.unbind(1)], (0,)
        )
        whole = network(frames).enhanced
    torch.testing.assert_close(streamed[:, 0], whole, rtol=1e-5, atol=1e-5)
