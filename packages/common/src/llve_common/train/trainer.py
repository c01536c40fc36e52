"""One training loop for every paper.

It reads from top to bottom: :func:`train` sets up a run from the paper's procedure, or goes on with
one; the main loop updates the weights once an iteration, and as the plan says writes log lines,
published weights, previews and checkpoints, and validates.

The run folder holds::

    settings.yml  command.txt  train.log   what was run, and what it said
    lock                                   held by the process that writes to the folder
    data.json                              the data it is of: names and sizes
    losses.jsonl                           one line for each logged iteration, and validation
    tensorboard/                           the same for TensorBoard, and previews
    best.pt                                the weights of the highest PSNR in validation
    checkpoints/<iteration>.ckpt           all that is needed to go on, the newest few
    model_epochs/, image_epochs/, ...      published weights and previews, named by the paper

The first Ctrl-C or SIGTERM ends the current iteration, writes a checkpoint and stops.

``train.accumulate`` computes a batch in parts, one after the other, and torchrun's processes share
every batch. Either has the whole batch's losses and gradient: losses that are sums over the samples
are summed, means are weighted by the samples of a part. Only batch norm sees one part at a time,
and dropout draws for each; batch norm's running statistics are each process's own, and the first
process's are published. In half precision the losses are computed under autocast; fp16 has its
gradients scaled. ``train.graph`` replays losses and gradients from a CUDA graph.
"""

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
from llve_common.evaluate.test import evaluate, require_scorable
from llve_common.machine.device import choose_device, computing_in, warn_of_emulation
from llve_common.machine.locks import holding
from llve_common.machine.processes import (
    Processes,
    any_process,
    broadcast,
    process_group,
    processes,
    raise_in_all_processes,
)
from llve_common.machine.replay import NotCaptured, Replayed, mapped
from llve_common.paper.contract import Batch, Model, Objective, Paper, Procedure, Progress
from llve_common.train import record
from llve_common.train.batches import (
    Share,
    batches_per_epoch,
    load_batches,
    parts_of,
    samples_in,
    to_device,
)
from llve_common.train.checkpoint import checkpoints_in, restore, save_checkpoint
from llve_common.train.manifest import list_data
from llve_common.train.mishaps import explained
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
        ConfigError: the batch, or the device, cannot be shared out over the processes.
        DataError: the training set is empty or its samples cannot be stacked into a batch.
        MediaError: a training image cannot be read, or the folder cannot be written.
        CheckpointError: there are checkpoints to go on from, but none is whole or fits.
        UserError: the loss or its gradient stops being a number, or a signal stopped the run.
    """
    if processes().count > 1 and ":" in settings.run.device:
        what, mend = "several processes cannot share one GPU", "use cuda: each takes its own"
        raise ConfigError(what, where="run.device", got=settings.run.device, mend=mend)
    device = choose_device(settings.run.device)
    with explained(), ExitStack() as stack:
        me = stack.enter_context(process_group(device))
        begin_log = stack.enter_context(record.train_log(paper.package)) if me.first else None
        with raise_in_all_processes(me):
            run = _set_up(paper, procedure, settings, device, me, resume)
            if me.first:
                # Last, so that a run that cannot be set up leaves no folder.
                run.folder = resume or record.new_folder(settings.run, procedure.name)
                stack.enter_context(holding(run.folder))
        if me.count > 1:
            stack.enter_context(_joined(run))
        if begin_log is not None:
            begin_log(run.folder / "train.log")
        if resume is not None:
            restore(run)
        owed = broadcast(_owes_a_look(run), me)
        if run.iteration >= run.plan.iterations and not owed:
            if me.first:
                log.warning("the run is finished already, nothing is left to do: %s", run.folder)
            return run.folder
        with raise_in_all_processes(me):
            if me.first:
                list_data(run)
                record.describe(run, notes)
                warn_of_emulation(settings.train.precision, device)
        if me.first and settings.run.tensorboard:
            run.writer = stack.enter_context(record.tensorboard(run))
        stack.enter_context(stopping_softly(run))
        if owed:
            _look(run)
        iterations = range(run.iteration + 1, run.plan.iterations + 1)
        pinned = device.type == "cuda"
        batches = load_batches(run.data, settings.train, iterations, me, procedure.enlarge, pinned)
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
    paper: Paper,
    procedure: Procedure[Any],
    settings: Any,
    device: torch.device,
    me: Processes,
    resume: Path | None,
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
    if chosen.graph and (device.type != "cuda" or me.count > 1):
        what, got = "a CUDA graph is for one process on a GPU", f"{me.count} on {device}"
        raise ConfigError(what, where="train.graph", got=got, mend="use train.graph=false")
    data = procedure.data(settings)
    if len(data) == 0:
        raise DataError("the training set is empty", where=procedure.name)
    torch.manual_seed(chosen.seed)
    begun = settings
    if resume is not None and checkpoints_in(resume):
        # They hold what the run once started from, whose file may be gone.
        begun = settings.model_copy(update={"weights": None})
    network = procedure.network(begun).to(device)
    step = Step(network, procedure.objective(settings, device))
    optimizer = procedure.optimizer(begun, network)
    epoch_length = batches_per_epoch(len(data) * procedure.enlarge, chosen.batch_size)
    plan = procedure.plan(settings, epoch_length)
    # Once in a run, and by the process that alone scores them and draws from them.
    looking = me.first and (plan.validate_every or plan.preview_every)
    clips = procedure.validation(settings) if looking else []
    require_scorable(clips, paper.window(network, settings), procedure.scoring)
    run = Run(
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
        clips=clips,
    )
    if chosen.graph:
        for parameter in network.parameters():
            parameter.data = channels_last(parameter.data)
        run.replayed = Replayed(
            lambda batch: (_gradients(run, mapped(batch, channels_last), 1.0), _held(run)), device
        )
    return run


def channels_last(tensor: Tensor) -> Tensor:
    """Images or convolutions in the memory format in which a GPU's convolutions are fastest."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


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


