"""The network of SDSD.

Wang, Xu, Fu, Lu, Yu, Jia, *Seeing Dynamic Scene in the Dark: High-Quality Video Dataset with
Mechatronic Alignment*, ICCV 2021. Retinex with noise: a dark frame is a reflectance times an
illumination, plus noise; the reflectance is the enhanced frame.

Frames are (N, T, 3, H, W), float, RGB, [0, 1], H and W multiples of 16. Layers carry the names of
the published weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.errors import DataError
from llve_common.nn.residual import ResidualBlock
from llve_common.ops.packed import PackedDeformConv2d

# Three times half the size after a quarter.
MULTIPLE = 16
# Last channels.
_FEW = 16


class Pyramid(NamedTuple):
    """The features (N, nf, h, w) of one frame at a quarter, an eighth and a sixteenth of it."""

    level1: Tensor
    level2: Tensor
    level3: Tensor


class Branch(NamedTuple):
    """The layers of a reconstruction branch, in order."""

    trunk: nn.Module
    upconv1: nn.Conv2d
    upconv2: nn.Conv2d
    last_but_one: nn.Conv2d
    last: nn.Conv2d


class Decomposition(NamedTuple):
    """What the network makes of a window, each (N, 3, H, W).

    The illumination is at least the centre frame and at most 1; the enhanced frame is the denoised
    one over it. Both frames are not clipped.
    """

    enhanced: Tensor
    illumination: Tensor
    denoised: Tensor


class PyramidAlignment(nn.Module):
    """Aligns a frame's features to the centre frame's, from coarse to fine.

    Offsets are estimated from both frames' features and, below the coarsest level, from the coarser
    level's offsets; the last deformable convolution refines the result once more.
    """

    def __init__(self, nf: int = 64, groups: int = 8) -> None:
        super().__init__()
        self.L3_offset_conv1 = _conv(2 * nf, nf)
        self.L3_offset_conv2 = _conv(nf, nf)
        self.L3_dcnpack = _deformable(nf, groups)
        self.L2_offset_conv1 = _conv(2 * nf, nf)
        self.L2_offset_conv2 = _conv(2 * nf, nf)
        self.L2_offset_conv3 = _conv(nf, nf)
        self.L2_dcnpack = _deformable(nf, groups)
        self.L2_fea_conv = _conv(2 * nf, nf)
        self.L1_offset_conv1 = _conv(2 * nf, nf)
        self.L1_offset_conv2 = _conv(2 * nf, nf)
        self.L1_offset_conv3 = _conv(nf, nf)
        self.L1_dcnpack = _deformable(nf, groups)
        self.L1_fea_conv = _conv(2 * nf, nf)
        self.cas_offset_conv1 = _conv(2 * nf, nf)
        self.cas_offset_conv2 = _conv(nf, nf)
        self.cas_dcnpack = _deformable(nf, groups)

    def forward(self, neighbour: Pyramid, centre: Pyramid) -> Tensor:
        """The neighbour's features (N, nf, H/4, W/4) where the centre frame has them."""
        compared = Pyramid(
            self.L1_offset_conv1(_cat(neighbour.level1, centre.level1)),
            self.L2_offset_conv1(_cat(neighbour.level2, centre.level2)),
            self.L3_offset_conv1(_cat(neighbour.level3, centre.level3)),
        )
        aligned = self.coarse_to_fine(neighbour, compared)
        return self.cascade(aligned, self.cas_offset_conv1(_cat(aligned, centre.level1)))

    def coarse_to_fine(self, neighbour: Pyramid, compared: Pyramid) -> Tensor:
        """The neighbour's features after the pyramid.

        ``compared`` is what each level's first convolution makes of both frames'; it is changed.
        """
        offset3 = _lrelu(self.L3_offset_conv2(_lrelu(compared.level3)))
        aligned3 = _lrelu(self.L3_dcnpack(neighbour.level3, offset3))

        # Half the pixel's size makes an offset twice as long.
        offset = _cat(_lrelu(compared.level2), 2 * _up(offset3))
        offset2 = _lrelu(self.L2_offset_conv3(_lrelu(self.L2_offset_conv2(offset))))
        aligned2 = self.L2_dcnpack(neighbour.level2, offset2)
        aligned2 = _lrelu(self.L2_fea_conv(_cat(aligned2, _up(aligned3))))

        offset = _cat(_lrelu(compared.level1), 2 * _up(offset2))
        offset1 = _lrelu(self.L1_offset_conv3(_lrelu(self.L1_offset_conv2(offset))))
        aligned1 = self.L1_dcnpack(neighbour.level1, offset1)
        fine: Tensor = self.L1_fea_conv(_cat(aligned1, _up(aligned2)))
        return fine

    def cascade(self, aligned: Tensor, compared: Tensor) -> Tensor:
        """The last refinement of aligned features, compared once more with the centre's."""
        offset = _lrelu(self.cas_offset_conv2(_lrelu(compared)))
        return _lrelu(self.cas_dcnpack(aligned, offset))


