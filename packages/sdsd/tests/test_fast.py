"""Streaming: the same frames as window by window, with each frame's features computed once."""

import pytest
import torch

from llve_common.config import Settings
from llve_common.data.windows import reflected
from llve_common.enhance.windows import enhance_clip
from llve_common.errors import DataError
from llve_common.paper.contract import Paper, Stream, Window
from llve_sdsd import fast
from llve_sdsd.fast import combine, part
from llve_sdsd.network import RetinexNet, reconstructed


def small_network() -> RetinexNet:
    """Random weights, offsets included, which start at zero."""
    torch.manual_seed(0)
    network = RetinexNet(nf=16, groups=4, front_blocks=1, back_blocks=1)
    for name, weight in network.named_parameters():
        if "conv_offset_mask" in name:
            torch.nn.init.normal_(weight, std=0.1)
    # Well away from the smallest illumination, which would enlarge rounding a thousand times.
    torch.nn.init.constant_(network.conv_last.bias, 0.7)
    return network.eval()


def paper() -> Paper:
    """As much of the contract as streaming looks at."""
    return Paper(
        name="sdsd",
        title="SDSD",
        package="llve_sdsd",
        network=lambda state: RetinexNet(),
        enhance=lambda network, frames: network(frames).enhanced[:, None],
        window=Window(inputs=(-2, -1, 0, 1, 2), outputs=(0,), multiple=16),
        rounding="round",
        procedures={},
        test_settings=Settings,
        to_published=dict,
        from_published=dict,
        stream=Stream(frames=(0,), parts=(-2, -1, 0, 1, 2), part=part, combine=combine),
    )


def clip(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, 32, 48, generator=generator) * 0.3 for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_streaming_equals_window_by_window(count, monkeypatch):
    # Blocks of three rows, so that there are several.
    monkeypatch.setattr(fast, "_BLOCK", 3 * 4 * 4 * 256 * 24)
    network, frames = small_network(), clip(count)
    streamed = list(enhance_clip(paper(), network, frames))
    assert len(streamed) == count
    for centre, frame in enumerate(streamed):
        indices = [reflected(centre + offset, count - 1) for offset in range(-2, 3)]
        with torch.inference_mode():
            whole = network(torch.stack([frames[index] for index in indices], 1)).enhanced
        torch.testing.assert_close(frame, whole, rtol=1e-5, atol=1e-5)


def test_features_of_each_frame_are_computed_once():
    network, frames = small_network(), clip(6)
    seen = []
    network.conv_first_1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    list(enhance_clip(paper(), network, frames))
    assert len(seen) == len(frames)
    # The first window asks for its mirrored frames first.
    assert all(any(torch.equal(frame, each) for each in seen) for frame in frames)


def test_blocks_of_rows_cover_the_image_whatever_their_size(monkeypatch):
    network = small_network().to(memory_format=torch.channels_last)
    branch, fused = network.branches()[0], torch.rand(1, 16, 8, 12) - 0.5
    with torch.inference_mode():
        plain = reconstructed(branch, fused)
        for rows in (1, 5, 16, 100):
            monkeypatch.setattr(fast, "_BLOCK", rows * 4 * 4 * 256 * 24)
            image = fast._by_rows(branch, fused)
            torch.testing.assert_close(image, plain, rtol=1e-5, atol=1e-6)


def test_several_clips_at_once():
    network = small_network()
    first, second = clip(5), [frame.flip(-1) for frame in clip(5)]
    with torch.inference_mode():
        both = [part(network, torch.cat(pair)[:, None]) for pair in zip(first, second, strict=True)]
        together = combine(network, both, (0,))
        alone = combine(network, [part(network, frame[:, None]) for frame in second], (0,))
    assert together.shape == (2, 1, 3, 32, 48)
    torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-5)


def test_a_frame_that_is_not_padded():
    with pytest.raises(DataError, match="multiples of 16"):
        part(small_network(), torch.zeros(1, 1, 3, 30, 48))
