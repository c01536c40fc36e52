"""The losses against their definitions, written out slowly."""

import itertools
import math

import pytest
import torch

from llve_sgz.objective import (
    colour,
    enhancement_losses,
    exposure,
    focal,
    segmentation,
    smooth_exposure,
    spatial,
    total_variation,
)


def rand(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("corners", [True, False])
def test_spatial_is_its_definition(corners):
    image, other = rand(1, 3, 9, 6), rand(1, 3, 9, 6, seed=1)
    patches = [
        {
            (row, column): each[0, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].mean()
            for row, column in itertools.product(range(3), range(2))
        }
        for each in (image, other)
    ]
    for row, column in itertools.product(range(3), range(2)):
        expected = 0.0
        for down, right in itertools.product((-1, 0, 1), repeat=2):
            near = (row + down, column + right)
            changes = [each[row, column] - each.get(near, 0.0) for each in patches]
            weight = 1.0 if down == 0 or right == 0 else 0.5 * corners
            expected += weight * (changes[0] - changes[1]) ** 2
        actual = spatial(image, other, 3, corners)[0, 0, row, column]
        torch.testing.assert_close(actual, expected)


def test_total_variation_is_its_definition():
    factor = rand(2, 3, 4, 5)
    down = ((factor[:, :, 1:] - factor[:, :, :-1]) ** 2).sum() / (3 * 5)
    right = ((factor[..., 1:] - factor[..., :-1]) ** 2).sum() / (4 * 4)
    torch.testing.assert_close(total_variation(factor), 2 * (down + right) / 2)


def test_colour_is_its_definition_for_each_image():
    image = rand(2, 3, 4, 5)
    for one, actual in zip(image, colour(image), strict=True):
        red, green, blue = (plane.mean().item() for plane in one)
        squares = [(red - green) ** 2, (red - blue) ** 2, (blue - green) ** 2]
        assert actual.item() == pytest.approx(math.sqrt(sum(each**2 for each in squares)))


def test_a_grey_image_among_others_has_no_colour_gradient():
    image = rand(2, 3, 4, 4)
    image[0] = image[0, :1]
    image.requires_grad_()
    colour(image).mean().backward()
    assert image.grad[0].abs().max() == 0
    assert image.grad[1].abs().max() > 0
    assert torch.isfinite(image.grad).all()


def test_exposure_is_zero_at_its_level():
    image = torch.full((1, 3, 33, 18), 0.6, dtype=torch.float64)
    assert exposure(image).item() == pytest.approx(0, abs=1e-12)
    assert exposure(image, 0.4).item() == pytest.approx(0.04)
    assert smooth_exposure(image, 0.4).item() == pytest.approx(0.02)


def test_focal_is_its_definition():
    logits = rand(1, 3, 1, 1) * 4
    target = torch.tensor([[[2]]])
    likely = torch.exp(logits[0, 2, 0, 0]) / torch.exp(logits).sum()
    expected = -((1 - likely) ** 2) * torch.log(likely)
    torch.testing.assert_close(focal(logits, target)[0, 0, 0], expected)
    assert focal(logits * 1e6, logits.argmax(1)).item() == pytest.approx(0, abs=1e-12)


def test_segmentation_takes_the_likeliest_class():
    logits = rand(2, 4, 3, 3)
    others = [focal(logits, torch.full((2, 3, 3), number)) for number in range(4)]
    torch.testing.assert_close(segmentation(logits), torch.stack(others).amin(0).mean())


def test_weights_of_the_sum():
    low, enhanced, factor = (rand(1, 3, 32, 32, seed=seed) for seed in range(3))
    losses = enhancement_losses(low, enhanced, factor, segmenter=lambda image: image)
    assert list(losses) == ["tv", "spatial", "colour", "exposure", "segmentation"]
    torch.testing.assert_close(losses["tv"], 1600 * total_variation(factor))
    torch.testing.assert_close(losses["colour"], 5 * colour(enhanced).mean())
    torch.testing.assert_close(losses["exposure"], 10 * exposure(enhanced, 0.6))
    torch.testing.assert_close(losses["segmentation"], 0.1 * segmentation(enhanced))
    assert "segmentation" not in enhancement_losses(low, enhanced, factor)
