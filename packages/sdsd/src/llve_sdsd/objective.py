"""The losses of SDSD (ICCV 2021, Eq. 3 to 6).

All are sums over pixels and channels, not means. Frames are (N, T, 3, H, W), images (N, 3, H, W),
float, RGB, [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llve_sdsd.config import Criterion
from llve_sdsd.network import Decomposition

LOSSES = ("enhanced", "enhanced_noisier", "illumination", "illumination_noisier", "denoised")

# The published objective takes this frame, whichever one the network enhances.
_CENTRE = 2
_ILLUMINATION_WEIGHT = 0.5
_CHARBONNIER_EPSILON = 1e-6
_DIVISOR_EPSILON = 1e-4


def supervised_losses(
    network: Callable[[Tensor], Decomposition],
    frames: Tensor,
    truth: Tensor,
    *,
    criterion: Criterion = "cb",
    pixel_weight: float = 1.0,
    exposure: float = 1.0,
    denoised_weight: float = 1.0,
) -> dict[str, Tensor]:
    """All weighted losses of a window and of its noisier copy; their sum is minimised.

    Args:
        network: gives the decomposition of a window.
        frames: the dark windows (N, T, 3, H, W), T at least 3.
        truth: the bright centre frames (N, 3, H, W).
        criterion: how images are compared, ``cb`` Charbonnier (SDSD) or ``l1`` (SMID); the
            illumination is always compared by ``l1``.
        pixel_weight: of all losses.
        exposure: ours; the denoised frame and the illumination are compared with those of a frame
            that is so many times as bright, and these losses divided by it. So the noise branch
            adds light to the frame, next to which the frame's own noise is small.
        denoised_weight: of Eq. 3's, besides.

    Returns:
        Scalars: ``enhanced`` (Eq. 5), ``enhanced_noisier`` (Eq. 6), ``illumination`` and
        ``illumination_noisier`` (Eq. 4), ``denoised`` (Eq. 3).
    """
    # One pass over both, in which nothing crosses from one sample to another.
    both = network(torch.cat([frames, noisier(frames)]))
    clean = Decomposition(*(each[: len(frames)] for each in both))
    noisy = Decomposition(*(each[len(frames) :] for each in both))
    centre = frames[:, _CENTRE]
    light = exposure * illumination_target(centre, truth)
    light_weight = 0.5 * _ILLUMINATION_WEIGHT / exposure
    distance = charbonnier if criterion == "cb" else l1
    losses = {
        "enhanced": 0.5 * distance(clean.enhanced, truth),
        "enhanced_noisier": 0.5 * distance(noisy.enhanced, truth),
        "illumination": light_weight * l1(clean.illumination, light),
        "illumination_noisier": light_weight * l1(noisy.illumination, light),
        "denoised": denoised_weight / exposure * distance(noisy.denoised, exposure * centre),
    }
    return {name: pixel_weight * loss for name, loss in losses.items()}


def noisier(frames: Tensor) -> Tensor:
    """Frames of twice the contrast, noise included, around the mean of each frame and channel."""
    return frames + (frames - frames.mean((-2, -1), keepdim=True))


def illumination_target(dark: Tensor, truth: Tensor) -> Tensor:
    """The illumination that makes the dark image of the true one; not clipped, no gradient."""
    return (dark / (truth + _DIVISOR_EPSILON)).detach()


def charbonnier(image: Tensor, target: Tensor) -> Tensor:
    """The sum of a smooth absolute difference, sqrt(d² + 1e-6): a scalar."""
    return ((image - target).square() + _CHARBONNIER_EPSILON).sqrt().sum()


def l1(image: Tensor, target: Tensor) -> Tensor:
    """The sum of absolute differences: a scalar."""
    return (image - target).abs().sum()
