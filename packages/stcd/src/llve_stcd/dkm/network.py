"""The whole network: pictures in, where each pixel of one lies in the other and how surely out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llve_common.errors import CheckpointError, DataError
from llve_common.io.images import to_tensor
from llve_common.nn.vgg import imagenet_normalised
from llve_common.weights.files import load_into, read_weights
from llve_stcd.config import Place
from llve_stcd.dkm.decoder import Decoder, Estimate
from llve_stcd.dkm.encoder import Encoder, Features
from llve_stcd.dkm.positions import grid, resize

SOURCE = "https://github.com/Parskatt/DKM"


@dataclass(frozen=True)
class Resolution:
    """What pictures are resized to, as (height, width), their aspect ratio ignored.

    A second pass, where there is one, refines the first one's result at the fine strides. The warp
    has the size of the last pass.
    """

    first: tuple[int, int]
    second: tuple[int, int] | None = None


PUBLISHED: dict[Place, Resolution] = {
    "indoor": Resolution((480, 640)),
    "outdoor": Resolution((540, 720), (864, 1152)),
}
"""The resolutions that the weights were published with; accuracy is sensitive to the first."""


class DKMv3(nn.Module):
    """Encoder, decoder, and the two passes around them.

    Computes in float32, without randomness and without gradients.
    """

    def __init__(self, resolution: Resolution) -> None:
        super().__init__()
        self.resolution = resolution
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.eval().requires_grad_(requires_grad=False)
        # Most convolutions are 1x1 or depthwise: faster where a pixel's channels lie together.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub

    def match(
        self, first: Sequence[NDArray[np.uint8]], second: Sequence[NDArray[np.uint8]]
    ) -> tuple[Tensor, Tensor]:
        """Match pairs of pictures.

        Args:
            first: N pictures A, (H, W, 3) uint8, RGB, each of any size.
            second: as many pictures B, likewise.

        Returns:
            The warp (N, H, 2 W, 4) and its certainty (N, H, 2 W) in [0, 1], at the resolution's
            size. The warp's last axis is (x, y) in A and (x, y) in B: the left half holds every
            pixel of A and its match in B, the right half every pixel of B, behind its match in A.

        Raises:
            DataError: the numbers differ, or a picture is not of that shape and type.
        """
        if len(first) != len(second) or not first:
            got = f"{len(first)} and {len(second)} pictures"
            raise DataError("the pictures to match are not pairs", got=got)
        device = next(self.parameters()).device
        sizes = filter(None, (self.resolution.first, self.resolution.second))
        passes = ([prepare(each, size) for each in (*first, *second)] for size in sizes)
        found: tuple[Tensor, Tensor] = self(*(torch.stack(images).to(device) for images in passes))
        return found

    @torch.no_grad()
    def forward(self, images: Tensor, fine: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The warp and the certainty of :meth:`match` from prepared images, in one or two passes.

        They are (2 N, 3, H, W), normalised: N images A, then N images B.
        """
        # Half precision from a training around this is not what the weights were made for.
        with torch.autocast(images.device.type, enabled=False):
            first, second = self.estimates(images, fine)
        return warp_and_certainty(second.get(1, first[1]), first[16].certainty)

    def estimates(
        self, images: Tensor, fine: Tensor | None = None
    ) -> tuple[dict[int, Estimate], dict[int, Estimate]]:
        """The estimates after every stride of the first and the second pass.

        Arguments are those of :meth:`forward`; each estimate is of 2 N pairs, A to B and then B
        to A.
        """
        features = self.encoder(images)
        first = self.decoder(features, _exchanged(features))
        if fine is None:
            return first, {}
        features = self.encoder(fine, coarsest=8)
        return first, self.decoder.refine(features, _exchanged(features), first[1])


def load(place: Place, weights: Path | None) -> DKMv3:
    """The matcher with its published weights, loaded strictly, at their resolution.

    Raises:
        CheckpointError: the file is missing, damaged or holds other weights.
    """
    weights = require_weights("dkm", place, weights)
    with torch.device("meta"):  # the file holds every value, so none is drawn
        matcher = DKMv3(PUBLISHED[place])
    matcher.to_empty(device="cpu")
    state = read_weights(weights)
    load_into(matcher, state, weights)
    wanted = matcher.state_dict()
    others = [key for key, value in state.items() if value.dtype != wanted[key].dtype]
    if others:
        raise CheckpointError(
            "the weights are of another precision than the published ones",
            where=weights,
            got=f"{others[0]} is {state[others[0]].dtype} (and {len(others) - 1} more)",
            expected=wanted[others[0]].dtype,
        )
    return matcher


def require_weights(matcher: str, place: Place, weights: Path | None) -> Path:
    """The file ``DKMv3_<place>.pth`` for a matcher, by its name in the settings.

    Raises:
        CheckpointError: there is no such file.
    """
    if weights is None or not weights.is_file():
        raise CheckpointError(
            f"no weights for the matcher {matcher}",
            where=weights,
            expected=f"the file DKMv3_{place}.pth, which its authors publish at {SOURCE}",
            mend=f"give its path, or published:dkm-{place} after 'stcd weights fetch dkm-{place}', "
            "or take the matcher dis, which needs no weights",
        )
    return weights


def prepare(picture: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Resize a picture (H, W, 3) uint8 by Pillow's bicubic filter and normalise it.

    It becomes (3, height, width) float32: ImageNet's mean is 0, its deviation 1.

    Raises:
        DataError: the picture is not of that shape and type.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        got, expected = f"{picture.shape} {picture.dtype}", "(H, W, 3) uint8, not empty"
        raise DataError("the picture to match does not fit", got=got, expected=expected)
    height, width = size
    resized = PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return imagenet_normalised(to_tensor(np.asarray(resized)))


def warp_and_certainty(estimate: Estimate, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """The result in the form that :meth:`DKMv3.match` gives.

    Where the certainty at stride 16 is negative, half of it is taken off the final one, which
    thereby rises: as released. A match outside the other image gets certainty 0 and is clamped. The
    estimate is the last one, of 2 N pairs, A to B and then B to A, and ``coarse`` (2 N, 1, h, w)
    the first pass's certainty logit at stride 16.
    """
    flow, logit = estimate
    logit = logit - 0.5 * resize(coarse, logit.shape[-2:]).clamp(max=0)
    outside = (flow.abs() > 1).any(1, keepdim=True)
    certainty = torch.sigmoid(logit).masked_fill(outside, 0.0)
    a_to_b, b_to_a = flow.clamp(-1, 1).chunk(2)
    own = grid(flow).expand_as(a_to_b)
    warp = torch.cat([torch.cat([own, a_to_b], 1), torch.cat([b_to_a, own], 1)], 3)
    return warp.permute(0, 2, 3, 1), torch.cat(certainty.chunk(2), 3)[:, 0]


def _exchanged(features: Features) -> Features:
    """The features of the images that each image is matched to."""
    return {stride: torch.cat(each.chunk(2)[::-1]) for stride, each in features.items()}
