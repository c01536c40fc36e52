"""From features to a flow, coarse to fine (Figure 2 of the paper)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from llve_stcd.dkm.embedding import COARSE, FEATURES, WIDTH, EmbeddingDecoder
from llve_stcd.dkm.encoder import STRIDES, Features
from llve_stcd.dkm.gaussian_process import GaussianProcess
from llve_stcd.dkm.positions import resize
from llve_stcd.dkm.refiner import Refiner


class Estimate(NamedTuple):
    """A flow (N, 2, H, W) and the logit of its certainty (N, 1, H, W)."""

    flow: Tensor
    certainty: Tensor

    def resized(self, size: tuple[int, ...]) -> Estimate:
        """The same on another grid (height, width)."""
        return Estimate(resize(self.flow, size), resize(self.certainty, size))


class Decoder(nn.Module):
    """Matches globally at strides 32 and 16 and refines at 16, 8, 4, 2 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_decoder = EmbeddingDecoder()
        self.gps = nn.ModuleDict({str(stride): GaussianProcess() for stride in COARSE})
        projections = {"16": nn.Conv2d(1024, FEATURES, 1), "32": nn.Conv2d(2048, FEATURES, 1)}
        self.proj = nn.ModuleDict(projections)
        refiners = {
            "16": Refiner(FEATURES, embedding=128, radius=7),
            "8": Refiner(512, embedding=64, radius=3),
            "4": Refiner(256, embedding=32, radius=2),
            "2": Refiner(64, embedding=16),
            "1": Refiner(3, embedding=6, hidden=24),
        }
        self.conv_refiner = nn.ModuleDict(refiners)

    def forward(self, first: Features, second: Features) -> dict[int, Estimate]:
        """The estimates after every stride, from the features of A and B."""
        estimates: dict[int, Estimate] = {}
        context = first[32].new_zeros(len(first[32]), WIDTH, 1, 1)
        image = first[1].shape[-2:]
        for stride in COARSE:
            at = str(stride)
            a, b = self.proj[at](first[stride]), self.proj[at](second[stride])
            mean = self.gps[at](a, b)
            context = resize(context, a.shape[-2:])
            flow, certainty, context = self.embedding_decoder(stride, mean, a, context)
            estimates[stride] = Estimate(flow, certainty)
            # The estimate at stride 32 is not used: only its context reaches stride 16.
            if stride == COARSE[-1]:
                estimates[stride] = self._refined(stride, a, b, estimates[stride], image)
        return {**estimates, **self.refine(first, second, estimates[COARSE[-1]])}

    def refine(self, first: Features, second: Features, start: Estimate) -> dict[int, Estimate]:
        """The estimates after strides 8, 4, 2 and 1, from one at any resolution."""
        estimates, estimate, image = {}, start, first[1].shape[-2:]
        for stride in STRIDES[len(COARSE) :]:
            a, b = first[stride], second[stride]
            estimate = self._refined(stride, a, b, estimate.resized(a.shape[-2:]), image)
            estimates[stride] = estimate
        return estimates

    def _refined(
        self, stride: int, first: Tensor, second: Tensor, estimate: Estimate, image: tuple[int, ...]
    ) -> Estimate:
        change, displacement = self.conv_refiner[str(stride)](first, second, estimate.flow)
        height, width = image
        unit = displacement.new_tensor([stride / (4 * width), stride / (4 * height)])
        flow = estimate.flow + displacement * unit.view(1, 2, 1, 1)
        return Estimate(flow, estimate.certainty + change)