class AttentionFusion(nn.Module):
    """Merges the aligned features by temporal, then by spatial attention."""

    def __init__(self, nf: int = 64, nframes: int = 5, center: int = 2) -> None:
        super().__init__()
        self.center = center
        self.tAtt_1 = _conv(nf, nf)
        self.tAtt_2 = _conv(nf, nf)
        self.fea_fusion = nn.Conv2d(nframes * nf, nf, 1)
        self.sAtt_1 = nn.Conv2d(nframes * nf, nf, 1)
        self.sAtt_2 = nn.Conv2d(2 * nf, nf, 1)
        self.sAtt_3 = _conv(nf, nf)
        self.sAtt_4 = nn.Conv2d(nf, nf, 1)
        self.sAtt_5 = _conv(nf, nf)
        self.sAtt_L1 = nn.Conv2d(nf, nf, 1)
        self.sAtt_L2 = _conv(2 * nf, nf)
        self.sAtt_L3 = _conv(nf, nf)
        self.sAtt_add_1 = nn.Conv2d(nf, nf, 1)
        self.sAtt_add_2 = nn.Conv2d(nf, nf, 1)

    def forward(self, aligned: Sequence[Tensor]) -> Tensor:
        """Aligned features of every frame, h and w multiples of 4, to one: (N, nf, h, w) each."""
        weighted = self._weighted_by_likeness(aligned)
        features = _lrelu(self.fea_fusion(weighted))
        attention = self._spatial_attention(_lrelu(self.sAtt_1(weighted)))
        shift: Tensor = self.sAtt_add_2(_lrelu(self.sAtt_add_1(attention)))
        # Twice the sigmoid, so that an attention of 0 changes nothing.
        return features * torch.sigmoid(attention) * 2 + shift

    def _weighted_by_likeness(self, aligned: Sequence[Tensor]) -> Tensor:
        """Each frame times its likeness to the centre, pixel by pixel: (N, nframes nf, h, w)."""
        centre = self.tAtt_2(aligned[self.center])
        # One frame may stand in for others, as a single image does for all.
        weighted = {
            each: each * torch.sigmoid((self.tAtt_1(each) * centre).sum(1, keepdim=True))
            for each in dict.fromkeys(aligned)
        }
        return torch.cat([weighted[each] for each in aligned], 1)

    def _spatial_attention(self, features: Tensor) -> Tensor:
        """A gain (N, nf, h, w) before the sigmoid, seen at a half and at a quarter of the size."""
        half = _lrelu(self.sAtt_2(_pooled(features)))
        quarter = _lrelu(self.sAtt_L2(_pooled(_lrelu(self.sAtt_L1(half)))))
        half = _lrelu(self.sAtt_3(half)) + _up(_lrelu(self.sAtt_L3(quarter)))
        attention: Tensor = self.sAtt_5(_up(_lrelu(self.sAtt_4(half))))
        return attention


