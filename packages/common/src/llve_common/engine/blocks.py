"""Large frames in blocks of rows, on several threads, with the result of the whole frame.

Torch's own threads wait for each other after every layer, badly so on a busy machine, and a layer's
result for a whole frame falls out of the caches before the next layer reads it. Here each thread
takes a block of rows through all layers by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llve_common.errors import MediaError
from llve_common.io.images import Pixels, Rounding

# Pixels of a block without its halo: a layer's result should stay in a core's caches, and the rows
# of the halo, which are computed twice, should be few.
_BLOCK = 40 * 1920

# Bytes, more than a block's layers take together.
_WORKING_SET = 16 << 20


@dataclass(frozen=True)
class _Buffers:
    """What a worker keeps for frames of one width: rows as the network sees and gives them."""

    image: Tensor
    levels: Tensor


class RowBlocks:
    """Runs a network of finite halo over frames of any size, in blocks of rows.

    A block is cut out with ``halo`` more rows above and below, but none beyond the frame: there
    the network's own padding acts as it does on the whole frame. What a block's inner edges spoil
    lies within the halo and is dropped, so the result is exact, without blending.

    May be called by several threads at once; torch's number of threads stays as it is outside.

    Args:
        run: a block (1, 3, h, W) float32 RGB in [0, 1], channels last in memory, to the same size;
            values outside [0, 1] are clipped. It is called by several threads at once, in inference
            mode, and must neither change nor keep its argument.
        halo: rows around an output row that can change it.
        rounding: ``truncate`` gives floor(255 x), ``round`` gives floor(255 x + 0.5).
        workers: threads; by default as many as torch uses.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        halo: int,
        rounding: Rounding,
        workers: int | None = None,
    ) -> None:
        self._run, self._halo, self._rounding = run, halo, rounding
        self._kept = threading.local()
        self._pool = _pool(workers or torch.get_num_threads())

    def __call__(self, pixels: Pixels, out: Pixels | None = None) -> Pixels:
        """Enhance one frame.

        Args:
            pixels: (H, W, 3) RGB, uint8 or uint16.
            out: where to write the result, of the same size and type; by default a new array.

        Returns:
            (H, W, 3) of the same type.

        Raises:
            MediaError: the network gave values that are not a number.
        """
        result: Pixels = np.empty(pixels.shape, pixels.dtype) if out is None else out
        assert result.shape == pixels.shape
        assert result.dtype == pixels.dtype
        height, width = pixels.shape[:2]
        rows = max(_BLOCK // width, 1)
        starts = range(0, height, rows)
        blocks = [
            self._pool.submit(self._block, pixels, result, start, min(start + rows, height), rows)
            for start in starts
        ]
        for block in blocks:
            block.result()
        return result

    def _block(self, pixels: Pixels, result: Pixels, start: int, end: int, rows: int) -> None:
        """Enhance the rows from ``start`` to ``end``, of at most ``rows``, into ``result``."""
        first, beyond = max(start - self._halo, 0), min(end + self._halo, len(pixels))
        buffers = self._buffers(rows, pixels.shape[1])
        top = np.float32(np.iinfo(pixels.dtype).max)
        image = buffers.image[: beyond - first]
        # NumPy, since torch takes no read-only arrays, and is slower at these conversions.
        np.divide(pixels[first:beyond], top, out=image.numpy(), dtype=np.float32)
        with torch.inference_mode():
            enhanced = self._run(image.permute(2, 0, 1)[None])
            levels = buffers.levels[: end - start]
            inner = enhanced[0, :, start - first : end - first].permute(1, 2, 0)
            torch.mul(inner, float(top), out=levels)
            if self._rounding == "round":
                levels.add_(0.5)
            levels.clamp_(0.0, float(top))
            # What is not a number stays so in a sum, and a sum of bounded values is one otherwise.
            if bool(levels.sum().isnan()):
                raise MediaError("the enhanced image holds values that are not a number (NaN)")
        np.copyto(result[start:end], levels.numpy(), casting="unsafe")

    def _buffers(self, rows: int, width: int) -> _Buffers:
        """The calling worker's buffers for frames of this width, kept until the width changes."""
        kept: _Buffers | None = getattr(self._kept, "buffers", None)
        if kept is None or kept.levels.shape[1] != width:
            # The C library hands freed memory back to the system, page by page and for every block
            # again, until it has seen a piece of this size come and go.
            torch.empty(_WORKING_SET, dtype=torch.uint8)
            kept = _Buffers(
                torch.empty(rows + 2 * self._halo, width, 3), torch.empty(rows, width, 3)
            )
            self._kept.buffers = kept
        return kept


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads in each of which torch computes alone, all of them started."""
    pool = ThreadPoolExecutor(workers, "llve-blocks", initializer=_compute_alone)
    # Each waits for all: so none starts later, when other code may be asking for torch's threads.
    together = threading.Barrier(workers)
    for started in [pool.submit(together.wait) for _ in range(workers)]:
        started.result()
    return pool


_starting = threading.Lock()


def _compute_alone() -> None:
    """Let torch compute in this new thread with it alone, and leave all other threads as they are.

    ``torch.set_num_threads`` sets the number of the calling thread and the number that threads yet
    to come begin with. The second is put back by a thread made for it, which then ends.
    """
    with _starting:
        inherited = torch.get_num_threads()
        torch.set_num_threads(1)
        restorer = threading.Thread(target=torch.set_num_threads, args=(inherited,))
        restorer.start()
        restorer.join()
