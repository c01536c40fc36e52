"""The losses' own properties, with nothing from outside the checkout."""

import math

import pytest
import torch

from llve_stcd.network import Decomposition
from llve_stcd.objective import (
    correspondence_loss,
    decomposition_loss,
    pixel_loss,
    shading_smoothness,
)

CRITERIA = {
    "cb": lambda d: math.sqrt(d**2 + 1e-6),
    "cb2": lambda d: math.sqrt(d**2 + 1e-6),
    "l1": abs,
    "l2": lambda d: d**2,
}


def images(number, height=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 2, 3, height, width, generator=generator, dtype=torch.float64)


def matches(height, width, shift=0, batch=2):
    """The matches of images of which the second is the first, ``shift`` pixels to the right."""
    x = (torch.arange(width) * 2.0 + 1) / width - 1
    y = (torch.arange(height) * 2.0 + 1) / height - 1
    own = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    step = torch.tensor([2 * shift / width, 0.0])
    left, right = torch.cat([own, own + step], -1), torch.cat([own - step, own], -1)
    warp = torch.cat([left, right], 1).expand(batch, -1, -1, -1)
    return warp.double(), torch.ones(batch, height, 2 * width, dtype=torch.float64)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pixel_loss_sums_or_averages(criterion):
    target = images(1)[0]
    loss = pixel_loss(target + 0.25, target, criterion).item()
    number = 1 if criterion == "cb2" else target.numel()
    assert loss == pytest.approx(number * CRITERIA[criterion](0.25))


def test_a_step_of_the_shading_by_hand():
    shading = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    shading[..., 0, 1] = 0.5
    target = torch.full_like(shading, 0.2)
    target[..., 1, :] = 0.6
    # Flat to the right, an edge downwards; only the upper left pixel has both neighbours.
    loss = shading_smoothness(shading, target).item()
    assert loss == pytest.approx(3 * 1.5 / 1e-4 * 0.25 / 2)
    downwards = shading_smoothness(shading.mT, target).item()
    edge = abs(math.log(0.6 + 1e-4) - math.log(0.2 + 1e-4))
    assert downwards == pytest.approx(3 * 1.5 / (edge**1.2 + 1e-4) * 0.25 / 2)


def test_matching_parts_cost_nothing():
    first, _ = images(2)
    moved = first.roll(2, dims=-1)
    warp, certainty = matches(6, 8, shift=2)
    # What leaves the image, or comes from outside, has no match.
    certainty[:, :, 6:10] = 0
    loss = correspondence_loss(first, moved, warp, certainty, "l1")
    assert loss.tolist() == pytest.approx([0, 0], abs=1e-4)
    assert (correspondence_loss(first, first, warp, certainty, "l1") > 1).all()


def test_each_direction_uses_its_own_half():
    first, second = images(2)
    warp, certainty = matches(6, 8)
    only_left, only_right = certainty.clone(), certainty.clone()
    only_left[:, :, 8:], only_right[:, :, :8] = 0, 0
    one, other, both = (
        correspondence_loss(first, second, warp, each, "l1")
        for each in (only_left, only_right, certainty)
    )
    expected = (first - second).abs().flatten(1).sum(1) / 2
    torch.testing.assert_close(one, expected)
    torch.testing.assert_close(other, expected)
    torch.testing.assert_close(both, one + other)


def test_beyond_the_image_is_black():
    first, second = images(2)
    warp, certainty = matches(6, 8, shift=80)
    loss = correspondence_loss(first, second, warp, certainty, "l1")
    expected = (first.flatten(1).sum(1) + second.flatten(1).sum(1)) / 2
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_certainty_weights_both_sides(criterion):
    first, second = images(2)
    warp, certainty = matches(6, 8)
    loss = correspondence_loss(first, second, warp, certainty / 4, criterion)
    penalty = ((first - second) / 4).apply_(CRITERIA[criterion]).flatten(1)
    expected = penalty.mean(1) if criterion == "cb2" else penalty.sum(1)
    torch.testing.assert_close(loss, expected)


def test_the_pixel_weight_leaves_the_correspondence_alone():
    found = Decomposition(*images(6))
    targets = images(2, seed=1)
    given = (*targets, *matches(6, 8))
    whole = decomposition_loss(found, *given)
    half = decomposition_loss(found, *given, pixel_weight=0.5)
    assert list(whole) == ["pixel", "smoothness", "correspondence"]
    assert half["pixel"] == 0.5 * whole["pixel"]
    assert half["smoothness"] == 0.5 * whole["smoothness"]
    assert half["correspondence"] == whole["correspondence"]
