"""The window engine: the same frames as window by window, each part once, in constant memory."""

import pytest
import torch
from torch import nn

from llve_common.data.windows import reflected
from llve_common.engine.window import enhance_clip
from llve_common.paper import Paper, Stream, Window


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


def five_frames(stream=None):
    return a_paper(
        enhance=lambda network, frames: network(frames)[:, None],
        window=Window(inputs=(-2, -1, 0, 1, 2), outputs=(0,)),
        stream=stream,
    )


def a_paper(**contract):
    unused = dict.fromkeys(("network", "to_published", "from_published"), lambda state: state)
    return Paper(
        name="test", title="Test", package="test", rounding="round", procedures={},
        test_settings=None, **unused, **contract,
    )  # fmt: skip


STREAM = Stream(
    frames=(0,),
    parts=(-2, -1, 0, 1, 2),
    part=lambda network, frames: network.part(frames[:, 0]),
    combine=lambda network, parts, outputs: network.mix(torch.cat(parts, 1))[:, None],
)


def clip(length):
    generator = torch.Generator().manual_seed(length)
    return [torch.rand(1, 3, 6, 7, generator=generator) for _ in range(length)]


def window_by_window(network, frames, offsets):
    """The definition: each window gathered by itself, mirrored at the ends."""
    last = len(frames) - 1
    with torch.inference_mode():
        for centre in range(len(frames)):
            window = [frames[reflected(centre + offset, last)] for offset in offsets]
            yield network(torch.stack(window, 1))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 11])
@pytest.mark.parametrize("stream", [None, STREAM], ids=["whole", "cut in two"])
def test_equal_to_window_by_window(length, stream):
    network, frames = Five().eval(), clip(length)
    expected = list(window_by_window(network, frames, range(-2, 3)))
    actual = list(enhance_clip(five_frames(stream), network, frames))
    assert len(actual) == length
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_each_part_is_computed_once():
    network = Five().eval()
    list(enhance_clip(five_frames(STREAM), network, clip(20)))
    assert network.calls == 20
    network.calls = 0
    list(enhance_clip(five_frames(), network, clip(20)))
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


def test_parts_of_several_frames_and_only_the_wanted_output():
    def combine(network, parts, outputs):
        pairs = {0: (parts[0], parts[1]), 1: (parts[1], parts[0])}
        return torch.stack([network.output(*pairs[output]) for output in outputs], 1)

    stream = Stream(
        frames=(-2, -1, 0, 1, 2),
        parts=(0, 1),
        part=lambda network, frames: network.part(frames),
        combine=combine,
    )
    paper = a_paper(
        enhance=lambda network, frames: network(frames),
        window=Window(inputs=(-2, -1, 0, 1, 2, 3), outputs=(0, 1)),
        stream=stream,
    )
    network, frames = Six().eval(), clip(12)
    windows = window_by_window(network, frames, range(-2, 4))
    expected = [outputs[:, 0] for outputs in windows]
    network.encoded = network.decoded = 0
    actual = list(enhance_clip(paper, network, frames))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert network.decoded == 12
    # One for each frame, and one beyond the clip's end.
    assert network.encoded == 13


def test_memory_is_constant():
    network = Five().eval()
    alive: list[int] = []
    made = 0

    def frames():
        nonlocal made
        for frame in clip(60):
            made += 1
            yield frame

    for done, _ in enumerate(enhance_clip(five_frames(STREAM), network, frames()), 1):
        alive.append(made - done)
    # Never further ahead than the window reaches.
    assert max(alive) == 2


def test_an_empty_clip_gives_nothing():
    assert list(enhance_clip(five_frames(), Five().eval(), [])) == []


@pytest.mark.parametrize(
    ("index", "last", "expected"),
    [(0, 4, 0), (-1, 4, 1), (-2, 4, 2), (5, 4, 3), (6, 4, 2), (3, 0, 0), (-3, 1, 1), (4, 1, 0)],
)
def test_reflected(index, last, expected):
    assert reflected(index, last) == expected
