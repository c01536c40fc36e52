"""The residual block that SDSD and STCD share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INITIAL_SCALE = 0.1


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, without normalisation.

    It starts near the identity: weights Kaiming-normal (fan in) times 0.1, biases 0.

    Source: Wang, Xu, Fu, Lu, Yu, Jia, *Seeing Dynamic Scene in the Dark*, ICCV 2021; after Lim et
    al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, Figure 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                layer.weight.mul_(_INITIAL_SCALE)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        change: Tensor = self.conv2(F.relu(self.conv1(features)))
        return features + change
