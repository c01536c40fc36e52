"""The network of TCE-Net.

Zhu, Yang, Chen, Zhu, Meng, Wang, *Temporally Consistent Enhancement of Low-Light Videos via
Spatial-Temporal Compatible Learning*, IJCV 2024. Six frames go in; an encoder sees frames 0 to 4
and frames 1 to 5, co-attention lets the two latents exchange what they share, and a decoder makes
of each one enhanced frame: frames 2 and 3.

Frames are (N, T, 3, H, W), float, RGB, [0, 1]; H and W at least 16, of remainder 0 or 4 by 16. The
output is not bounded. A *map* holds the features of g moments, one after the other in its channels:
(N, g C, H, W).

Every layer norm is over the whole (C, H, W) of a sample, without parameters: what comes out depends
on the size of the frame, and a tile does not equal that part of the whole.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_tcenet.attention import SLOPE, CoAttention, resized


class Encoding(NamedTuple):
    """What the encoder keeps of five frames.

    Attributes:
        latent: (N, 4 features, H/4, W/4).
        half: (N, 2 features, H/2, W/2), the middle third of the features at half the size.
        full: (N, features, H, W), the middle frame's features.
    """

    latent: Tensor
    half: Tensor
    full: Tensor


class Encoder(nn.Module):
    """Merges five frames into one latent."""

    def __init__(self, features: int = 32, blocks: int = 16) -> None:
        super().__init__()
        w = features
        self.conv_1_1 = nn.Conv2d(15, 5 * w, 3, padding=1, groups=5)
        self.conv_1_2 = nn.Conv2d(5 * w, 5 * w, 3, padding=1, groups=5)
        self.conv_2_1 = PairConvolution(w, 2 * w, stride=2)
        self.conv_2_2 = nn.Conv2d(8 * w, 8 * w, 3, padding=1, groups=4)
        self.conv_3_1 = PairConvolution(2 * w, 2 * w)
        self.conv_3_2 = nn.Conv2d(6 * w, 6 * w, 3, padding=1, groups=3)
        self.conv_4_1 = PairConvolution(2 * w, 4 * w, stride=2)
        self.conv_4_2 = nn.Conv2d(8 * w, 8 * w, 3, padding=1, groups=2)
        self.conv_5_1 = PairConvolution(4 * w, 4 * w)
        self.conv_5_2 = nn.Conv2d(4 * w, 4 * w, 3, padding=1)
        self.res_block_list = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4 * w, 4 * w, 3, padding=1)) for _ in range(2 * blocks)
        )
        self.convlstm = ConvLSTM(4 * w, 4 * w, 3)
        self.aspp = ASPP(4 * w)
        self.conv_after_res_block = nn.Conv2d(4 * w, 4 * w, 3, padding=1)

    def forward(self, frames: Tensor) -> Encoding:
        """Encode frames (N, 5, 3, H, W)."""
        full = self.at_full_size(frames.flatten(1, 2))
        half = self.at_half_size(full)
        kept_full = middle(full, 5)
        del full  # of a large frame more than a gigabyte, and done with
        latent = self.at_quarter_size(half)
        return Encoding(latent, middle(half, 3), kept_full)

    def at_full_size(self, frames: Tensor) -> Tensor:
        """Each frame by itself: (N, 15, H, W) to the map (N, 5 features, H, W)."""
        features = activate(self.conv_1_1(frames))
        return activate(layer_norm(self.conv_1_2(features)))

    def at_half_size(self, features: Tensor) -> Tensor:
        """Five moments to three: (N, 5 features, H, W) to (N, 6 features, H/2, W/2)."""
        features = activate(layer_norm(self.conv_2_2(self.conv_2_1(features))))
        return activate(layer_norm(self.conv_3_2(self.conv_3_1(features))))

    def at_quarter_size(self, features: Tensor) -> Tensor:
        """Three moments to the latent: (N, 6 features, H/2, W/2) to (N, 4 features, H/4, W/4)."""
        features = activate(layer_norm(self.conv_4_2(self.conv_4_1(features))))
        merged = activate(layer_norm(self.conv_5_2(self.conv_5_1(features))))
        features = merged
        convolutions = iter(self.res_block_list)
        for first, second in zip(convolutions, convolutions, strict=True):
            features = features + layer_norm(second(activate(layer_norm(first(features)))))
        hidden, _ = self.convlstm(features)
        features = self.aspp(features + hidden)
        return merged + layer_norm(self.conv_after_res_block(features))


class Decoder(nn.Module):
    """Makes a latent and the middle frame's features one enhanced frame."""

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        w = features
        self.deconv_6 = nn.Sequential(nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2))
        self.conv_6_1 = nn.Conv2d(4 * w, 2 * w, 3, padding=1)
        self.conv_6_2 = nn.Conv2d(2 * w, 2 * w, 3, padding=1)
        self.deconv_7 = nn.Sequential(nn.ConvTranspose2d(2 * w, w, 2, stride=2))
        self.conv_7_1 = nn.Conv2d(2 * w, w, 3, padding=1)
        self.conv_7_2 = nn.Conv2d(w, w, 3, padding=1)
        self.conv_8 = nn.Conv2d(w, 3, 3, padding=1)

    def forward(self, encoding: Encoding) -> Tensor:
        """The enhanced frame (N, 3, H, W), not bounded."""
        features = torch.cat([self.deconv_6(encoding.latent), encoding.half], dim=1)
        features = activate(layer_norm(self.conv_6_1(features)))
        features = activate(layer_norm(self.conv_6_2(features)))
        features = torch.cat([self.deconv_7(features), encoding.full], dim=1)
        features = activate(layer_norm(self.conv_7_1(features)))
        features = activate(layer_norm(self.conv_7_2(features)))
        frame: Tensor = self.conv_8(features)
        return frame


