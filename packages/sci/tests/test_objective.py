"""The objective against its definition, written out slowly."""

import itertools

import pytest
import torch

from llve_sci.objective import illumination_loss, smoothness, to_ycbcr


def slow_smoothness(colour, illumination):
    """The 24 terms of Eq. 6, pixel by pixel."""
    _, _, height, width = colour.shape
    total = 0.0
    for down, right in itertools.product(range(-2, 3), repeat=2):
        if (down, right) == (0, 0):
            continue
        terms = []
        for row, column in itertools.product(range(height), range(width)):
            if 0 <= row + down < height and 0 <= column + right < width:
                near = (..., row + down, column + right)
                weight = torch.exp(-((colour[..., row, column] - colour[near]) ** 2).sum(1) / 200)
                change = (illumination[..., row, column] - illumination[near]).abs().sum(1)
                terms.append(weight * change)
        if terms:
            total += torch.stack(terms).mean()
    return total


@pytest.mark.parametrize("form", ["published", "per-pixel"])
def test_smoothness_is_its_definition(form):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64) * 40
    illumination = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    expected = slow_smoothness(to_ycbcr(image, form), illumination)
    # The four corner displacements (2, 2) are among the 24; none is left out or counted twice.
    torch.testing.assert_close(smoothness(image, illumination, form), expected)


def test_smoothness_is_exact_in_half_precision_too():
    generator = torch.Generator().manual_seed(0)
    image, illumination = torch.rand(2, 1, 3, 6, 8, generator=generator).requires_grad_()
    exact, half = [], []
    for found, enabled in ((exact, False), (half, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = smoothness(image, illumination)
        found += [loss, *torch.autograd.grad(loss, [image, illumination])]
    torch.testing.assert_close(half, exact, rtol=0, atol=0)


def test_fidelity_is_one_and_a_half_times_the_mean_squared_error():
    image, illumination = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    losses = illumination_loss(image, illumination)
    assert losses["fidelity"].item() == pytest.approx(1.5 * 0.25)
    assert losses["smoothness"].item() == 0


def test_correct_conversion_of_known_colours():
    red, grey = torch.tensor([1.0, 0.0, 0.0]), torch.full((3,), 0.5)
    colours = torch.stack([red, grey], dim=1).reshape(1, 3, 1, 2)
    converted = to_ycbcr(colours, "per-pixel")[0, :, 0].T * 255
    torch.testing.assert_close(converted[0], torch.tensor([81.535, 90.26, 239.945]))
    # The published matrix weighs green by 0.564, so the luma of grey is a little above its usual.
    torch.testing.assert_close(converted[1], torch.tensor([133.1725, 128.0, 128.0]))
