"""The losses of SGZ (WACV 2022, Section 3.4): none of them needs a ground truth.

Weights are those of the published training script. Images are (N, 3, H, W), float, RGB.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TV_WEIGHT = 1600.0
_COLOUR_WEIGHT = 5.0
_EXPOSURE_WEIGHT = 10.0
_SEGMENTATION_WEIGHT = 0.1

_EXPOSURE_PATCH = 16
_SMALLEST = 1e-7
# Neighbours to the sides count once, those at the corners half.
_NEIGHBOURS = {
    (down, right): 1.0 if 0 in (down, right) else 0.5
    for down, right in itertools.product((-1, 0, 1), repeat=2)
    if (down, right) != (0, 0)
}


def enhancement_losses(
    low: Tensor,
    enhanced: Tensor,
    factor: Tensor,
    *,
    exposure_level: float = 0.6,
    patch_size: int = 4,
    segmenter: nn.Module | None = None,
) -> dict[str, Tensor]:
    """All weighted losses; their sum is minimised.

    Args:
        low: the image (N, 3, H, W), sides at least 16.
        enhanced: the network's result for it.
        factor: the enhancement factor.
        exposure_level: the grey level aimed at.
        patch_size: side of the patches of the spatial loss.
        segmenter: gives logits (N, classes, h, w) of an image; None leaves its loss out.

    Returns:
        Scalars: ``tv``, ``spatial``, ``colour``, ``exposure`` and, with a segmenter,
        ``segmentation``.
    """
    losses = {
        "tv": _TV_WEIGHT * total_variation(factor),
        "spatial": spatial(enhanced, low, patch_size).mean(),
        "colour": _COLOUR_WEIGHT * colour(enhanced).mean(),
        "exposure": _EXPOSURE_WEIGHT * exposure(enhanced, exposure_level),
    }
    if segmenter is not None:
        losses["segmentation"] = _SEGMENTATION_WEIGHT * segmentation(segmenter(enhanced))
    return losses


def total_variation(factor: Tensor) -> Tensor:
    """Squared differences of neighbours, each direction over its pixels, times 2/N: a scalar."""
    count, _, height, width = factor.shape
    down = factor.diff(dim=2).square().sum() / ((height - 1) * width)
    right = factor.diff(dim=3).square().sum() / (height * (width - 1))
    return 2 * (down + right) / count


def spatial(image: Tensor, other: Tensor, patch_size: int = 4, corners: bool = True) -> Tensor:
    """How differences between neighbouring patches change from one image to the other.

    Args:
        image: (N, 3, H, W).
        other: the same shape; the order of the two does not matter.
        patch_size: side of the averaged patches.
        corners: also compare with the four neighbours at the corners, at half the weight; the
            published form without them is not used in training.

    Returns:
        (N, 1, H / patch_size, W / patch_size).
    """
    # Differences are linear, so that those of the two images need not be taken one by one.
    change = F.avg_pool2d((image - other).mean(1, keepdim=True), patch_size)
    height, width = change.shape[-2:]
    padded = F.pad(change, (1, 1, 1, 1))
    total = torch.zeros_like(change)
    for (down, right), weight in _NEIGHBOURS.items():
        if weight == 1.0 or corners:
            neighbour = padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            total = total + weight * (change - neighbour).square()
    return total


def colour(image: Tensor) -> Tensor:
    """Distance of the channels' means from one another, for each image: (N, 1, 1, 1).

    The gradient at a grey image, which the square root leaves undefined, is 0.
    """
    red, green, blue = image.mean((2, 3), keepdim=True).split(1, dim=1)
    squares = (red - green).pow(4) + (red - blue).pow(4) + (green - blue).pow(4)
    grey = squares == 0
    return torch.where(grey, 0.0, torch.sqrt(torch.where(grey, 1.0, squares)))


def exposure(image: Tensor, level: float = 0.6) -> Tensor:
    """Mean squared distance of the 16x16 patches' brightness from a level: a scalar."""
    return (_brightness(image) - level).square().mean()


def smooth_exposure(image: Tensor, level: float = 0.6) -> Tensor:
    """The same in the smooth L1 norm: published, but not used in training."""
    patches = _brightness(image)
    return F.smooth_l1_loss(patches, torch.full_like(patches, level))


def segmentation(logits: Tensor) -> Tensor:
    """The focal loss of logits (N, classes, H, W) on their own most likely classes: a scalar."""
    return focal(logits, logits.argmax(1)).mean()


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma log p for each pixel, p the target's probability; p in [1e-7, 1 - 1e-7].

    Of logits (N, classes, H, W) and class numbers (N, H, W): (N, H, W). A gamma of 0 gives the
    cross entropy.
    """
    likely = logits.softmax(1).gather(1, target[:, None])[:, 0].clamp(_SMALLEST, 1 - _SMALLEST)
    return -((1 - likely) ** gamma) * likely.log()


def _brightness(image: Tensor) -> Tensor:
    return F.avg_pool2d(image.mean(1, keepdim=True), _EXPOSURE_PATCH)
