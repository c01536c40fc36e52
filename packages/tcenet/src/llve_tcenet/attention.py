"""Co-attention between two neighbouring windows, with a wavelet branch.

Zhu et al., *Temporally Consistent Enhancement of Low-Light Videos via Spatial-Temporal Compatible
Learning*, IJCV 2024. Each latent reads all pixels of the other; what it reads is gated in space and
in the wavelet domain, and joined with the latent itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_tcenet.wavelet import haar, inverse_haar

SLOPE = 0.2
"""Of every leaky ReLU in TCE-Net."""

_REDUCED = 16


class CoAttention(nn.Module):
    """Lets two latents exchange what they share."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.linear_e = nn.Linear(channels, channels, bias=False)
        self.gate1 = nn.Conv2d(2 * channels, 1, 1, bias=False)
        self.gate2 = nn.Conv2d(2 * channels, 1, 1, bias=False)
        self.fc1 = nn.Linear(2 * channels, _REDUCED)
        self.fc2 = nn.Linear(_REDUCED, channels)
        self.fc3 = nn.Linear(2 * channels, _REDUCED)
        self.fc4 = nn.Linear(_REDUCED, channels)
        bands = 4 * channels
        self.gate1_fre = nn.Conv2d(2 * bands, 1, 1, bias=False)
        self.gate2_fre = nn.Conv2d(2 * bands, 1, 1, bias=False)
        self.fc1_fre = nn.Linear(2 * bands, _REDUCED)
        self.fc2_fre = nn.Linear(_REDUCED, bands)
        self.fc3_fre = nn.Linear(2 * bands, _REDUCED)
        self.fc4_fre = nn.Linear(_REDUCED, bands)
        self.conv1 = nn.Conv2d(3 * channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(3 * channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The two latents (N, C, h, w) anew; h // 2 and w // 2 have to be even."""
        size = first.shape[-2:]
        half = (size[0] // 2, size[1] // 2)
        a, b = resized(first, half), resized(second, half)
        attended_a, attended_b = co_attend(self.linear_e, a, b)
        both = torch.cat([attended_a, attended_b], dim=1)
        spatial_a = gated(attended_a, both, self.gate1, self.fc3, self.fc4)
        spatial_b = gated(attended_b, both, self.gate2, self.fc1, self.fc2)
        bands_a, bands_b = haar(attended_a), haar(attended_b)
        both = torch.cat([bands_a, bands_b], dim=1)
        bands_a = gated(bands_a, both, self.gate1_fre, self.fc3_fre, self.fc4_fre)
        bands_b = gated(bands_b, both, self.gate2_fre, self.fc1_fre, self.fc2_fre)
        joined_a = torch.cat([spatial_a, inverse_haar(bands_a), a], dim=1)
        joined_b = torch.cat([spatial_b, inverse_haar(bands_b), b], dim=1)
        new_a = F.leaky_relu(self.bn1(self.conv1(joined_a)), SLOPE)
        new_b = F.leaky_relu(self.bn2(self.conv2(joined_b)), SLOPE)
        return resized(new_a, size), resized(new_b, size)


def co_attend(affinity: nn.Linear, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """What each map reads of the other one, in memory that is linear in the pixels.

    With S[p, q] = (E a_p) . b_q, where E is the affinity, the map of ``b`` reads the pixels of
    ``a`` by softmax over p, and the other way round. That is scaled-dot-product attention at scale
    1. Of maps (N, C, h, w): for ``a``, of the pixels of ``b``; and for ``b``, of those of ``a``.
    """
    pixels_a, pixels_b = as_pixels(a), as_pixels(b)
    keys_a = affinity(pixels_a)
    attended_a = F.scaled_dot_product_attention(keys_a, pixels_b, pixels_b, scale=1.0)
    attended_b = F.scaled_dot_product_attention(pixels_b, keys_a, pixels_a, scale=1.0)
    return as_map(attended_a, a), as_map(attended_b, b)


def as_pixels(features: Tensor) -> Tensor:
    """(N, C, h, w) as (N, 1, h w, C), contiguous.

    Torch's fused attention takes exactly this; in another layout it computes all of S, with equal
    results and memory that grows with the square of the pixels.
    """
    return features.flatten(2).transpose(1, 2).contiguous()[:, None]


def as_map(pixels: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`as_pixels` for features of the shape of ``like``."""
    return pixels[:, 0].transpose(1, 2).reshape(like.shape)


def gated(
    features: Tensor, both: Tensor, pixels: nn.Conv2d, reduce: nn.Linear, expand: nn.Linear
) -> Tensor:
    """A map (N, C, h, w) times a factor in (0, 1) for each pixel, and one for each channel.

    Both are made of ``both``, it and the other map, (N, 2C, h, w): the pixels' factors by
    ``pixels``, and the channels' from the means by ``reduce`` and ``expand``.
    """
    squeezed = F.leaky_relu(reduce(both.mean(dim=(2, 3))), SLOPE)
    channels = torch.sigmoid(expand(squeezed))[:, :, None, None]
    return features * torch.sigmoid(pixels(both)) * channels


def resized(features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear, corners not aligned."""
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)