def _fit(run: Run, batches: Iterator[Share | UserError], watch: Watcher | None) -> None:
    """The main loop: an update for each batch, and what is due after it."""
    started = time.monotonic() - run.seconds
    for batch in batches:
        with raise_in_all_processes(run.me):
            if isinstance(batch, UserError):
                raise batch
        losses = _update(run, to_device(batch.samples, run.device), batch.part)
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


def _update(run: Run, batch: Batch, share: float = 1.0) -> dict[str, float]:
    """One update of the weights: rates, mode, losses, backward, clipping, optimizer.

    Args:
        run: after its last iteration; its optimizer and scaler move on, its count does not.
        batch: this process's share, on the run's device.
        share: how much of the whole batch that is.

    Returns:
        The losses before the update by name, their ``total`` among them; over processes, their
        means are those of the whole batch.

    Raises:
        UserError: the total or the gradient is not finite; the weights are then as they were.
    """
    iteration, chosen, scaler = run.iteration + 1, run.settings.train, run.scaler
    run.procedure.schedule(run.settings, run.optimizer, Progress(iteration, run.epoch_length))
    run.network.train()
    losses = _replay(run, run.replayed, batch) if run.replayed else _gradients(run, batch, share)
    # One copy from the device for all of them, which it waits for.
    numbers = torch.stack(list(losses.values())).tolist()
    values: dict[str, float] = dict(zip(losses, numbers, strict=True))
    with raise_in_all_processes(run.me):
        if not math.isfinite(values["total"]):
            raise _not_finite("loss", iteration, record.listed(values))
    scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), chosen.clip_norm or math.inf)
    # In fp16 an infinite gradient is usual: the scaler leaves the step out and lowers its scale.
    if not scaler.is_enabled() and not norm.isfinite():
        with raise_in_all_processes(run.me):
            raise _not_finite("gradient", iteration, f"losses {record.listed(values)}")
    scaler.step(run.optimizer)
    scaler.update()
    return values


def _gradients(run: Run, batch: Batch, share: float) -> dict[str, Tensor]:
    """Set the gradients of this process's share of a batch, and give its losses."""
    run.optimizer.zero_grad(set_to_none=True)
    parts = parts_of(batch, run.settings.train.accumulate)
    values: dict[str, Tensor] = {}
    # One exchange for all parts: of a short batch, processes may have unequally many.
    with raise_in_all_processes(run.me):
        for number, part in enumerate(parts, 1):
            # Whole losses times the number of processes, for gradients are averaged over these.
            of_sums = run.me.count if share else 0
            of_means = run.me.count * share * samples_in(part) / samples_in(batch)
            with _averaging(run.step, at=number == len(parts)):
                losses = _losses(run, part, of_sums, of_means)
                if number < len(parts):
                    run.scaler.scale(losses["total"]).backward()
            for name, loss in losses.items():
                values[name] = values.get(name, 0) + loss.detach()
    run.scaler.scale(losses["total"]).backward()
    return values


