"""The networks of SCI.

Ma, Ma, Liu, Fan, Luo, *Toward Fast, Flexible, and Robust Low-Light Image Enhancement*, CVPR 2022,
Section 3. Retinex: a low-light image is an illumination times a reflectance, and the reflectance is
the enhanced image.

Images are (N, 3, H, W), float, RGB, [0, 1], of any height and width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class IlluminationEstimator(nn.Module):
    """Estimates the illumination as the image plus a residual (Eq. 2).

    Its one block of shared weights is applied ``layers`` times.
    """

    def __init__(self, layers: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.layers = layers
        self.in_conv = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(inplace=True))
        self.conv = nn.Sequential(*_normed(channels, channels))
        self.out_conv = nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, image: Tensor) -> Tensor:
        """The illumination (N, 3, H, W), in [1e-4, 1]."""
        features = self.in_conv(image)
        for _ in range(self.layers):
            features = features + self.conv(features)
        residual: Tensor = self.out_conv(features)
        # Both bounds are floats: torch's ONNX exporter refuses a mixture.
        return torch.clamp(residual + image, 1e-4, 1.0)


class SelfCalibration(nn.Module):
    """Maps a stage's reflectance back to the first stage's input (Eq. 3); training only.

    Its one block of shared weights is applied three times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = 3
        self.in_conv = nn.Sequential(*_normed(3, 16))
        self.convs = nn.Sequential(*_normed(16, 16), *_normed(16, 16))
        self.out_conv = nn.Sequential(nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, reflectance: Tensor) -> Tensor:
        """The difference (N, 3, H, W) between the reflectance and its calibrated form."""
        features = self.in_conv(reflectance)
        for _ in range(self.layers):
            features = features + self.convs(features)
        calibrated: Tensor = self.out_conv(features)
        return reflectance - calibrated


class Stage(NamedTuple):
    """What one stage of the cascade sees and gives, each (N, 3, H, W)."""

    input: Tensor
    illumination: Tensor
    reflectance: Tensor
    calibration: Tensor


class Enhancer(nn.Module):
    """The network in use: one pass of the estimator."""

    def __init__(self, layers: int = 1, channels: int = 3) -> None:
        super().__init__()
        self.enhance = IlluminationEstimator(layers, channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Illumination and reflectance, the enhanced image, each (N, 3, H, W)."""
        illumination = self.enhance(image)
        return illumination, divide(image, illumination)


class Cascade(Enhancer):
    """The network in training: stages that share one estimator and one calibration (Eq. 4)."""

    def __init__(self, stages: int = 3) -> None:
        super().__init__()
        self.stages = stages
        self.calibrate = SelfCalibration()

    def unroll(self, image: Tensor) -> list[Stage]:
        """All stages; the calibration's last output is unused but moves its running statistics."""
        stages = []
        stage_input = image
        for _ in range(self.stages):
            illumination = self.enhance(stage_input)
            reflectance = divide(image, illumination)
            calibration = self.calibrate(reflectance)
            stages.append(Stage(stage_input, illumination, reflectance, calibration))
            stage_input = image + calibration
        return stages


def _normed(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def divide(image: Tensor, illumination: Tensor) -> Tensor:
    """The reflectance: image / illumination, clipped to [0, 1]."""
    return torch.clamp(image / illumination, 0, 1)


def initialise(network: nn.Module) -> None:
    """Draw the published initial weights, once for each layer in order of registration.

    Convolutions: weights N(0, 0.02), biases 0. Batch norm: weights N(1, 0.02).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
