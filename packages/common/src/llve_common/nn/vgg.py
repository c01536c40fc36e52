"""VGG-19's features, under torchvision's layer names.

Simonyan, Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR
2015, Table 1, column E. The classifier is left out.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from llve_common.machine.replay import constant

# Convolutions of each block; a ReLU follows each, and a pooling the block's last.
_WIDTHS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg19Features(nn.Module):
    """The outputs of chosen layers, as perceptual losses compare them.

    Only the layers up to the last chosen one are built, so all of them are used.

    Args:
        layers: places in torchvision's ``features``; after ReLU 1_2, 2_2, 3_2 and 4_2 by default.
    """

    def __init__(self, layers: Sequence[int] = (3, 8, 13, 22)) -> None:
        super().__init__()
        self.layers = frozenset(layers)
        self.features = nn.Sequential(*_all_layers()[: max(layers) + 1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """The features of an image (N, 3, H, W), in order of depth; sides are halved at poolings.

        Normalising is the caller's: :func:`imagenet_normalised`.
        """
        found = []
        for place, layer in enumerate(self.features):
            image = layer(image)
            if place in self.layers:
                found.append(image)
        return found


def imagenet_normalised(image: Tensor) -> Tensor:
    """An RGB image (N, 3, H, W) in [0, 1], less ImageNet's mean, over its standard deviation."""
    mean, std = (constant(values, image).view(3, 1, 1) for values in (_MEAN, _STD))
    return (image - mean) / std


def without_unused(state: dict[str, Tensor], features: Vgg19Features) -> dict[str, Tensor]:
    """A published file's weights less the classifier and the layers that are not built."""
    depth = len(features.features)

    def unused(key: str) -> bool:
        part, _, rest = key.partition(".")
        place = rest.partition(".")[0]
        return part == "classifier" or (
            part == "features" and place.isdecimal() and int(place) >= depth
        )

    return {key: value for key, value in state.items() if not unused(key)}


def _all_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for width, convolutions in _WIDTHS:
        for _ in range(convolutions):
            # Not in place: a chosen convolution's output must stay what it was.
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return layers
