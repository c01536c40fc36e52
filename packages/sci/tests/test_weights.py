"""The published names, both ways."""

import torch

from llve_sci.network import Cascade, Enhancer
from llve_sci.weights import from_published, to_published


def test_aliases_hold_the_same_values():
    published = to_published(Cascade().state_dict())
    assert len(published) == 83
    for alias in ("enhance.blocks.0.0.weight", "enhance.conv.0.weight"):
        assert published[alias] is published["enhance.conv.0.weight"]
    assert published["calibrate.blocks.1.3.bias"] is published["calibrate.convs.3.bias"]
    assert len(to_published(Enhancer().state_dict())) == 18


def test_the_last_alias_wins():
    published = {
        key: torch.full_like(value, float(number))
        for number, (key, value) in enumerate(to_published(Cascade().state_dict()).items())
    }
    ours = from_published(published)
    assert ours["enhance.conv.0.bias"] is published["enhance.blocks.0.0.bias"]
    assert ours["calibrate.convs.4.weight"] is published["calibrate.blocks.2.4.weight"]
    assert ours.keys() == Cascade().state_dict().keys()
