"""The features that are matched: a ResNet-50 at six strides."""

from torch import Tensor, nn

from llve_common.nn.resnet import ResNet50

Features = dict[int, Tensor]
"""Feature maps (N, C, H / stride, W / stride), sides rounded up, by stride."""

STRIDES = (32, 16, 8, 4, 2, 1)
"""From coarse to fine, as the decoder goes."""


class Encoder(nn.Module):
    """The backbone, with the classifier that the published files carry along unused."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ResNet50()
        self.net.fc = nn.Linear(2048, 1000)

    def forward(self, image: Tensor, coarsest: int = 32) -> Features:
        """The features of a normalised image (N, 3, H, W) at every stride up to ``coarsest``.

        Stride 1 is the image itself (3 channels); 2, 4, 8, 16 and 32 have 64, 256, 512, 1024 and
        2048 channels. What is coarser is not computed.
        """
        strides = [stride for stride in reversed(STRIDES) if 1 < stride <= coarsest]
        return {1: image, **dict(zip(strides, self.net.scales(image), strict=False))}
