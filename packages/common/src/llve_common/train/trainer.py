"""One training loop for every paper.

It reads from top to bottom: :func:`train` sets up a run from the paper's procedure, or goes on with
one; the main loop updates the weights once an iteration, and as the plan says writes log lines,
published weights, previews and checkpoints, and validates.

The run folder holds::

    settings.yml  command.txt  train.log   what was run, and what it said
    losses.jsonl                           one line for each logged iteration
    tensorboard/                           the same for TensorBoard
    checkpoints/<iteration>.ckpt           all that is needed to go on, the newest few
    model_epochs/, image_epochs/, ...      published weights and previews, named by the paper

The first Ctrl-C or SIGTERM ends the current iteration, writes a checkpoint and stops.

``train.accumulate`` averages the gradients of parts of a batch, one after the other, as several
processes average those of their shares. In half precision the losses are computed under autocast;
fp16 has its gradients scaled.

Under torchrun the processes share every batch; gradients are averaged, batch-norm statistics are
each process's own, and the first process's are published.
"""

from __future__ import annotations

import logging
import math
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from llve_common.errors import ConfigError, DataError, UserError
from llve_common.evaluate.test import evaluate
from llve_common.machine.device import choose_device
from llve_common.machine.processes import (
    Processes,
    any_process,
    broadcast,
    process_group,
    raise_in_all_processes,
)
from llve_common.paper.contract import Batch, Model, Objective, Paper, Procedure, Progress
from llve_common.train import record
from llve_common.train.batches import batches_per_epoch, load_batches, parts_of, to_device
from llve_common.train.checkpoint import restore, save_checkpoint
from llve_common.train.run import Run, stopping_softly
from llve_common.weights.network import evaluating

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
        begin_log = stack.enter_context(record.train_log(paper.package)) if me.first else None
        with raise_in_all_processes(me):
            run = _set_up(paper, procedure, settings, device, me)
            if me.first:
                # Last, so that a run that cannot be set up leaves no folder.
                run.folder = resume or record.new_folder(settings.run, procedure.name)
        if me.count > 1:
            stack.enter_context(_joined(run))
        if begin_log is not None:
            begin_log(run.folder / "train.log")
        if resume is not None:
            restore(run)
        if run.iteration >= run.plan.iterations:
            if me.first:
                log.warning("the run is finished already, nothing is left to do: %s", run.folder)
            return run.folder
        with raise_in_all_processes(me):
            if me.first:
                record.describe(run, notes)
        if me.first and settings.run.tensorboard:
            run.writer = stack.enter_context(record.tensorboard(run))
        stack.enter_context(stopping_softly(run))
        iterations = range(run.iteration + 1, run.plan.iterations + 1)
        batches = load_batches(run.data, settings.train, iterations, me, procedure.enlarge)
        _fit(run, stack.enter_context(closing(batches)), watch)
    return run.folder


