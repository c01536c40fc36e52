"""The flow between images of any size and range."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.config import ImageRange
from llve_common.flow.dis import check_frames
from llve_common.flow.raft.network import ITERATIONS, SHORTEST_SIDE, Raft, RaftFlow, check_pair
from llve_common.flow.raft.update import MULTIPLE


def raft_flow(
    network: Raft,
    first: Tensor,
    second: Tensor,
    *,
    image_range: ImageRange = "unit",
    iterations: int = ITERATIONS,
) -> Tensor:
    """Estimate the flow from ``first`` to ``second``, images of any size.

    What RAFT cannot take (a side below 128 or not a multiple of 8) is padded by replication at the
    bottom and right, and the flow is cropped. Gradients reach both images.

    Args:
        network: with trained weights, in training mode to normalise by the batch as TCE-Net's
            published trainer and tester do, else in evaluation mode.
        first: (N, 3, H, W), RGB, [0, 1]; values beyond are not clipped.
        second: the same shape.
        image_range: ``"unit"`` feeds [0, 1], as TCE-Net's published trainer does; ``"signed"``
            feeds [-1, 1], for which the published weights were trained.
        iterations: how often the flow is refined.

    Returns:
        (N, 2, H, W) in pixels (x, y): what is at ``p`` in ``first`` is at ``p + flow[p]`` in
        ``second``.

    Raises:
        DataError: the images differ or are not of such a shape.
    """
    check_pair(first, second)
    height, width = first.shape[-2:]
    images = [_padded(2 * i - 1 if image_range == "signed" else i) for i in (first, second)]
    found: RaftFlow = network(*images, iterations=iterations)
    return found.flow[..., :height, :width]


def raft_frame_flow(
    network: Raft, first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    """Estimate the flow between two 8-bit frames, in the range that the weights expect.

    With the network, which is in evaluation mode, bound by :func:`functools.partial`, it is a flow
    estimator for :class:`llve_common.metrics.temporal.GuideFlow`: frames (H, W, 3) uint8 RGB to
    (H, W, 2) float32 in pixels (x, y), from first to second.

    Raises:
        DataError: the frames are not of that shape and type, or not of one size.
    """
    check_frames(first, second)
    device = next(network.parameters()).device
    with torch.inference_mode():
        images = [
            torch.tensor(np.ascontiguousarray(frame), device=device).movedim(-1, 0)[None] / 255
            for frame in (first, second)
        ]
        flow = raft_flow(network, images[0], images[1], image_range="signed")
    return np.ascontiguousarray(flow[0].movedim(0, -1).cpu().numpy(), dtype=np.float32)


def _padded(image: Tensor) -> Tensor:
    """The image with its border repeated at the bottom and right, to a size that RAFT takes."""
    bottom, right = (
        max(SHORTEST_SIDE, side + -side % MULTIPLE) - side for side in image.shape[-2:]
    )
    return F.pad(image, (0, right, 0, bottom), mode="replicate")
