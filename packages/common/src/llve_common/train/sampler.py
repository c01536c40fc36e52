"""The order of training samples as a pure function of seed, iteration and rank."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from llve_common.errors import UserError
from llve_common.machine.processes import ALONE, Processes
from llve_common.paper.contract import Sample, TrainingSet


class Draw(NamedTuple):
    """One sample of one iteration: which, and the seed of its augmentation."""

    sample: int
    seed: str


class Batches(Sampler[list[Draw]]):
    """One process's share of the batches of iterations ``first``, ``first + 1``, ... ``last``.

    Every epoch is a permutation of the set from a generator seeded by (seed, epoch); the last batch
    of an epoch may be short. Each process takes a run of neighbours of the batch; a short batch is
    filled up from the epoch's start, so that every process has as many. An interrupted run that
    starts again at any iteration therefore sees what the unbroken one would have seen.

    Args:
        length: number of samples in the set.
        batch_size: samples in a batch, of all processes together; a multiple of their count.
        seed: of the run.
        first: the first iteration, from 1.
        last: the last iteration.
        me: which process this is.
        enlarge: above 1, an epoch goes through the set so often, in :func:`enlarged_order`.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        me: Processes = ALONE,
        *,
        enlarge: int = 1,
    ) -> None:
        self.length, self.batch_size, self.seed, self.me = length, batch_size, seed, me
        self.first, self.last, self.enlarge = first, last, enlarge

    def __len__(self) -> int:
        return max(self.last - self.first + 1, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch_length = batches_per_epoch(self.length * self.enlarge, self.batch_size)
        epoch, order = -1, list[int]()
        for iteration in range(self.first, self.last + 1):
            if (iteration - 1) // epoch_length != epoch:
                epoch = (iteration - 1) // epoch_length
                order = self._order(epoch)
            start = (iteration - 1) % epoch_length * self.batch_size
            batch = order[start : start + self.batch_size]
            yield self._share(batch, order, iteration)

    def _share(self, batch: list[int], order: list[int], iteration: int) -> list[Draw]:
        missing = -len(batch) % self.me.count
        filled = batch + [order[place % len(order)] for place in range(missing)]
        each = len(filled) // self.me.count
        mine = range(self.me.rank * each, (self.me.rank + 1) * each)
        return [Draw(filled[place], f"{self.seed}/{iteration}/{place}") for place in mine]

    def _order(self, epoch: int) -> list[int]:
        if self.enlarge > 1:
            return enlarged_order(self.length, epoch, self.enlarge, self.me.count)
        # Not torch's generator: it looks at the lower 32 bits of its seed alone.
        order: list[int] = (
            np.random.default_rng((self.seed, epoch)).permutation(self.length).tolist()
        )
        return order


def enlarged_order(length: int, epoch: int, enlarge: int, processes: int = 1) -> list[int]:
    """The published order of an epoch that goes through a set many times in one permutation.

    It depends on the epoch, not on the run's seed, and is filled up to a multiple of the processes;
    process r takes places r, r + processes, ... of it.

    Args:
        length: number of samples in the set.
        epoch: from 0.
        enlarge: how often the set goes into the epoch.
        processes: how many share it.

    Returns:
        Indices of samples.
    """
    places = -(-length * enlarge // processes) * processes
    generator = torch.Generator().manual_seed(epoch)
    order: list[int] = (torch.randperm(places, generator=generator) % length).tolist()
    return order


class SeededSamples(Dataset[Sample | UserError]):
    """A training set for torch's loader: each sample is drawn with a generator of its own.

    A user's mistake is returned in the sample's place, because torch would turn what is raised in a
    loader's process into a traceback.
    """

    def __init__(self, samples: TrainingSet) -> None:
        self.samples = samples

    def __getitem__(self, draw: Any) -> Sample | UserError:
        try:
            return self.samples.sample(draw.sample, random.Random(draw.seed))  # noqa: S311
        except UserError as error:
            return error


def batches_per_epoch(length: int, batch_size: int) -> int:
    """Iterations in one pass over the set."""
    return -(-length // batch_size)
