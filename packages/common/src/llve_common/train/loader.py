"""Batches of training samples: loaded, stacked, cut into parts, and put on a device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from llve_common.errors import DataError, UserError
from llve_common.paper.contract import Batch, Sample, TrainingSet
from llve_common.train.run import Run
from llve_common.train.sampler import Batches, SeededSamples
from llve_common.train.signals import leave_signals_to_trainer


def load_batches(run: Run, data: TrainingSet) -> Generator[Batch | UserError]:
    """The batches of the iterations that are left, of each the share of this process.

    A user's mistake comes in the batch's place, for it may have been made in a loader's process.
    """
    chosen = run.settings.train
    draws = Batches(
        len(data),
        chosen.batch_size,
        chosen.seed,
        run.iteration + 1,
        run.plan.iterations,
        run.me,
        enlarge=run.procedure.enlarge,
    )
    loader = DataLoader(
        SeededSamples(data),
        batch_sampler=draws,
        num_workers=chosen.workers,
        collate_fn=_stack_or_error,
        worker_init_fn=leave_signals_to_trainer,
        # Its own generator, so that loading leaves the global one alone.
        generator=torch.Generator().manual_seed(chosen.seed),
    )
    yield from loader


def stack_samples(samples: list[Sample]) -> Batch:
    """Stack samples into a batch.

    Args:
        samples: of one nesting, each tensor without a batch dimension.

    Returns:
        The same nesting, each tensor (N, ...).

    Raises:
        DataError: sizes differ within a batch of more than one.
    """
    try:
        batch: Batch = default_collate(samples)
    except RuntimeError as error:
        shapes = sorted({str(tuple(each.shape)) for each in _tensors(samples)})
        raise DataError(
            "the images of a batch differ in size",
            got=", ".join(shapes),
            mend="use train.batch_size=1, or images of one size",
        ) from error
    return batch


def _stack_or_error(samples: list[Sample | UserError]) -> Batch | UserError:
    """As :func:`stack_samples`, with a user's mistake as the result."""
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        whole.append(sample)
    try:
        return stack_samples(whole)
    except UserError as error:
        return error


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """Cut a batch along its first dimension into at most ``count`` parts of almost one size."""
    if count == 1:
        return [batch]
    size = next(_tensors(batch)).shape[0]
    length = -(-size // count)
    return [_rows(batch, start, start + length) for start in range(0, size, length)]


def _rows(batch: Batch, start: int, stop: int) -> Any:
    return _map(batch, lambda tensor: tensor[start:stop])


def to_device(batch: Batch, device: torch.device) -> Any:
    """The batch with its tensors on a device."""
    return _map(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each)


def _map(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same nesting with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(each, change) for key, each in value.items()}
    return value
