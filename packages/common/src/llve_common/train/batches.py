"""Batches of training samples: drawn, loaded, stacked, cut into parts, and put on a device.

Which samples an iteration sees, and the chance of their augmentation, is a pure function of seed,
iteration and rank: a run that goes on at any iteration sees what an unbroken one would have seen.
"""

import random
import sys
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack
from itertools import pairwise
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from llve_common.clips.folders import some_of
from llve_common.config import TrainerSettings
from llve_common.errors import DataError, UserError
from llve_common.machine.processes import ALONE, Processes
from llve_common.machine.replay import mapped, tensors
from llve_common.paper.contract import Batch, Sample, TrainingSet
from llve_common.train.mishaps import end_loaders, has_worked, settle_loader, with_cause, work_of

# A loader's process that is killed is noticed at once. One that is waited for is looked at every so
# many seconds, and is stuck if it neither computes nor reads between so many looks; where the
# system does not tell, ten times as many.
_LOOK, _LOOKS = 10.0, 6


class Draw(NamedTuple):
    """One sample of one iteration: which, and the seed of its augmentation."""

    sample: int
    seed: str


class Share(NamedTuple):
    """What one process has of a batch: samples, and what part of all the batch's samples they are.

    ``part`` is 0 where the batch is too short for all processes; the sample is another's then.
    """

    samples: Any
    part: float


