"""The pictures of the published test: flow between two enhanced frames, warped frame, and mask.

For the window of frame t, under t: the flow from the enhanced frame t to t + 1, both of that window
and not bounded; frame t + 1 warped by it; and the mask of where the two agree.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llve_common.enhance.frames import pad_to_fit
from llve_common.flow.colours import flow_picture
from llve_common.flow.warp import warp
from llve_common.io.images import Pixels, to_pixels, to_tensor, write_image
from llve_common.paper.contract import Clip, Model, Window
from llve_tcenet.fast import combine, part
from llve_tcenet.network import Encoding
from llve_tcenet.objective import FlowEstimator, consistency_mask


class Pictures(NamedTuple):
    """What one window shows, each (H, W, 3) uint8 RGB."""

    flow: Pixels
    warped: Pixels
    mask: Pixels


def write_pictures(model: Model, flow: FlowEstimator, clip: Clip, folder: Path) -> int:
    """Write ``flo``, ``warp`` and ``mask`` below a folder, and return the number of windows.

    Raises:
        MediaError: a frame cannot be read or a picture not written.
    """
    window, device = model.window, model.device
    frames = (to_tensor(frame.image.pixels)[None].to(device) for frame in clip.read())
    count = 0
    with torch.inference_mode():
        for first, second in output_pairs(model.network, frames, window):
            # A window gives its third frame first.
            name = f"{clip.file(count - window.inputs[0]).stem}.png"
            pictures = draw(first, second, flow)
            for kind, picture in zip(("flo", "warp", "mask"), pictures, strict=True):
                write_image(folder / kind / clip.name / name, picture)
            count += 1
    return count


def output_pairs(
    network: nn.Module, frames: Iterable[Tensor], window: Window
) -> Iterator[tuple[Tensor, Tensor]]:
    """Both outputs (1, 3, H, W) of every window of frames (1, 3, H, W); each is encoded once."""
    five: deque[Tensor] = deque(maxlen=5)
    last: Encoding | None = None
    for frame in frames:
        height, width = frame.shape[-2:]
        five.append(pad_to_fit(frame[:, None], window))
        if len(five) < 5:
            continue
        encoding = part(network, torch.cat(tuple(five), dim=1))
        if last is not None:
            first, second = combine(network, [last, encoding], (0, 1)).unbind(1)
            yield first[..., :height, :width], second[..., :height, :width]
        last = encoding


def draw(first: Tensor, second: Tensor, flow: FlowEstimator) -> Pictures:
    """The pictures of two neighbouring enhanced frames (1, 3, H, W), not bounded."""
    motion = flow(first, second)
    warped = warp(second, motion)
    mask = consistency_mask(first, warped).expand(-1, 3, -1, -1)
    return Pictures(
        flow_picture(np.asarray(motion[0].movedim(0, -1).cpu())),
        to_pixels(warped[0], "truncate"),
        to_pixels(mask[0], "truncate"),
    )
