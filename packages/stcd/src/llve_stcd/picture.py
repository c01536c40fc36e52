"""Pictures of what the method finds: matches between two frames, a frame taken apart."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.io.images import Pixels, to_pixels, to_tensor
from llve_stcd.dkm.positions import grid
from llve_stcd.matchers import Matches
from llve_stcd.network import Decomposition

_GAP = 8


def matches_picture(first: Pixels, second: Pixels, matches: Matches) -> Pixels:
    """Matches of one pair, the first image's in the left column and the second's in the right.

    From top to bottom: the images; each one's matches in the other, brought onto it; the way to
    them, where hue is direction and saturation is length, full at the longest (of a pixel or more);
    the certainty, from black to white. Of images (h, w, 3) uint8 RGB, and a batch of this one pair,
    it is (4 h, 2 w, 3) uint8 RGB and the gaps between.
    """
    (to_second, to_first), certainties = (each.chunk(2, dim=2) for each in matches)
    columns = [
        _match_column(first, second, to_second[0, ..., 2:], certainties[0][0]),
        _match_column(second, first, to_first[0, ..., :2], certainties[1][0]),
    ]
    return _joined([_joined(column, axis=0) for column in columns], axis=1)


def decomposition_picture(low: Tensor, found: Decomposition) -> Pixels:
    """:func:`decomposition_pictures` from left to right, (H, 4 W, 3) uint8 RGB and their gaps."""
    return _joined(list(decomposition_pictures(low, found).values()), axis=1)


def decomposition_pictures(low: Tensor, found: Decomposition) -> dict[str, Pixels]:
    """The first frame of a pair in low light, and what the network gave of it, by their labels.

    Of a batch (N, 3, H, W) in [0, 1] the first is shown, as (H, W, 3) uint8 RGB.
    """
    parts = {
        "input": low,
        "view-independent": found.rgb1,
        "shading": found.ill1,
        "product, the enhanced frame": found.enhanced1,
    }
    return {label: to_pixels(part[0].detach(), "round") for label, part in parts.items()}


def _match_column(image: Pixels, other: Pixels, places: Tensor, certainty: Tensor) -> list[Pixels]:
    warped = F.grid_sample(to_tensor(other)[None], places[None].cpu(), align_corners=False)
    height, width = certainty.shape
    grey = to_pixels(certainty.expand(3, height, width).cpu(), "round")
    return [image, to_pixels(warped[0], "round"), _direction_picture(places), grey]


def _direction_picture(places: Tensor) -> Pixels:
    height, width = places.shape[:2]
    own = grid(torch.empty(1, 1, height, width)).movedim(0, -1)
    step = (places.cpu() - own).numpy() * np.array([width / 2, height / 2], np.float32)
    length, angle = cv2.cartToPolar(step[..., 0], step[..., 1], angleInDegrees=True)
    saturation = np.asarray(length) / max(float(np.max(length)), 1.0)
    colours = np.dstack([angle, saturation, np.ones_like(saturation)]).astype(np.float32)
    picture = torch.from_numpy(np.asarray(cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)))
    return to_pixels(picture.movedim(-1, 0), "round")


def _joined(pictures: list[Pixels], axis: int) -> Pixels:
    """Pictures one after the other with white gaps."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis)
