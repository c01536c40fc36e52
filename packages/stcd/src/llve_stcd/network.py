"""The network of STCD.

Xu, Zhou, Hu, Wu, Wang, Peng, Yu, *Low-Light Video Enhancement via Spatial-Temporal Consistent
Decomposition*, IJCAI 2025. Retinex on two frames: each enhanced frame is a view-independent part
(``rgb``, intrinsic appearance) times a view-dependent one (``ill``, shading).

Images are (N, 3, H, W), float, RGB, [0, 1], H and W multiples of 4. Parameters have the published
names; in those, ``_ill`` is the decoder of the view-independent part and ``_ill2`` the shading's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.errors import ConfigError, DataError
from llve_common.nn.residual import ResidualBlock

MULTIPLE = 4
"""Height and width are multiples of this."""

_HEADS = 4


class Decomposition(NamedTuple):
    """Both frames taken apart and enhanced, each (N, 3, H, W) in [0, 1].

    Of the first frame ``rgb1`` is the view-independent part, ``ill1`` the shading, and
    ``enhanced1`` their product.
    """

    rgb1: Tensor
    rgb2: Tensor
    enhanced1: Tensor
    enhanced2: Tensor
    ill1: Tensor
    ill2: Tensor


class FrameFeatures(NamedTuple):
    """What is computed of one frame, whichever frame it is paired with: (N, nf, H, W) and so on.

    ``attended`` is ``quarter``, at H/4 x W/4, after self attention.
    """

    full: Tensor
    half: Tensor
    quarter: Tensor
    attended: Tensor


class STCD(nn.Module):
    """Two consecutive frames to their consistent decompositions.

    Args:
        nf: channels, a multiple of 4.
        front_blocks: residual blocks on the joint features.

    Raises:
        ConfigError: ``nf`` cannot be split over the attention's heads.
    """

    def __init__(self, nf: int = 64, front_blocks: int = 1) -> None:
        super().__init__()
        if nf < _HEADS or nf % _HEADS:
            what = "the channels cannot be split over the attention's heads"
            raise ConfigError(what, where="nf", got=nf, expected=f"a multiple of {_HEADS}")
        self.conv_first_1 = nn.Conv2d(3, nf, 3, padding=1)
        self.conv_first_2 = nn.Conv2d(nf, nf, 3, stride=2, padding=1)
        self.conv_first_3 = nn.Conv2d(nf, nf, 3, stride=2, padding=1)
        self.feature_extraction = nn.Sequential(
            *(ResidualBlock(2 * nf) for _ in range(front_blocks))
        )
        self.upconv1_ill = nn.Conv2d(2 * nf, 4 * nf, 3, padding=1)
        self.upconv2_ill = nn.Conv2d(2 * nf, 4 * nf, 3, padding=1)
        self.HRconv_ill = nn.Conv2d(2 * nf, nf, 3, padding=1)
        self.conv_last_ill = nn.Conv2d(nf, 3, 3, padding=1)
        self.upconv1_ill2 = nn.Conv2d(2 * nf, 4 * nf, 3, padding=1)
        self.upconv2_ill2 = nn.Conv2d(2 * nf, 4 * nf, 3, padding=1)
        self.HRconv_ill2 = nn.Conv2d(2 * nf, nf, 3, padding=1)
        self.conv_last_ill2 = nn.Conv2d(nf, 3, 3, padding=1)
        self.trans1 = TransformerBlock(nf, SelfAttention)
        self.trans2 = TransformerBlock(nf, CrossAttention)

    def forward(self, image1: Tensor, image2: Tensor) -> Decomposition:
        """Decompose two frames; exchanging them gives another result.

        Raises:
            DataError: a side is not a multiple of 4.
        """
        first, second = self.frame_features(image1), self.frame_features(image2)
        joint1, joint2 = self.interact(first, second)
        rgb1, ill1 = self.decompose(first, joint1)
        rgb2, ill2 = self.decompose(second, joint2)
        return Decomposition(rgb1, rgb2, rgb1 * ill1, rgb2 * ill2, ill1, ill2)

    def frame_features(self, image: Tensor) -> FrameFeatures:
        """The part of the network that looks at one frame.

        Raises:
            DataError: a side is not a multiple of 4.
        """
        height, width = image.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise DataError(
                "the network reduces images four times",
                got=f"height {height}, width {width}",
                expected=f"multiples of {MULTIPLE}",
                mend="resize the frames (data.size), or pad them and cut the result back",
            )
        full = _activate(self.conv_first_1(image))
        half = _activate(self.conv_first_2(full))
        quarter = _activate(self.conv_first_3(half))
        return FrameFeatures(full, half, quarter, self.trans1(quarter))

    def interact(self, first: FrameFeatures, second: FrameFeatures) -> tuple[Tensor, Tensor]:
        """Let two frames see each other: joint features of each, (N, 2 nf, H/4, W/4)."""
        cross1 = first.attended + self.trans2(first.quarter, second.quarter)
        # The published network looks at the first frame's features as just updated.
        cross2 = second.attended + self.trans2(second.quarter, cross1)
        trunk1, trunk2 = self.feature_extraction(torch.cat([cross1, cross2], 1)).chunk(2, 1)
        return torch.cat([trunk1, cross1], 1), torch.cat([trunk2, cross2], 1)

    def decompose(self, features: FrameFeatures, joint: Tensor) -> tuple[Tensor, Tensor]:
        """The view-independent part and the shading of one frame, each (N, 3, H, W)."""
        rgb = (self.upconv1_ill, self.upconv2_ill, self.HRconv_ill, self.conv_last_ill)
        ill = (self.upconv1_ill2, self.upconv2_ill2, self.HRconv_ill2, self.conv_last_ill2)
        return _decode(features, joint, rgb), _decode(features, joint, ill)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each beside an identity; within a frame or across two.

    The channels are a multiple of 4.
    """

    def __init__(
        self,
        channels: int,
        attention: type[SelfAttention | CrossAttention],
        expansion: float = 2.66,
    ) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = attention(channels)
        self.norm2 = ChannelNorm(channels)
        self.ffn = FeedForward(channels, expansion)

    def forward(self, features: Tensor, *other: Tensor) -> Tensor:
        """(N, C, H, W), and across frames the other's, to the same about the first."""
        attended: Tensor = features + self.attn(*map(self.norm1, (features, *other)))
        result: Tensor = attended + self.ffn(self.norm2(attended))
        return result


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        normalised: Tensor = self.body(features.movedim(1, -1))
        return normalised.movedim(-1, 1)