def batches_per_epoch(length: int, batch_size: int) -> int:
    """Iterations in one pass over the set; the last batch may be short."""
    return -(-length // batch_size)


def load_batches(
    data: TrainingSet,
    chosen: TrainerSettings,
    iterations: range,
    me: Processes = ALONE,
    enlarge: int = 1,
    pinned: bool = False,
) -> Generator[Share | UserError]:
    """Load one process's share of the batches that :func:`draw_batches` draws.

    They may lie in memory that a CUDA device reads by itself (``pinned``). A user's mistake comes
    in the batch's place, for it may have been made in a loader's process. Those processes end with
    this generator.
    """
    size, seed = chosen.batch_size, chosen.seed
    turn: int | None = getattr(data, "turn", None)
    loader = DataLoader(
        _Loaded(data),
        # A batch is one item for torch, so that a mistake in one sample can stand for it.
        batch_size=None,
        sampler=draw_batches(len(data), size, seed, iterations, me, enlarge, turn),
        num_workers=chosen.workers,
        # Newer Pythons' fork server would die of the signals that the trainer ends softly by.
        multiprocessing_context="fork" if chosen.workers and sys.platform == "linux" else None,
        worker_init_fn=settle_loader,
        timeout=_LOOK if chosen.workers else 0,
        pin_memory=pinned,
        # Its own generator, so that loading leaves the global one alone.
        generator=torch.Generator().manual_seed(seed),
    )
    others = set(active_children())
    with ExitStack() as stack:
        try:
            batches = iter(loader)
        finally:
            loading = set(active_children()) - others
            stack.callback(end_loaders, loading)
        try:
            yield from _while_at_work(batches, loading)
        except (RuntimeError, OSError, EOFError) as error:
            raise with_cause(error, loading) from error


def _while_at_work(
    batches: Iterator[Share | UserError], loading: Collection[BaseProcess]
) -> Iterator[Share | UserError]:
    """The batches, however long each takes, unless a loader's processes stand still."""
    idle, before = 0, None
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            # PyTorch's loader may be asked again after it was waited for in vain.
            if "timed out" not in str(error):
                raise
            now = work_of(loading)
            if idle == 0 or (before and now and has_worked(before, now)):
                idle, before = 0, now
            idle += 1
            if idle > _LOOKS * (1 if now is not None else 10):
                waited = f"after {_LOOK * idle:g} seconds without computing or reading"
                raise RuntimeError(f"DataLoader timed out {waited}") from error
        else:
            idle, before = 0, None
            yield batch


class _Loaded(Dataset[Share | UserError]):
    """A training set's batches, each sample with a generator of its own.

    A user's mistake is returned in the batch's place, because torch would turn what is raised in a
    loader's process into a traceback.
    """

    def __init__(self, samples: TrainingSet) -> None:
        self.samples = samples

    def __getitem__(self, share: Any) -> Share | UserError:
        try:
            samples = [
                self.samples.sample(draw.sample, random.Random(draw.seed))  # noqa: S311
                for draw in share.samples
            ]
            return Share(self._stacked(samples, share.samples), share.part)
        except UserError as error:
            return error

    def _stacked(self, samples: list[Sample], draws: list[Draw]) -> Batch:
        try:
            return stack_samples(samples)
        except DataError as error:
            files = [str(self.samples.file(draw.sample)) for draw in draws]
            raise error.at(some_of(files)) from None


def draw_batches(
    length: int,
    batch_size: int,
    seed: int,
    iterations: range,
    me: Processes = ALONE,
    enlarge: int = 1,
    turn: int | None = None,
) -> Iterator[Share]:
    """Draw one process's share of the batches of some iterations.

    Every epoch is a permutation of the set from a generator seeded by (seed, epoch); the last batch
    of an epoch may be short. Each process takes a run of neighbours of the batch, as many as the
    others or one less.

    Args:
        length: number of samples in the set.
        batch_size: samples in a batch, of all processes together; a multiple of their count.
        seed: of the run.
        iterations: counted from 1.
        me: which process this is.
        enlarge: above 1, an epoch goes through the set so often, in :func:`enlarged_order`.
        turn: otherwise, how many samples are permuted before the next ones come; None: all.
    """
    lots = range(0, length, turn or length)
    epoch_length = batches_per_epoch(length * enlarge, batch_size)
    drawn, order = -1, list[int]()
    for iteration in iterations:
        epoch, number = divmod(iteration - 1, epoch_length)
        if epoch != drawn and enlarge > 1:
            order = enlarged_order(length, epoch, enlarge, me.count)
        elif epoch != drawn:
            # Not torch's generator: it looks at the lower 32 bits of its seed alone.
            chance = np.random.default_rng((seed, epoch))
            order = np.concatenate(
                [lot + chance.permutation(min(lots.step, length - lot)) for lot in lots]
            ).tolist()
        drawn = epoch
        batch = order[number * batch_size : (number + 1) * batch_size]
        first, end = (-(-len(batch) * rank // me.count) for rank in (me.rank, me.rank + 1))
        mine = range(first, end) or range(1)
        draws = [Draw(batch[place], f"{seed}/{iteration}/{place}") for place in mine]
        yield Share(draws, (end - first) / len(batch))


def enlarged_order(length: int, epoch: int, enlarge: int, processes: int = 1) -> list[int]:
    """The published order of an epoch that goes through a set many times in one permutation.

    It depends on the epoch, from 0, not on the run's seed, and is filled up to a multiple of the
    processes; process r takes places r, r + processes, ... of it.
    """
    places = -(-length * enlarge // processes) * processes
    generator = torch.Generator().manual_seed(epoch)
    order: list[int] = (torch.randperm(places, generator=generator) % length).tolist()
    return order


def stack_samples(samples: list[Sample]) -> Batch:
    """Stack samples of one nesting into a batch of the same, each tensor (N, ...).

    Raises:
        DataError: sizes differ within a batch of more than one.
    """
    each = [[tuple(tensor.shape) for tensor in tensors(sample)] for sample in samples]
    if any(shapes != each[0] for shapes in each):
        raise DataError(
            "the images of a batch differ in size",
            got=", ".join(sorted({str(shape) for shapes in each for shape in shapes})),
            mend="use train.batch_size=1, or images of one size",
        )
    batch: Batch = default_collate(samples)
    return batch


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Cut a batch along its first dimension into at most ``count`` parts, as processes share it.

    None is empty, and their sizes differ by one at most.
    """
    size = samples_in(batch)
    count = min(count, size)
    bounds = pairwise(-(-size * part // count) for part in range(count + 1))
    return [mapped(batch, itemgetter(slice(*each))) for each in bounds]


def samples_in(batch: Batch) -> int:
    """How many samples a batch has."""
    return len(next(tensors(batch)))


def to_device(batch: Batch, device: torch.device) -> Any:
    """The batch with its tensors on a device."""
    return mapped(batch, lambda tensor: tensor.to(device, non_blocking=True))
