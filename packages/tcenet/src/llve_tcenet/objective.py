"""Spatial-temporal compatible learning (STCL), the objective of TCE-Net (IJCV 2024).

Real pairs, whose motion is unknown or none, teach how a frame should look; synthetic clips, which
move, teach that neighbouring frames should agree. Images are (N, 3, H, W), RGB, [0, 1].
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.flow.warp import warp
from llve_common.machine.replay import constant

FlowEstimator = Callable[[Tensor, Tensor], Tensor]
"""From two images (N, 3, H, W) to the flow (N, 2, H, W) from the first to the second, in pixels."""

Features = Callable[[Tensor], Sequence[Tensor]]
"""From images (N, 3, H, W) to what they are compared by."""

EDGE_WEIGHT = 0.05
_CHARBONNIER_EPSILON = 1e-6
_MASK_STEEPNESS = 50.0
_GAUSSIAN = (0.05, 0.25, 0.4, 0.25, 0.05)


def spatial_losses(
    predictions: Sequence[Tensor], targets: Sequence[Tensor], features: Features | None
) -> dict[str, Tensor]:
    """What enhanced frames of a real pair cost against the ground truth, summed over the frames.

    ``perceptual``, ``charbonnier`` and ``edge`` are weighted: their sum is the spatial loss. The
    perceptual loss is left out without features. Frames are (N, 3, H, W) each.
    """
    pairs = list(zip(predictions, targets, strict=True))
    losses = {
        "charbonnier": torch.stack([charbonnier(*pair) for pair in pairs]).sum(),
        "edge": EDGE_WEIGHT * torch.stack([edge(*pair) for pair in pairs]).sum(),
    }
    if features is not None:
        terms = [perceptual(*pair, features) for pair in pairs]
        losses["perceptual"] = torch.stack(terms).sum()
    return losses


def perceptual(prediction: Tensor, target: Tensor, features: Features) -> Tensor:
    """The sum over features of their mean absolute difference."""
    pairs = zip(features(prediction), features(target), strict=True)
    return torch.stack([F.l1_loss(ours, theirs) for ours, theirs in pairs]).sum()


def charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean of sqrt(d² + 1e-6), d the difference."""
    return torch.sqrt((prediction - target) ** 2 + _CHARBONNIER_EPSILON).mean()


def edge(prediction: Tensor, target: Tensor) -> Tensor:
    """The Charbonnier loss between the fine details of both."""
    return charbonnier(details(prediction), details(target))


def details(image: Tensor) -> Tensor:
    """A level of the Laplacian pyramid: the image less what is left of it at half the size.

    The smoothed image is kept at even rows and columns, times 4, and smoothed again.
    """
    kept = torch.zeros_like(image)
    kept[..., ::2, ::2] = 4 * smoothed(image)[..., ::2, ::2]
    return image - smoothed(kept)


def smoothed(image: Tensor) -> Tensor:
    """Each channel convolved with the 5x5 binomial-like kernel; the border is repeated."""
    line = constant(_GAUSSIAN, image)
    channels = image.shape[1]
    kernel = torch.outer(line, line).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)


def temporal_consistency(first: Tensor, second: Tensor, flow: FlowEstimator) -> Tensor:
    """What neighbouring enhanced frames (N, 3, H, W) cost where they disagree without motion.

    Nothing is detached: gradients flow through the warped frames, the masks, and the flow as far as
    its estimator lets them.
    """
    one_on_two = _disagreement(second, first, flow(second, first))
    two_on_one = _disagreement(first, second, flow(first, second))
    return two_on_one + one_on_two


def consistency_mask(frame: Tensor, warped: Tensor) -> Tensor:
    """Near 1 where a frame and a warped one agree, (N, 1, H, W): exp(-50 (sum over channels)²).

    It is the sum of the channels' differences that is squared.
    """
    difference = (frame - warped).sum(dim=1, keepdim=True)
    return torch.exp(-_MASK_STEEPNESS * difference**2)


def _disagreement(frame: Tensor, other: Tensor, flow: Tensor) -> Tensor:
    warped = warp(other, flow)
    mask = consistency_mask(frame, warped)
    return F.l1_loss(frame * mask, warped * mask)
