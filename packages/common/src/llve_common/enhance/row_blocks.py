"""Large frames in blocks of rows, on several threads, with the result of the whole frame.

Torch's own threads wait for each other after every layer, badly so on a busy machine, and a layer's
result for a whole frame falls out of the caches before the next layer reads it. Here each thread
takes a block of rows through all layers by itself.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llve_common.enhance.ready import enhance_by
from llve_common.errors import MediaError
from llve_common.io.images import NOT_A_NUMBER, Pixels, Rounding, round_, white
from llve_common.machine.threads import lone_workers
from llve_common.paper.contract import Prepared

# Pixels of a block without its halo: a layer's result should stay in a core's caches, and the rows
# of the halo, which are computed twice, should be few.
_BLOCK = 40 * 1920

# Bytes, more than a block's layers take together.
_WORKING_SET = 16 << 20


class RowBlocks:
    """Runs a network over frames of any size, in blocks of rows.

    What the network needs of the whole frame is looked up first. A block is cut out with ``halo``
    more rows above and below, but none beyond the frame: there the network's own padding acts as it
    does on the whole frame. What a block's inner edges spoil lies within the halo and is dropped,
    so the result is exact, without blending.

    May be called by several threads at once, and by processes that were forked off; torch's number
    of threads stays as it is outside.

    Args:
        prepared: the network, called in inference mode; values outside [0, 1] are clipped.
        rounding: see :func:`llve_common.io.images.to_pixels`.
        workers: threads; by default as many as torch uses.
    """

    def __init__(self, prepared: Prepared, rounding: Rounding, workers: int | None = None) -> None:
        self._prepared, self._rounding = prepared, rounding
        self._kept = threading.local()
        self._workers = workers or torch.get_num_threads()
        self._pools = {os.getpid(): lone_workers(self._workers)}

    def __call__(self, pixels: Pixels) -> Pixels:
        """Enhance one frame (H, W, 3) RGB, uint8, uint16 or float32, to one of the same type.

        Raises:
            MediaError: the network gave values that are not a number.
        """
        kernel, pool = self._prepared.kernel, self._pool()
        if kernel is not None and pixels.dtype.kind != "f":
            return enhance_by(kernel, pool, self._workers, pixels)
        seen = pool.submit(self._look, pixels).result()
        result: Pixels = np.empty(pixels.shape, pixels.dtype)
        height, width = pixels.shape[:2]
        rows = max(_BLOCK // width, 1)
        blocks = [
            pool.submit(self._block, pixels, result, range(start, min(start + rows, height)), seen)
            for start in range(0, height, rows)
        ]
        for block in blocks:
            block.result()
        return result

    def _pool(self) -> ThreadPoolExecutor:
        """The threads of this process: one that is forked off has the object, and makes one."""
        process = os.getpid()
        if process not in self._pools:
            self._workers = 1
            self._pools = {process: lone_workers(1)}
        return self._pools[process]

    def _look(self, pixels: Pixels) -> Any:
        with torch.inference_mode():
            return self._prepared.look(pixels)

    def _block(self, pixels: Pixels, result: Pixels, rows: range, seen: Any) -> None:
        """Enhance these rows into ``result``."""
        start, end, halo = rows.start, rows.stop, self._prepared.halo
        first, beyond = max(start - halo, 0), min(end + halo, len(pixels))
        kept_image, kept_levels = self._buffers(pixels.shape[1])
        top = np.float32(white(pixels.dtype))
        image = kept_image[: beyond - first]
        # NumPy, since torch takes no read-only arrays, and is slower at these conversions.
        np.divide(pixels[first:beyond], top, out=image.numpy(), dtype=np.float32)
        with torch.inference_mode():
            enhanced = self._prepared.run(image.permute(2, 0, 1)[None], first, seen)
            levels = kept_levels[: end - start]
            inner = enhanced[0, :, start - first : end - first].permute(1, 2, 0)
            torch.mul(inner, float(top), out=levels)
            round_(levels, self._rounding, pixels.dtype)
            # What is not a number stays so in a sum, and a sum of bounded values is one otherwise.
            if bool(levels.sum().isnan()):
                raise MediaError(NOT_A_NUMBER)
        np.copyto(result[start:end], levels.numpy(), casting="unsafe")

    def _buffers(self, width: int) -> tuple[Tensor, Tensor]:
        """The calling worker's rows as the network sees and gives them, kept for one width."""
        kept: tuple[Tensor, Tensor] | None = getattr(self._kept, "buffers", None)
        if kept is None or kept[1].shape[1] != width:
            # The C library hands freed memory back to the system, page by page and for every block
            # again, until it has seen a piece of this size come and go.
            torch.empty(_WORKING_SET, dtype=torch.uint8)
            rows = max(_BLOCK // width, 1)
            seen = rows + 2 * self._prepared.halo
            kept = torch.empty(seen, width, 3), torch.empty(rows, width, 3)
            self._kept.buffers = kept
        return kept