class TCENet(nn.Module):
    """Encoder, co-attention and decoder.

    Args:
        features: channels of a frame at its own size; the latent has four times as many.
        blocks: residual blocks of the latent.
    """

    def __init__(self, features: int = 32, blocks: int = 16) -> None:
        super().__init__()
        self.encoder = Encoder(features, blocks)
        self.co_attention = CoAttention(4 * features)
        self.decoder = Decoder(features)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames 2 and 3 of six frames (N, 6, 3, H, W), enhanced: (N, 3, H, W) each."""
        first, second = self.encoder(frames[:, :5]), self.encoder(frames[:, 1:])
        first, second = self.exchange(first, second)
        return self.decoder(first), self.decoder(second)

    def exchange(self, first: Encoding, second: Encoding) -> tuple[Encoding, Encoding]:
        """Neighbouring encodings with their latents after co-attention."""
        latents = self.co_attention(first.latent, second.latent)
        return first._replace(latent=latents[0]), second._replace(latent=latents[1])


class PairConvolution(nn.Conv3d):
    """A convolution over each two neighbouring moments, the same for all: g moments become g - 1.

    It holds the weights of a 3-D convolution of kernel (2, 3, 3). In a map, two neighbouring
    moments lie side by side, so it runs as a 2-D convolution, with nothing moved in memory. The
    stride is that of rows and columns.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, (2, 3, 3), (1, stride, stride), (0, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """A map (N, g inputs, H, W) to (N, (g - 1) outputs, H / stride, W / stride)."""
        kernel = self.weight.transpose(1, 2).flatten(1, 2)
        step = self.in_channels
        starts = range(0, features.shape[1] - step, step)
        pairs = (features.narrow(1, start, 2 * step) for start in starts)
        moments = [
            F.conv2d(pair, kernel, self.bias, self.stride[1:], self.padding[1:]) for pair in pairs
        ]
        return torch.cat(moments, dim=1)


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell (Shi et al., NeurIPS 2015)."""

    def __init__(self, inputs: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        self.Gates = nn.Conv2d(inputs + hidden, 4 * hidden, kernel, padding=kernel // 2)

    def forward(
        self, features: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next hidden and cell state, each (N, hidden, H, W), of features (N, inputs, H, W).

        Without a last state they begin from zeros, as TCE-Net always does: the gate that remembers
        them is then left out.
        """
        if state is None:
            entry, output, candidate = self._gates_of_zero_state(features).chunk(3, dim=1)
            cell = torch.sigmoid(entry) * torch.tanh(candidate)
        else:
            gates = self.Gates(torch.cat([features, state[0]], dim=1))
            entry, remember, output, candidate = gates.chunk(4, dim=1)
            cell = torch.sigmoid(remember) * state[1]
            cell = cell + torch.sigmoid(entry) * torch.tanh(candidate)
        return torch.sigmoid(output) * torch.tanh(cell), cell

    def _gates_of_zero_state(self, features: Tensor) -> Tensor:
        assert self.Gates.bias is not None
        after = 2 * self.hidden
        weight = torch.cat([self.Gates.weight[: self.hidden], self.Gates.weight[after:]])
        bias = torch.cat([self.Gates.bias[: self.hidden], self.Gates.bias[after:]])
        return F.conv2d(features, weight[:, : self.inputs], bias, padding=self.Gates.padding)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., DeepLab v3, 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_normed(channels, channels))
        local = (_normed(channels, channels, dilation) for dilation in (None, 12, 24, 36))
        self.convs = nn.ModuleList([*local, pooling])
        self.project = nn.Sequential(*_normed(5 * channels, channels), nn.Dropout(0.1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape; in training N is at least 2."""
        *local, pooled = (branch(features) for branch in self.convs)
        around = resized(pooled, features.shape[-2:])
        projected: Tensor = self.project(torch.cat([*local, around], dim=1))
        return projected


def _normed(inputs: int, outputs: int, dilation: int | None = None) -> nn.Sequential:
    """A convolution with batch norm: 1x1, or 3x3 where a dilation is given."""
    if dilation is None:
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    else:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE))


def middle(features: Tensor, moments: int) -> Tensor:
    """The middle third (fifth, ...) of a map's channels, (N, C / moments, H, W)."""
    channels = features.shape[1] // moments
    part = features.narrow(1, moments // 2 * channels, channels)
    # Without gradients nothing else needs the rest: a copy lets go of it.
    return part if torch.is_grad_enabled() else part.clone()


def layer_norm(features: Tensor) -> Tensor:
    """Each sample normalised over all of (C, H, W)."""
    if features.is_cuda:
        # PyTorch's own leaves a sample to one multiprocessor of more than a hundred.
        return _by_moments(features)
    return F.layer_norm(features, features.shape[1:], eps=1e-5)


def _by_moments(features: Tensor) -> Tensor:
    features = features.float()
    variance, mean = torch.var_mean(features, (1, 2, 3), correction=0, keepdim=True)
    return (features - mean) * torch.rsqrt(variance + 1e-5)


def activate(features: Tensor) -> Tensor:
    """Leaky ReLU, in place."""
    return F.leaky_relu(features, SLOPE, inplace=True)


def initialise(network: nn.Module) -> None:
    """Draw the published initial weights, once for each layer in order of registration.

    Convolutions and linear layers: Xavier's normal distribution with gain 0.02, biases 0. Batch
    norm: weights N(1, 0.02).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(layer.weight, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
