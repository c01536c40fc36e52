"""The networks of SGZ.

Zheng, Gupta, *Semantic-Guided Zero-Shot Learning for Low-Light Image/Video Enhancement*, WACV 2022,
Section 3: the enhancement factor extraction network and recurrent image enhancement; and the
unsupervised semantic segmentation network, which only training looks at.

Images are (N, 3, H, W), float, RGB, [0, 1].
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.nn.resnet import Pyramid, ResNet50
from llve_sgz.config import ConvType

_FILTERS = 32
STEPS = 8


class Enhancer(nn.Module):
    """Enhancement factor extraction (EFE) and recurrent image enhancement (RIE).

    Args:
        scale_factor: the factor is computed on the image reduced by this; the image's sides are
            multiples of it. It changes no weight.
        conv_type: ``dsc`` depthwise separable (10 561 parameters) or ``tc`` traditional
            convolutions (67 299).
    """

    def __init__(self, scale_factor: int = 1, conv_type: ConvType = "dsc") -> None:
        super().__init__()
        self.scale_factor = scale_factor
        conv = _separable if conv_type == "dsc" else _traditional
        self.e_conv1 = conv(3, _FILTERS)
        self.e_conv2, self.e_conv3, self.e_conv4 = (conv(_FILTERS, _FILTERS) for _ in range(3))
        self.e_conv5 = conv(2 * _FILTERS, _FILTERS)
        self.e_conv6 = conv(2 * _FILTERS, _FILTERS)
        self.e_conv7 = conv(2 * _FILTERS, 3)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The enhanced image, not clipped, and its factor, each (N, 3, H, W).

        Raises:
            RuntimeError: the sides are no multiples of the scale factor.
        """
        factor = self.factor(image)
        return brighten(image, factor), factor

    def factor(self, image: Tensor) -> Tensor:
        """The enhancement factor in [-1, 1], at the image's size."""
        scale = self.scale_factor
        if scale == 1:
            return self.extract(image)
        height, width = image.shape[-2:]
        small = (height // scale, width // scale)
        reduced = F.interpolate(image, small, mode="bilinear", align_corners=False)
        return F.interpolate(
            self.extract(reduced), scale_factor=scale, mode="bilinear", align_corners=True
        )

    def extract(self, reduced: Tensor) -> Tensor:
        """The factor at the size of the reduced image, (N, 3, h, w) each."""
        # Depthwise convolutions are faster where a pixel's channels lie side by side.
        reduced = reduced.contiguous(memory_format=torch.channels_last)
        x1 = F.relu(self.e_conv1(reduced))
        x2 = F.relu(self.e_conv2(x1))
        x3 = F.relu(self.e_conv3(x2))
        x4 = F.relu(self.e_conv4(x3))
        x5 = F.relu(self.e_conv5(torch.cat([x3, x4], 1)))
        x6 = F.relu(self.e_conv6(torch.cat([x2, x5], 1)))
        logits = self.e_conv7(torch.cat([x1, x6], 1))
        # In a half format tanh has no slope near its ends, and small differences are lost.
        return torch.tanh(logits.to(torch.promote_types(logits.dtype, torch.float32)))


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """A depthwise 3x3 and then a pointwise 1x1 convolution, both with bias."""
    depth = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    return nn.Sequential(OrderedDict(depth_conv=depth, point_conv=nn.Conv2d(inputs, outputs, 1)))


def _traditional(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution with bias."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, 3, padding=1)))


def brighten(image: Tensor, factor: Tensor) -> Tensor:
    """Eight times x + factor (x² - x), with one factor for all steps; each (N, 3, H, W)."""
    for _ in range(STEPS):
        image = image + factor * (image * image - image)
    return image


class FeaturePyramid(nn.Module):
    """The segmentation's head: a feature pyramid network without activations between its layers.

    Initial weights as published: N(0, 0.01), biases 0.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.toplayer = nn.Conv2d(2048, 256, 1)
        self.smooth1_1 = nn.Conv2d(256, 256, 3, padding=1)
        self.smooth2_1 = nn.Conv2d(256, 256, 3, padding=1)
        self.smooth3_1 = nn.Conv2d(256, 256, 3, padding=1)
        self.smooth4_1 = nn.Conv2d(256, 256, 3, padding=1)
        self.smooth1_2 = nn.Conv2d(256, 128, 3, padding=1)
        self.smooth2_2 = nn.Conv2d(256, 128, 3, padding=1)
        self.smooth3_2 = nn.Conv2d(256, 128, 3, padding=1)
        self.smooth4_2 = nn.Conv2d(256, 128, 3, padding=1)
        self.latlayer1 = nn.Conv2d(1024, 256, 1)
        self.latlayer2 = nn.Conv2d(512, 256, 1)
        self.latlayer3 = nn.Conv2d(256, 256, 1)
        self.classify = nn.Conv2d(4 * 128, classes, 3, padding=1)
        for layer in self.children():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Pyramid) -> Tensor:
        """Logits (N, classes, H/4, W/4) from the backbone's features of an (N, 3, H, W) image."""
        p5 = self.toplayer(features.layer4)
        p4 = _resized(p5, features.layer3) + self.latlayer1(features.layer3)
        p3 = _resized(p4, features.layer2) + self.latlayer2(features.layer2)
        p2 = _resized(p3, features.layer1) + self.latlayer3(features.layer1)
        levels = [
            self.smooth1_2(self.smooth1_1(p5)),
            self.smooth2_2(self.smooth2_1(p4)),
            self.smooth3_2(self.smooth3_1(p3)),
            self.smooth4_2(self.smooth4_1(p2)),
        ]
        logits: Tensor = self.classify(torch.cat([_resized(each, p2) for each in levels], 1))
        return logits


class Segmenter(nn.Module):
    """The segmentation network that guides training: a ResNet-50 and a feature pyramid."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.resnet = ResNet50()
        self.fpn = FeaturePyramid(classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes, H/4, W/4), sides rounded up; as published, not normalised before."""
        logits: Tensor = self.fpn(self.resnet(image))
        return logits


def _resized(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, like.shape[-2:], mode="bilinear", align_corners=False)
