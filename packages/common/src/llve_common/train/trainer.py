"""One training loop for every paper.

What happens, in order: a fresh run folder, or the one to go on with; seeds; network, data,
objective and optimizer from the procedure; then for each iteration: rates, mode, losses, backward,
clipping, update; and, as the plan says, log lines, published weights, previews, validation and
checkpoints.

The run folder holds::

    settings.yml  command.txt  train.log   what was run, and what it said
    losses.jsonl                           one line for each logged iteration
    tensorboard/                           the same for TensorBoard
    checkpoints/<iteration>.ckpt           all that is needed to go on, the newest few
    model_epochs/, image_epochs/, ...      published weights and previews, named by the paper

The loop is here; :mod:`~llve_common.train.step` makes an iteration's update, from batches of
:mod:`~llve_common.train.loader`; :mod:`~llve_common.train.record` writes what is to be read, and
:mod:`~llve_common.train.checkpoint` what is needed to go on.

The first Ctrl-C or SIGTERM ends the current iteration, writes a checkpoint and stops.

Under torchrun the processes share every batch; gradients are averaged, batch-norm statistics are
each process's own, and the first process's are published.
"""

from __future__ import annotations

import logging
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from llve_common.config import RunSettings
from llve_common.errors import ConfigError, DataError, UserError
from llve_common.machine.device import choose_device
from llve_common.machine.processes import (
    Processes,
    any_process,
    broadcast,
    process_group,
    raise_in_all_processes,
)
from llve_common.paper.contract import Batch, Paper, Procedure
from llve_common.train.checkpoint import restore, save_checkpoint
from llve_common.train.loader import load_batches, to_device
from llve_common.train.record import (
    describe,
    log_losses,
    publish,
    save_previews,
    tensorboard,
    validate,
)
from llve_common.train.run import Run
from llve_common.train.run_folder import fresh_folder, log_file, named_folder
from llve_common.train.sampler import batches_per_epoch
from llve_common.train.signals import stopping_softly
from llve_common.train.step import Step, update

log = logging.getLogger(__name__)

Watcher = Callable[[int, int, float], None]
"""Is told of every iteration: (done, in all, loss)."""


