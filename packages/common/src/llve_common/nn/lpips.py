"""LPIPS: how far two images are apart in AlexNet's features, weighted as people judged.

Zhang, Isola, Efros, Shechtman, Wang, *The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric*, CVPR 2018, equation 1, with the constants of its authors' version 0.1. AlexNet
is that of Krizhevsky, *One weird trick for parallelizing convolutional neural networks*, 2014,
under torchvision's layer names; its classifier is left out.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llve_common.errors import DataError

SHORTEST_SIDE = 31
"""A shorter side leaves nothing after the second pooling."""
# Of images in [-1, 1]: ImageNet's mean and standard deviation, rounded by LPIPS's authors.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_WIDTHS = (64, 192, 384, 256, 256)


class Lpips(nn.Module):
    """AlexNet's five convolutions, and a weight for each of their channels."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth, fifth = _WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(3, first, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(second, third, 3, padding=1), nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1), nn.ReLU(),
            nn.Conv2d(fourth, fifth, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.weights = nn.ParameterList(torch.zeros(width) for width in _WIDTHS)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """The distances (N,) of images (N, 3, H, W), RGB in [0, 1], sides of 31 pixels or more."""
        layers = zip(self.weights, self._units(image), self._units(target), strict=True)
        return torch.stack([
            (weight.view(-1, 1, 1) * (one - other) ** 2).sum(1).mean((1, 2))
            for weight, one, other in layers
        ]).sum(0)  # fmt: skip

    def _units(self, image: Tensor) -> Iterator[Tensor]:
        """The features after each ReLU, at each place as a vector of length 1."""
        shift, scale = (image.new_tensor(values).view(3, 1, 1) for values in (_SHIFT, _SCALE))
        features = (2 * image - 1 - shift) / scale
        for layer in self.features:
            features = layer(features)
            if isinstance(layer, nn.ReLU):
                yield features / (features.norm(dim=1, keepdim=True) + 1e-10)


def lpips(network: Lpips, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """The distance of two 8-bit images, (H, W, 3) RGB: 0 for equal ones, and smaller is better.

    Raises:
        DataError: the sizes differ, or a side is shorter than 31 pixels.
    """
    if image.shape != target.shape or min(image.shape[:2]) < SHORTEST_SIDE:
        raise DataError(
            "LPIPS cannot compare these images", got=f"{image.shape} and {target.shape}",
            expected=f"one size, with sides of at least {SHORTEST_SIDE} pixels",
        )  # fmt: skip
    device = network.weights[0].device
    with torch.inference_mode():
        pair = [torch.tensor(each, device=device).movedim(-1, 0)[None] / 255
                for each in (image, target)]  # fmt: skip
        return float(network(*pair))