class SelfAttention(nn.Module):
    """Attention between channels: its cost grows with the pixels, not with their square.

    Source: Zamir et al., "Restormer", CVPR 2022, Equation 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.qkv = _pointwise(channels, 3 * channels)
        self.qkv_dwconv = _depthwise(3 * channels)
        self.project_out = _pointwise(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        query, key, value = self.qkv_dwconv(self.qkv(features)).chunk(3, 1)
        attended: Tensor = self.project_out(_attend(query, key, value, self.temperature))
        return attended


class CrossAttention(nn.Module):
    """Attention between channels of two frames: the first asks, the second answers.

    The published name of what makes the query is ``qkv``, and ``qkv2`` of keys and values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.qkv = _pointwise(channels, channels)
        self.qkv_dwconv = _depthwise(channels)
        self.qkv2 = _pointwise(channels, 2 * channels)
        self.qkv2_dwconv = _depthwise(2 * channels)
        self.project_out = _pointwise(channels, channels)

    def forward(self, features: Tensor, other: Tensor) -> Tensor:
        """Twice (N, C, H, W) to the same, about the first."""
        query = self.qkv_dwconv(self.qkv(features))
        key, value = self.qkv2_dwconv(self.qkv2(other)).chunk(2, 1)
        attended: Tensor = self.project_out(_attend(query, key, value, self.temperature))
        return attended


class FeedForward(nn.Module):
    """Two parallel paths, one of which gates the other (Restormer, Equation 2).

    A path has ``expansion`` times the channels inside, rounded down.
    """

    def __init__(self, channels: int, expansion: float = 2.66) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = _pointwise(channels, 2 * hidden)
        self.dwconv = _depthwise(2 * hidden)
        self.project_out = _pointwise(hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        gate, value = self.dwconv(self.project_in(features)).chunk(2, 1)
        result: Tensor = self.project_out(F.gelu(gate) * value)
        return result


def _decode(features: FrameFeatures, joint: Tensor, layers: tuple[nn.Conv2d, ...]) -> Tensor:
    """From a quarter of the size to the whole, with the head's features at each size."""
    upconv1, upconv2, conv, last = layers
    half = _activate(F.pixel_shuffle(upconv1(joint), 2))
    full = _activate(F.pixel_shuffle(upconv2(torch.cat([half, features.half], 1)), 2))
    detailed = _activate(conv(torch.cat([full, features.full], 1)))
    logits = last(detailed)
    # In a half format the sigmoid has no slope near 1, and small differences are lost.
    return torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))


def _attend(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Mix channels by the likeness of their patterns over the pixels; all are (N, C, H, W)."""
    query_heads, key_heads, value_heads = (
        part.unflatten(1, (_HEADS, -1)).flatten(3) for part in (query, key, value)
    )
    likeness = F.normalize(query_heads, dim=-1) @ F.normalize(key_heads, dim=-1).mT
    attention = (likeness * temperature).softmax(-1)
    mixed: Tensor = (attention @ value_heads).flatten(1, 2).unflatten(-1, query.shape[-2:])
    return mixed


def _activate(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.1)


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