def train(
    paper: Paper,
    procedure: Procedure[Any],
    settings: Any,
    *,
    resume: Path | None = None,
    watch: Watcher | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Train, from the start or from the newest whole checkpoint of a run folder.

    Args:
        paper: whose network.
        procedure: one of the paper's.
        settings: of the procedure's settings class; to go on with a run, that run's own.
        resume: the folder of the run to go on with; None begins a new one.
        watch: is told of every iteration.
        notes: to say once, in the log, before the training.

    Returns:
        The run's folder.

    Raises:
        ConfigError: the batch cannot be shared out over the processes.
        DataError: the training set is empty or its samples cannot be stacked into a batch.
        MediaError: a training image cannot be read, or the folder cannot be written.
        CheckpointError: there are checkpoints to go on from, but none is whole or fits.
        UserError: the loss or its gradient stops being a number, or a signal stopped the run.
    """
    device = choose_device(settings.run.device)
    with ExitStack() as stack:
        me = stack.enter_context(process_group(device))
        begin_log = stack.enter_context(log_file(paper.package))
        with raise_in_all_processes(me):
            _require_equal_shares(settings, me)
            data = procedure.data(settings)
            if len(data) == 0:
                raise DataError("the training set is empty", where=procedure.name)
            run = _prepare(paper, procedure, settings, resume, device, me, len(data))
        _share_out(run)
        if me.first:
            begin_log(run.folder / "train.log")
        if resume is not None:
            restore(run)
        if run.iteration >= run.plan.iterations:
            if me.first:
                log.warning("the run is finished already, nothing is left to do: %s", run.folder)
            return run.folder
        with raise_in_all_processes(me):
            if me.first:
                describe(run, len(data), notes)
        if me.first and settings.run.tensorboard:
            folder = run.folder / "tensorboard"
            run.writer = stack.enter_context(tensorboard(folder, run.iteration + 1))
        stack.enter_context(stopping_softly(run))
        _fit(run, stack.enter_context(closing(load_batches(run, data))), watch)
    return run.folder


def _prepare(
    paper: Paper,
    procedure: Procedure[Any],
    settings: Any,
    resume: Path | None,
    device: torch.device,
    me: Processes,
    samples: int,
) -> Run:
    torch.manual_seed(settings.train.seed)
    network = procedure.network(settings).to(device)
    step: nn.Module = Step(network, procedure.objective(settings, device))
    optimizer = procedure.optimizer(settings, network)
    epoch_length = batches_per_epoch(samples * procedure.enlarge, settings.train.batch_size)
    plan = procedure.plan(settings, epoch_length)
    # Once in a run, and by the process that alone scores them and draws from them.
    looking = me.first and (plan.validate_every or plan.preview_every)
    clips = procedure.validation(settings) if looking else []
    folder = resume
    if folder is None:
        # The other processes are told of it later.
        folder = _new_folder(settings.run, procedure) if me.first else Path()
    scaled = settings.train.precision == "fp16"
    return Run(
        paper=paper,
        procedure=procedure,
        settings=settings,
        folder=folder,
        network=network,
        step=step,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.type, enabled=scaled),
        plan=plan,
        epoch_length=epoch_length,
        device=device,
        me=me,
        clips=clips,
    )


def _new_folder(chosen: RunSettings, procedure: Procedure[Any]) -> Path:
    if chosen.name is None:
        return fresh_folder(chosen.save, procedure.name)
    return named_folder(chosen.save, chosen.name)


def _require_equal_shares(settings: Any, me: Processes) -> None:
    if settings.train.batch_size % me.count:
        raise ConfigError(
            "the batch cannot be shared out evenly",
            where="train.batch_size",
            got=f"{settings.train.batch_size} for {me.count} processes",
            expected=f"a multiple of {me.count}",
        )


def _share_out(run: Run) -> None:
    """Let the processes train one network in one folder, each with chance of its own."""
    if run.me.count > 1:
        run.folder = broadcast(run.folder, run.me)
        with warnings.catch_warnings():
            # Newer versions of torch have another name for broadcast_buffers; older ones do not.
            warnings.simplefilter("ignore", FutureWarning)
            # Stages whose output no loss uses leave parameters without a gradient.
            run.step = DistributedDataParallel(
                run.step, broadcast_buffers=False, find_unused_parameters=True
            )
        torch.manual_seed(run.settings.train.seed + run.me.rank)


def _fit(run: Run, batches: Iterator[Batch | UserError], watch: Watcher | None) -> None:
    started = time.monotonic() - run.seconds
    for batch in batches:
        with raise_in_all_processes(run.me):
            if isinstance(batch, UserError):
                raise batch
        losses = update(run, to_device(batch, run.device))
        run.iteration += 1
        run.seconds = time.monotonic() - started
        for name, value in losses.items():
            run.recent.setdefault(name, []).append(value)
        # All processes stop together, or those left would wait for ever.
        stopping = any_process(run.stopped, run.me)
        _after(run, stopping)
        if watch is not None and run.me.first:
            watch(run.iteration, run.plan.iterations, losses["total"])
        if stopping and run.iteration < run.plan.iterations:
            with raise_in_all_processes(run.me):
                raise UserError(
                    f"stopped by a signal after iteration {run.iteration} of {run.plan.iterations}",
                    where=run.folder,
                    mend=f"go on with --resume {shlex.quote(str(run.folder))}",
                )
    log.info("finished after %d iterations, %.1f s", run.iteration, run.seconds)


def _after(run: Run, stopping: bool) -> None:
    plan, now = run.plan, run.iteration
    last = now == plan.iterations
    if now % run.settings.run.log_every == 0 or last:
        log_losses(run)
    with raise_in_all_processes(run.me):
        if run.me.first:
            if now % plan.weights_every == 0 or last:
                publish(run, run.procedure.weights_name)
            if last and run.procedure.latest_name is not None:
                publish(run, run.procedure.latest_name)
            if plan.preview_every and (now % plan.preview_every == 0 or last):
                save_previews(run)
            if run.clips and plan.validate_every and (now % plan.validate_every == 0 or last):
                validate(run)
    if now % plan.checkpoint_every == 0 or last or stopping:
        save_checkpoint(run)