def _held(run: Run) -> list[Tensor | None]:
    """The gradients of all parameters."""
    return [parameter.grad for parameter in run.network.parameters()]


def _replay(run: Run, replayed: Replayed, batch: Batch) -> dict[str, Tensor]:
    """The same from a CUDA graph, whose gradients are always in the same memory."""
    try:
        losses, gradients = replayed(batch)
    except NotCaptured as error:
        raise ConfigError(
            "the losses of this training cannot be captured in a CUDA graph",
            where="train.graph", got=str(error),
            expected="losses that the device computes alone", mend="use train.graph=false",
        ) from error  # fmt: skip
    for parameter, gradient in zip(run.network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    found: dict[str, Tensor] = losses
    return found


def _averaging(step: nn.Module, *, at: bool) -> AbstractContextManager[None]:
    """Average gradients over processes at a batch's last part only."""
    if at or not isinstance(step, DistributedDataParallel):
        return nullcontext()
    return step.no_sync()


def _losses(run: Run, part: Batch, of_sums: float, of_means: float) -> dict[str, Tensor]:
    """What a part adds to the losses of the whole batch, scalars, and their total."""
    sums = run.procedure.sums(run.settings)
    with computing_in(run.settings.train.precision, run.device):
        losses = run.step(part, run.iteration + 1)
    weights = {name: of_sums if name in sums else of_means for name in losses}
    losses = {name: (weights[name] * loss).reshape(()) for name, loss in losses.items()}
    return {**losses, "total": torch.stack(list(losses.values())).sum()}


def _not_finite(what: str, iteration: int, got: str) -> UserError:
    return UserError(
        f"the {what} is not a finite number",
        where=f"iteration {iteration}",
        got=got,
        mend="lower the learning rate, or look for images that hold one value only",
    )


def _due(run: Run, every: int | None) -> bool:
    last = run.iteration == run.plan.iterations
    return (last or run.iteration % every == 0) if every and run.iteration else False


def _owes_a_look(run: Run) -> bool:
    """Whether the run was killed between a checkpoint and the validation that is due after it."""
    validated = any(line["iteration"] == run.iteration for line in run.validations)
    return bool(run.clips) and _due(run, run.plan.validate_every) and not validated


def _write_what_is_due(run: Run, stopping: bool) -> None:
    """Log lines, weights, a checkpoint, and looks, as the plan says and at the end."""
    plan = run.plan
    if _due(run, run.settings.run.log_every):
        record.log_losses(run)
    with raise_in_all_processes(run.me):
        if run.me.first:
            if _due(run, plan.weights_every):
                record.publish(run, run.procedure.weights_name)
            if run.iteration == plan.iterations and run.procedure.latest_name is not None:
                record.publish(run, run.procedure.latest_name)
    # Before the looks, which may fail, or take more memory than there is.
    if stopping or any(
        _due(run, every)
        for every in (plan.checkpoint_every, plan.preview_every, plan.validate_every)
    ):
        save_checkpoint(run)
    _look(run)


def _look(run: Run) -> None:
    """Previews and scores, as the plan says; where they fail, training goes on."""
    looks = []
    if run.me.first and _due(run, run.plan.preview_every):
        looks.append(("preview", record.save_previews))
    if run.clips and _due(run, run.plan.validate_every):
        looks.append(("validation", _validate))
    for name, look in looks:
        try:
            with explained():
                look(run)
        except UserError as error:
            where = f"iteration {run.iteration}"
            log.error("%s: the %s has failed, and training goes on: %s", where, name, error)


def _validate(run: Run) -> None:
    """Score the validation's clips, and log the means."""
    with evaluating(run.network):
        model = Model(run.paper, run.network, run.settings)
        scores = evaluate(model, run.clips, run.procedure.scoring)
    means = scores.mean_of_clips
    record.log_scores(run, {name: value for name, value in means.items() if "input" not in name})