class Step(nn.Module):
    """Network and objective as one module, which is what several processes have to share."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """The named losses."""
        return self.objective(self.network, batch, iteration)


def _set_up(
    paper: Paper, procedure: Procedure[Any], settings: Any, device: torch.device, me: Processes
) -> Run:
    """A run from its start, of which nothing is on disk."""
    chosen = settings.train
    if chosen.batch_size % me.count:
        raise ConfigError(
            "the batch cannot be shared out evenly",
            where="train.batch_size",
            got=f"{chosen.batch_size} for {me.count} processes",
            expected=f"a multiple of {me.count}",
        )
    data = procedure.data(settings)
    if len(data) == 0:
        raise DataError("the training set is empty", where=procedure.name)
    torch.manual_seed(chosen.seed)
    network = procedure.network(settings).to(device)
    step = Step(network, procedure.objective(settings, device))
    optimizer = procedure.optimizer(settings, network)
    epoch_length = batches_per_epoch(len(data) * procedure.enlarge, chosen.batch_size)
    plan = procedure.plan(settings, epoch_length)
    # Once in a run, and by the process that alone scores them and draws from them.
    looking = me.first and (plan.validate_every or plan.preview_every)
    return Run(
        paper=paper,
        procedure=procedure,
        settings=settings,
        data=data,
        network=network,
        step=step,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.type, enabled=chosen.precision == "fp16"),
        plan=plan,
        epoch_length=epoch_length,
        device=device,
        me=me,
        clips=procedure.validation(settings) if looking else [],
    )


@contextmanager
def _joined(run: Run) -> Iterator[None]:
    """Let the processes train one network in one folder, each with chance of its own."""
    alone = run.step
    run.folder = broadcast(run.folder, run.me)
    with warnings.catch_warnings():
        # Newer versions of torch have another name for broadcast_buffers; older ones do not.
        warnings.simplefilter("ignore", FutureWarning)
        # Stages whose output no loss uses leave parameters without a gradient.
        run.step = DistributedDataParallel(
            run.step, broadcast_buffers=False, find_unused_parameters=True
        )
    torch.manual_seed(run.settings.train.seed + run.me.rank)
    try:
        yield
    finally:
        # Torch can wait for ever where this outlives the group: freed last, the group ends its
        # threads while it holds Python's lock, which one of them may be waiting for.
        run.step = alone


def _fit(run: Run, batches: Iterator[Batch | UserError], watch: Watcher | None) -> None:
    """The main loop: an update for each batch, and what is due after it."""
    started = time.monotonic() - run.seconds
    for batch in batches:
        with raise_in_all_processes(run.me):
            if isinstance(batch, UserError):
                raise batch
        losses = _update(run, to_device(batch, run.device))
        run.iteration += 1
        run.seconds = time.monotonic() - started
        for name, value in losses.items():
            run.recent.setdefault(name, []).append(value)
        # All processes stop together, or those left would wait for ever.
        stopping = any_process(run.stopped, run.me)
        _write_what_is_due(run, stopping)
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


def _update(run: Run, batch: Batch) -> dict[str, float]:
    """One update of the weights: rates, mode, losses, backward, clipping, optimizer.

    Args:
        run: after its last iteration; its optimizer and scaler move on, its count does not.
        batch: this process's share, on the run's device.

    Returns:
        The losses before the update by name, their ``total`` among them.

    Raises:
        UserError: the total or the gradient is not finite; the weights are then as they were.
    """
    iteration, chosen, scaler = run.iteration + 1, run.settings.train, run.scaler
    run.procedure.schedule(run.settings, run.optimizer, Progress(iteration, run.epoch_length))
    run.network.train()
    run.optimizer.zero_grad(set_to_none=True)
    parts = parts_of(batch, chosen.accumulate)
    values: dict[str, float] = {}
    for number, part in enumerate(parts, 1):
        with _averaging(run.step, at=number == len(parts)):
            with raise_in_all_processes(run.me):
                losses = _losses(run, part, iteration)
                for name, loss in losses.items():
                    values[name] = values.get(name, 0.0) + loss.item() / len(parts)
                if not math.isfinite(values["total"]):
                    raise _not_finite("loss", iteration, record.listed(values))
            scaler.scale(losses["total"] / len(parts)).backward()
    scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), chosen.clip_norm or math.inf)
    # In fp16 an infinite gradient is usual: the scaler leaves the step out and lowers its scale.
    if not scaler.is_enabled() and not norm.isfinite():
        with raise_in_all_processes(run.me):
            raise _not_finite("gradient", iteration, f"losses {record.listed(values)}")
    scaler.step(run.optimizer)
    scaler.update()
    return values


def _averaging(step: nn.Module, *, at: bool) -> AbstractContextManager[None]:
    """Average gradients over processes at a batch's last part only."""
    if at or not isinstance(step, DistributedDataParallel):
        return nullcontext()
    return step.no_sync()


def _losses(run: Run, part: Batch, iteration: int) -> dict[str, Tensor]:
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run.settings.train.precision)
    with torch.autocast(run.device.type, half) if half is not None else nullcontext():
        losses = run.step(part, iteration)
    total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
    return {**losses, "total": total}


def _not_finite(what: str, iteration: int, got: str) -> UserError:
    return UserError(
        f"the {what} is not a finite number",
        where=f"iteration {iteration}",
        got=got,
        mend="lower the learning rate, or look for images that hold one value only",
    )


def _write_what_is_due(run: Run, stopping: bool) -> None:
    """Log lines, weights, previews, scores and a checkpoint, as the plan says and at the end."""
    plan, now = run.plan, run.iteration
    last = now == plan.iterations

    def due(every: int | None) -> bool:
        return (last or now % every == 0) if every else False

    if due(run.settings.run.log_every):
        record.log_losses(run)
    with raise_in_all_processes(run.me):
        if run.me.first:
            if due(plan.weights_every):
                record.publish(run, run.procedure.weights_name)
            if last and run.procedure.latest_name is not None:
                record.publish(run, run.procedure.latest_name)
            if due(plan.preview_every):
                record.save_previews(run)
            if run.clips and due(plan.validate_every):
                _validate(run)
    if due(plan.checkpoint_every) or stopping:
        save_checkpoint(run)


def _validate(run: Run) -> None:
    """Score the validation's clips, and log the means."""
    with evaluating(run.network):
        model = Model(run.paper, run.network, run.settings)
        scores = evaluate(model, run.clips, run.procedure.scoring)
    means = scores.mean_of_clips
    record.log_scores(run, {name: value for name, value in means.items() if "input" not in name})
