"""The window engine: the same frames as window by window, each part once, in constant memory."""

import pytest
import torch
from torch import nn

from llve_common.clips.windows import index_in_clip
from llve_common.enhance.windows import enhance_clip, enhance_inner_frames, inner_frames
from llve_common.paper.contract import Stream, Window


class Five(nn.Module):
    """Five frames to one: features of each frame, then a mix that weighs them by their place."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.mix = nn.Conv2d(20, 3, 1)
        self.calls = 0

    def part(self, frame):
        self.calls += 1
        return self.features(frame).relu()

    def forward(self, frames):
        return self.mix(torch.cat([self.part(frame) for frame in frames.unbind(1)], 1))


@pytest.fixture(name="five_frames")
def five_frames_fixture(model):
    """Makes a model that takes five frames."""

    def make(network, stream=None, border="reflection"):
        return model(
            network,
            enhance=lambda network, frames: network(frames)[:, None],
            window=Window(inputs=(-2, -1, 0, 1, 2), outputs=(0,), border=border),
            stream=stream,
        )

    return make


STREAM = Stream(
    frames=(0,),
    part=lambda network, frames: network.part(frames[:, 0]),
    combine=lambda network, parts, outputs: network.mix(torch.cat(parts, 1))[:, None],
)


def clip(length):
    generator = torch.Generator().manual_seed(length)
    return [torch.rand(1, 3, 6, 7, generator=generator) for _ in range(length)]


def window_by_window(network, frames, offsets, border="reflection"):
    """The definition: each window gathered by itself, filled in at the ends."""
    last, size = len(frames) - 1, len(offsets)
    with torch.inference_mode():
        for centre in range(len(frames)):
            places = [index_in_clip(centre + each, centre, last, size, border) for each in offsets]
            window = [frames[place] for place in places]
            yield network(torch.stack(window, 1))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6, 11])
@pytest.mark.parametrize("border", ["reflection", "replicate", "new_info", "circle"])
@pytest.mark.parametrize("stream", [None, STREAM], ids=["whole", "cut in two"])
def test_equal_to_window_by_window(five_frames, length, border, stream):
    network, frames = Five().eval(), clip(length)
    expected = list(window_by_window(network, frames, range(-2, 3), border))
    actual = list(enhance_clip(five_frames(network, stream, border), frames))
    assert len(actual) == length
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("border", ["reflection", "new_info"])
def test_each_part_is_computed_once(five_frames, border):
    network = Five().eval()
    list(enhance_clip(five_frames(network, STREAM, border), clip(20)))
    assert network.calls == 20
    network.calls = 0
    list(enhance_clip(five_frames(network), clip(20)))
    assert network.calls == 100


class Six(nn.Module):
    """Six frames to two, by two five-frame halves that share an encoder."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Conv2d(15, 4, 3, padding=1)
        self.decode = nn.Conv2d(8, 3, 1)
        self.encoded = self.decoded = 0

    def part(self, five):
        self.encoded += 1
        return self.encode(five.flatten(1, 2)).relu()

    def output(self, own, other):
        self.decoded += 1
        return self.decode(torch.cat([own, other], 1))

    def forward(self, frames):
        first, second = self.part(frames[:, :5]), self.part(frames[:, 1:])
        return torch.stack([self.output(first, second), self.output(second, first)], 1)


SIX = Window(inputs=(-2, -1, 0, 1, 2, 3), outputs=(0, 1))


@pytest.fixture
def six(model):
    """A model of six frames that is cut in two."""
    stream = Stream(
        frames=(-2, -1, 0, 1, 2),
        part=lambda network, frames: network.part(frames),
        combine=lambda network, parts, outputs: torch.stack(
            [network.output(*(parts if output == 0 else parts[::-1])) for output in outputs], 1
        ),
    )
    return model(Six().eval(), enhance=lambda network, x: network(x), window=SIX, stream=stream)


def test_parts_of_several_frames_and_only_the_wanted_output(six):
    network, frames = six.network, clip(12)
    windows = window_by_window(network, frames, range(-2, 4))
    expected = [outputs[:, 0] for outputs in windows]
    network.encoded = network.decoded = 0
    actual = list(enhance_clip(six, frames))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert network.decoded == 12
    # One for each frame, and one beyond the clip's end.
    assert network.encoded == 13


def test_memory_is_constant(five_frames):
    made: list[None] = []
    frames = (made.append(None) or frame for frame in clip(60))
    enhanced = enhance_clip(five_frames(Five().eval(), STREAM), frames)
    # Never further ahead than the window reaches.
    assert max(len(made) - done for done, _ in enumerate(enhanced, 1)) == 2


def test_inner_frames_are_those_of_windows_within_the_clip(six):
    network = six.network
    for count in (0, 5, 6, 7, 12):
        frames = clip(12)[:count]
        with torch.inference_mode():
            whole = [network(torch.stack(frames[s : s + 6], 1)) for s in range(max(0, count - 5))]
        expected = [outputs[:, 0] for outputs in whole] + [outputs[:, 1] for outputs in whole[-1:]]
        network.encoded = network.decoded = 0
        actual = list(enhance_inner_frames(six, frames))
        assert list(inner_frames(SIX, count)) == list(range(2, 2 + len(actual)))
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other)
        assert network.encoded == (count - 4 if whole else 0)
        assert network.decoded == len(actual)