class RetinexNet(nn.Module):
    """Five frames in, the enhanced centre frame out, by a noise and an illumination branch.

    Args:
        nf: channels.
        nframes: frames of a window.
        groups: deformable groups.
        front_blocks: residual blocks of the frames' features.
        back_blocks: those of each branch.
        center: index of the frame to enhance; None is the middle.
        attention: merges aligned features by attention; otherwise by one 1x1 convolution.
        last_features: channels of the last layers, which are at the frame's size; as published they
            are 64 whatever the rest's.
    """

    def __init__(
        self,
        nf: int = 64,
        nframes: int = 5,
        groups: int = 8,
        front_blocks: int = 5,
        back_blocks: int = 10,
        center: int | None = None,
        attention: bool = True,
        last_features: int = 64,
    ) -> None:
        super().__init__()
        self.nframes = nframes
        self.center = nframes // 2 if center is None else center
        self.attention = attention
        self.conv_first_1 = _conv(3, nf)
        self.conv_first_2 = _conv(nf, nf, stride=2)
        self.conv_first_3 = _conv(nf, nf, stride=2)
        self.feature_extraction = _blocks(nf, front_blocks)
        self.fea_L2_conv1 = _conv(nf, nf, stride=2)
        self.fea_L2_conv2 = _conv(nf, nf)
        self.fea_L3_conv1 = _conv(nf, nf, stride=2)
        self.fea_L3_conv2 = _conv(nf, nf)
        self.pcd_align = PyramidAlignment(nf, groups)
        self.tsa_fusion = (
            AttentionFusion(nf, nframes, self.center)
            if attention
            else nn.Conv2d(nframes * nf, nf, 1)
        )
        last = last_features
        self.recon_trunk = _blocks(nf, back_blocks)
        self.upconv1, self.upconv2 = _conv(nf, 4 * nf), _conv(nf, 4 * last)
        self.HRconv, self.conv_last = _conv(last, last), _conv(last, 3)
        self.recon_trunk_denoise = _blocks(nf, back_blocks)
        self.upconv1_denoise, self.upconv2_denoise = _conv(nf, 4 * nf), _conv(nf, 4 * last)
        self.HRconv_denoise, self.conv_last_denoise = _conv(last, last), _conv(last, 3)

    def forward(self, frames: Tensor) -> Decomposition:
        """A window (N, nframes, 3, H, W) to its decomposed centre frame.

        Raises:
            DataError: other than ``nframes`` frames, or sides that are no multiples of 16.
        """
        if frames.shape[1] != self.nframes:
            what = "wrong number of frames in a window"
            raise DataError(what, got=frames.shape[1], expected=self.nframes)
        pyramids = self.pyramid(frames.flatten(0, 1))
        # All frames of all windows are aligned at once: on a GPU, five small calls take longer.
        windows = [level.unflatten(0, frames.shape[:2]) for level in pyramids]
        centres = (each[:, self.center, None].expand_as(each).flatten(0, 1) for each in windows)
        aligned = self.pcd_align(pyramids, Pyramid(*centres))
        fused = self.fuse(list(aligned.unflatten(0, frames.shape[:2]).unbind(1)))
        noise, light = (reconstructed(branch, fused) for branch in self.branches())
        return decomposed(frames[:, self.center], noise, light)

    def pyramid(self, frame: Tensor) -> Pyramid:
        """The features of single frames (N, 3, H, W).

        Raises:
            DataError: sides that are no multiples of 16.
        """
        height, width = frame.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise DataError(
                "the network cannot take frames of this size",
                got=f"{width}x{height}",
                expected=f"sides that are multiples of {MULTIPLE}",
                mend="pad the frames and crop the result",
            )
        features = _lrelu(self.conv_first_2(_lrelu(self.conv_first_1(frame))))
        features = _lrelu(self.conv_first_3(features))
        level1 = self.feature_extraction(features)
        level2 = _lrelu(self.fea_L2_conv2(_lrelu(self.fea_L2_conv1(level1))))
        level3 = _lrelu(self.fea_L3_conv2(_lrelu(self.fea_L3_conv1(level2))))
        return Pyramid(level1, level2, level3)

    def fuse(self, aligned: list[Tensor]) -> Tensor:
        """The aligned features of every frame, (N, nf, H/4, W/4) each, merged into one."""
        fused: Tensor = self.tsa_fusion(aligned if self.attention else torch.cat(tuple(aligned), 1))
        return fused

    def branches(self) -> tuple[Branch, Branch]:
        """The noise and the illumination branch."""
        noise = Branch(
            self.recon_trunk_denoise, self.upconv1_denoise, self.upconv2_denoise,
            self.HRconv_denoise, self.conv_last_denoise,
        )  # fmt: skip
        light = Branch(self.recon_trunk, self.upconv1, self.upconv2, self.HRconv, self.conv_last)
        return noise, light


def reconstructed(branch: Branch, fused: Tensor) -> Tensor:
    """A branch's image (N, 3, H, W) of the fused features (N, nf, H/4, W/4)."""
    half = _lrelu(F.pixel_shuffle(branch.upconv1(branch.trunk(fused)), 2))
    with few_in_float32(branch, half) as features:
        features = _lrelu(F.pixel_shuffle(branch.upconv2(features), 2))
        image: Tensor = branch.last(_lrelu(branch.last_but_one(features)))
        return image


@contextmanager
def few_in_float32(branch: Branch, features: Tensor) -> Iterator[Tensor]:
    """The features at half the size, for last layers that are float32 where they are few.

    Few hold the picture itself, in which a half format's steps would show.
    """
    if features.dtype == torch.float32 or branch.last.in_channels > _FEW:
        yield features
    else:
        with torch.autocast(features.device.type, enabled=False):
            yield features.float()


def decomposed(frame: Tensor, noise: Tensor, light: Tensor) -> Decomposition:
    """The centre frame taken apart by what the two branches made, all (N, 3, H, W)."""
    denoised = frame - noise
    illumination = torch.maximum(light, frame).clamp(max=1)
    # Both bounds are floats: torch's ONNX exporter refuses a mixture.
    return Decomposition(denoised / illumination.clamp(0.001, 1.0), illumination, denoised)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def _blocks(nf: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(nf) for _ in range(count)))


def _deformable(nf: int, groups: int) -> PackedDeformConv2d:
    return PackedDeformConv2d(nf, nf, 3, padding=1, deformable_groups=groups, extra_channels=nf)


def _lrelu(features: Tensor) -> Tensor:
    # In place: it follows a layer whose result nothing else uses.
    return F.leaky_relu(features, 0.1, inplace=True)


def _cat(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first, second], 1)


def _up(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def _pooled(features: Tensor) -> Tensor:
    """Maximum and mean of 3x3, at half the size, side by side."""
    return _cat(F.max_pool2d(features, 3, 2, 1), F.avg_pool2d(features, 3, 2, 1))
