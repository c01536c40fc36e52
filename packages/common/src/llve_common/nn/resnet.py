"""ResNet-50 as a feature pyramid, under torchvision's layer names.

He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, Table 1, in the
common form that strides in the 3x3 convolution of a block. The classifier is left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

_EXPANSION = 4


class Pyramid(NamedTuple):
    """The features of an image (N, 3, H, W), each side rounded up.

    The stem, after the first convolution's ReLU, is (N, 64, H/2, W/2); each layer halves the sides:
    ``layer1`` has 256 channels at H/4, and so on to ``layer4`` with 2048 at H/32.
    """

    stem: Tensor
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor
    layer4: Tensor


class Bottleneck(nn.Module):
    """A residual block of a 1x1, a 3x3 and a 1x1 convolution (Figure 5, right).

    The width is that of the 3x3 convolution, which has the stride; four times as much comes out.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 width, H/stride, W/stride)."""
        shortcut = features if self.downsample is None else self.downsample(features)
        residual = self.relu(self.bn1(self.conv1(features)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        output: Tensor = self.relu(residual + shortcut)
        return output


class ResNet50(nn.Module):
    """The 50-layer network without its classifier: 23 508 032 parameters.

    Initial weights: convolutions normal with variance 2 / fan-out, batch norm 1 and 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, blocks=3, stride=1)
        self.layer2 = _stage(256, 128, blocks=4, stride=2)
        self.layer3 = _stage(512, 256, blocks=6, stride=2)
        self.layer4 = _stage(1024, 512, blocks=3, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Pyramid:
        """The features of an image (N, 3, H, W) at every scale; normalising is the caller's."""
        return Pyramid(*self.scales(image))

    def scales(self, image: Tensor) -> Iterator[Tensor]:
        """The features of :class:`Pyramid` in turn, each computed when it is asked for."""
        features = self.relu(self.bn1(self.conv1(image)))
        yield features
        features = self.maxpool(features)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = stage(features)
            yield features


def without_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a published ImageNet file that :class:`ResNet50` has.

    The classifier ``fc`` is left out. Older files lack batch norm's counters, which nothing here
    uses; they are filled in with 0.
    """
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    for key in state:
        if key.endswith("running_var"):
            counter = key.replace("running_var", "num_batches_tracked")
            trunk.setdefault(counter, torch.tensor(0, dtype=torch.int64))
    return trunk


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    others = (Bottleneck(width * _EXPANSION, width) for _ in range(blocks - 1))
    return nn.Sequential(first, *others)
