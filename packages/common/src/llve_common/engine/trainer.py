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

A run that was stopped, by a signal or by force, and is then resumed ends with the same weights as
an unbroken one, bit for bit on the CPU: the order of samples depends on seed, iteration and rank
alone, each sample's augmentation is seeded by itself, and a checkpoint holds everything else. The
first Ctrl-C or SIGTERM ends the current iteration, writes a checkpoint and stops.

Under torchrun the processes share every batch; gradients are averaged, batch-norm statistics are
each process's own, and the first process's are published. ``train.accumulate`` averages the
gradients of parts of a batch in the same way, one after the other. In half precision the losses are
computed under autocast; fp16 has its gradients scaled.

Not a number in the loss or the gradient stops the run with an error before the weights are touched.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader, default_collate

from llve_common import __version__
from llve_common.config import RunSettings, Settings, as_yaml
from llve_common.engine.checkpoint import (
    load_into,
    read_checkpoint,
    write_checkpoint,
    write_published,
    write_weights,
)
from llve_common.engine.device import choose_device
from llve_common.engine.distributed import (
    Processes,
    from_all,
    from_first,
    in_any,
    process_group,
    together,
)
from llve_common.engine.evaluator import evaluate
from llve_common.engine.run_folder import fresh_folder, log_file, named_folder
from llve_common.engine.sampler import Batches, SeededSamples, batches_per_epoch
from llve_common.errors import CheckpointError, ConfigError, DataError, UserError
from llve_common.io.atomic import write_text
from llve_common.io.images import to_pixels, write_image
from llve_common.paper import Batch, Objective, Paper, Plan, Procedure, Progress, Sample

log = logging.getLogger(__name__)

Watcher = Callable[[int, int, float], None]
"""Is told of every iteration: (done, in all, loss)."""


class Step(nn.Module):
    """Network and objective as one module, which is what several processes have to share."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """The named losses."""
        return self.objective(self.network, batch, iteration)


@dataclass
class Run:
    """A training run between two iterations."""

    paper: Paper
    procedure: Procedure[Any]
    settings: Any
    folder: Path
    network: nn.Module
    step: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    plan: Plan
    epoch_length: int
    device: torch.device
    me: Processes
    iteration: int = 0
    seconds: float = 0.0
    recent: dict[str, list[float]] = field(default_factory=dict)
    writer: Any = None
    stopped: bool = False

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(self.iteration, self.epoch_length)


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
        with together(me):
            _require_equal_shares(settings, me)
            data = procedure.data(settings)
            if len(data) == 0:
                raise DataError("the training set is empty", where=procedure.name)
            run = _prepare(paper, procedure, settings, resume, device, me, len(data))
        _share_out(run)
        if me.first:
            begin_log(run.folder / "train.log")
        if resume is not None:
            _restore(run)
        if run.iteration >= run.plan.iterations:
            if me.first:
                log.warning("the run is finished already, nothing is left to do: %s", run.folder)
            return run.folder
        with together(me):
            if me.first:
                _describe(run, len(data), notes)
        if me.first and settings.run.tensorboard:
            folder = run.folder / "tensorboard"
            run.writer = stack.enter_context(_tensorboard(folder, run.iteration + 1))
        stack.enter_context(_stopping_softly(run))
        _fit(run, stack.enter_context(closing(_batches(run, data))), watch)
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
    )


def _new_folder(chosen: RunSettings, procedure: Procedure[Any]) -> Path:
    if chosen.name is None:
        return fresh_folder(chosen.save, procedure.name)
    return named_folder(chosen.save, chosen.name)


def _share_out(run: Run) -> None:
    """Let the processes train one network in one folder, each with chance of its own."""
    if run.me.count > 1:
        run.folder = from_first(run.folder, run.me)
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
        with together(run.me):
            if isinstance(batch, UserError):
                raise batch
        losses = update(run, _to_device(batch, run.device))
        run.iteration += 1
        run.seconds = time.monotonic() - started
        for name, value in losses.items():
            run.recent.setdefault(name, []).append(value)
        # All processes stop together, or those left would wait for ever.
        stopping = in_any(run.stopped, run.me)
        _after(run, stopping)
        if watch is not None and run.me.first:
            watch(run.iteration, run.plan.iterations, losses["total"])
        if stopping and run.iteration < run.plan.iterations:
            with together(run.me):
                raise UserError(
                    f"stopped by a signal after iteration {run.iteration} of {run.plan.iterations}",
                    where=run.folder,
                    mend=f"go on with --resume {shlex.quote(str(run.folder))}",
                )
    log.info("finished after %d iterations, %.1f s", run.iteration, run.seconds)


def update(run: Run, batch: Batch) -> dict[str, float]:
    """One update; returns the losses before it, their ``total`` among them.

    Raises:
        UserError: the total or the gradient is not finite; the weights are then as they were.
    """
    iteration, chosen = run.iteration + 1, run.settings.train
    run.procedure.schedule(run.settings, run.optimizer, Progress(iteration, run.epoch_length))
    run.procedure.before_step(run.settings, run.network, iteration)
    run.optimizer.zero_grad(set_to_none=True)
    parts = list(_parts(batch, chosen.accumulate))
    values: dict[str, float] = {}
    for number, part in enumerate(parts, 1):
        with _averaging(run, at=number == len(parts)):
            with together(run.me):
                losses = _losses(run, part, iteration)
                for name, loss in losses.items():
                    values[name] = values.get(name, 0.0) + loss.item() / len(parts)
                _require_finite(values, iteration)
            run.scaler.scale(losses["total"] / len(parts)).backward()
    _limit_gradient(run, values, iteration)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return values


def _losses(run: Run, part: Batch, iteration: int) -> dict[str, Tensor]:
    precision = run.settings.train.precision
    half = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with torch.autocast(run.device.type, half) if half is not None else nullcontext():
        losses = run.step(part, iteration)
    total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
    return {**losses, "total": total}


def _require_finite(values: dict[str, float], iteration: int) -> None:
    if not np.isfinite(values["total"]):
        raise UserError(
            "the loss is not a finite number",
            where=f"iteration {iteration}",
            got=", ".join(f"{name} {value:g}" for name, value in values.items()),
            mend="lower the learning rate, or look for images that hold one value only",
        )


def _limit_gradient(run: Run, values: dict[str, float], iteration: int) -> None:
    """Clip the gradient, and refuse one that is not a number before it reaches the weights."""
    run.scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(
        run.network.parameters(), run.settings.train.clip_norm or float("inf")
    )
    # In fp16 an infinite gradient is usual: the scaler leaves the step out and lowers its scale.
    if not run.scaler.is_enabled() and not norm.isfinite():
        with together(run.me):
            raise UserError(
                "the gradient is not a finite number",
                where=f"iteration {iteration}",
                got=f"losses {_listed(values)}",
                mend="lower the learning rate, or look for images that hold one value only",
            )


def _parts(batch: Any, count: int) -> Iterator[Batch]:
    """Cut a batch along its first dimension into at most ``count`` parts of almost one size."""
    if count == 1:
        yield batch
        return
    size = next(_tensors(batch)).shape[0]
    length = -(-size // count)
    for start in range(0, size, length):
        yield _map(batch, partial(_rows, start=start, stop=start + length))


def _rows(tensor: Tensor, start: int, stop: int) -> Tensor:
    return tensor[start:stop]


def _averaging(run: Run, *, at: bool) -> Any:
    """Average gradients over processes at a batch's last part only."""
    alone = at or not isinstance(run.step, DistributedDataParallel)
    return nullcontext() if alone else run.step.no_sync()  # type: ignore[operator]


def _after(run: Run, stopping: bool) -> None:
    plan, now = run.plan, run.iteration
    last = now == plan.iterations
    if now % run.settings.run.log_every == 0 or last:
        _log_losses(run)
    with together(run.me):
        if run.me.first:
            if now % plan.weights_every == 0 or last:
                _publish(run, run.procedure.weights_name)
            if last and run.procedure.latest_name is not None:
                _publish(run, run.procedure.latest_name)
            if plan.preview_every and (now % plan.preview_every == 0 or last):
                _save_previews(run)
            if plan.validate_every and (now % plan.validate_every == 0 or last):
                _validate(run)
    if now % plan.checkpoint_every == 0 or last or stopping:
        _save_checkpoint(run)


def _publish(run: Run, name: str) -> None:
    progress, procedure = run.progress, run.procedure
    file = name.format(
        iteration=progress.iteration,
        epoch=progress.epoch,
        epochs=progress.epochs,
        settings=run.settings,
    )
    if procedure.published is None:
        write_weights(run.folder / file, run.paper.to_published(run.network.state_dict()))
    else:
        content = procedure.published(run.settings, run.network, run.optimizer, progress)
        write_published(run.folder / file, content)


def _save_checkpoint(run: Run) -> None:
    state = {
        "paper": run.paper.name,
        "procedure": run.procedure.name,
        "iteration": run.iteration,
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "processes": from_all(_own_state(run), run.me),
        "seconds": run.seconds,
        "settings": run.settings.model_dump(mode="json"),
        "versions": _versions(),
    }
    with together(run.me):
        if run.me.first:
            folder = run.folder / "checkpoints"
            write_checkpoint(folder / f"{run.iteration:08d}.ckpt", state)
            for old in sorted(folder.glob("*.ckpt"))[: -run.settings.run.keep_checkpoints]:
                old.unlink(missing_ok=True)


def _restore(run: Run) -> None:
    """Go on from the newest whole checkpoint; from the start where there is none yet."""
    path: Path | None = None
    with together(run.me):
        if run.me.first:
            _clear_debris(run.folder)
            path, _ = newest_checkpoint(run.folder)
    path = from_first(path, run.me)
    with together(run.me):
        if path is None:
            log.info("no checkpoint yet: the run begins anew")
        else:
            _load(run, path)
        if run.me.first:
            _cut_losses(run)


def _load(run: Run, path: Path) -> None:
    state = read_checkpoint(path)
    if (state["paper"], state["procedure"]) != (run.paper.name, run.procedure.name):
        raise CheckpointError(
            "the checkpoint is of another training",
            where=path,
            got=f"{state['paper']} {state['procedure']}",
            expected=f"{run.paper.name} {run.procedure.name}",
        )
    _require_same_settings(run, state["settings"], path)
    load_into(run.network, state["network"], str(path))
    _load_optimizer(run, state["optimizer"], path)
    run.scaler.load_state_dict(state["scaler"])
    run.iteration, run.seconds = state["iteration"], state["seconds"]
    each = state["processes"]
    if len(each) == run.me.count:
        _set_own_state(run, each[run.me.rank])
    elif run.me.first:
        log.warning("the run had %d processes: not an exact resume", len(each))
    log.info("going on after iteration %d (%s)", run.iteration, path)


def _load_optimizer(run: Run, state: dict[str, Any], path: Path) -> None:
    try:
        run.optimizer.load_state_dict(state)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            "the optimizer's state does not fit",
            where=path,
            got=error,
            mend="begin a new run, with these weights where the paper's settings allow it",
        ) from error


def _require_same_settings(run: Run, saved: dict[str, Any], path: Path) -> None:
    """Where a run is and what it computes on may change; what it computes may not."""
    then, now = _flat(saved), _flat(run.settings.model_dump(mode="json"))
    kept = [
        name
        for name in sorted(then.keys() | now.keys())
        if name.split(".")[0] in ("network", "objective", "train") and name != "train.workers"
    ]
    differing = [
        f"{name}={now.get(name)} instead of {then.get(name)}"
        for name in kept
        if then.get(name) != now.get(name)
    ]
    if differing:
        raise CheckpointError(
            "the checkpoint was made with other settings",
            where=path,
            got=", ".join(differing),
            mend="give the run's own settings, or begin a new run",
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {}
        flat.update(inner or {prefix + name: value})
    return flat


def newest_checkpoint(folder: Path) -> tuple[Path | None, dict[str, Any] | None]:
    """The newest checkpoint of a run that can be read, or nothing where there is none at all.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    found = sorted((folder / "checkpoints").glob("*.ckpt"), reverse=True)
    fault = None
    for path in found:
        try:
            return path, read_checkpoint(path)
        except CheckpointError as error:
            fault = fault or error
            log.warning("left out: %s", error)
    if fault is not None:
        raise fault
    return None, None


def _clear_debris(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for path in folder.rglob(".*"):
        if path.is_file() and re.fullmatch(r"\..+-\w{8}\.\w+", path.name):
            path.unlink()


def _cut_losses(run: Run) -> None:
    """Drop the lines that an interrupted process logged after the checkpoint."""
    path = run.folder / "losses.jsonl"
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if 0 < _iteration_of(line) <= run.iteration]
        if len(kept) < len(lines):
            write_text(path, "".join(line + "\n" for line in kept))


def _iteration_of(line: str) -> int:
    """Of a line in the losses' file; 0 for one that was cut off."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, LookupError, TypeError):
        return 0


def _own_state(run: Run) -> dict[str, Any]:
    """What each process has for itself: chance, running statistics, losses not yet logged."""
    rng = {"cpu": torch.get_rng_state()}
    if run.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(run.device)
    buffers = {name: each.detach().cpu() for name, each in run.network.named_buffers()}
    return {"rng": rng, "buffers": buffers, "recent": run.recent}


def _set_own_state(run: Run, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["rng"]["cpu"])
    if run.device.type == "cuda" and "cuda" in state["rng"]:
        torch.cuda.set_rng_state(state["rng"]["cuda"], run.device)
    for name, buffer in run.network.named_buffers():
        buffer.copy_(state["buffers"][name])
    run.recent = state["recent"]


@contextmanager
def _stopping_softly(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the iteration; the second acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        run.stopped = True
        for each, handler in usual.items():
            signal.signal(each, handler)

    for number in usual:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for each, handler in usual.items():
            signal.signal(each, handler)


def _require_equal_shares(settings: Any, me: Processes) -> None:
    if settings.train.batch_size % me.count:
        raise ConfigError(
            "the batch cannot be shared out evenly",
            where="train.batch_size",
            got=f"{settings.train.batch_size} for {me.count} processes",
            expected=f"a multiple of {me.count}",
        )


def _save_previews(run: Run) -> None:
    with evaluating(run.network):
        for name, picture in run.procedure.previews(run.settings, run.network, run.progress):
            write_image(run.folder / name, to_pixels(picture, run.paper.rounding))


def _validate(run: Run) -> None:
    clips = run.procedure.validation(run.settings)
    with evaluating(run.network):
        scores = evaluate(
            run.paper,
            run.network,
            clips,
            device=run.device,
            ssim_definition=run.procedure.ssim,
            inner=run.procedure.inner,
        )
    means = {name: value for name, value in scores.mean_of_clips.items() if "input" not in name}
    log.info("iteration %d, validation: %s", run.iteration, _listed(means))
    for name, value in means.items():
        _scalar(run, f"validation/{name}", value)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modes from before come back at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _log_losses(run: Run) -> None:
    mine = {name: float(np.mean(values)) for name, values in run.recent.items()}
    run.recent = {}
    each = from_all(mine, run.me)
    if not run.me.first:
        return
    means = {name: float(np.mean([one[name] for one in each])) for name in mine}
    rates = [group["lr"] for group in run.optimizer.param_groups]
    seconds = round(run.seconds, 3)
    line = {"iteration": run.iteration, "epoch": run.progress.epoch, "seconds": seconds}
    with (run.folder / "losses.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "lr": rates, "losses": means}) + "\n")
    log.info("epoch %d, iteration %d: %s", run.progress.epoch, run.iteration, _listed(means))
    for name, value in means.items():
        _scalar(run, f"loss/{name}", value)
    _scalar(run, "lr", rates[0])


def _scalar(run: Run, name: str, value: float) -> None:
    if run.writer is not None:
        run.writer.add_scalar(name, value, run.iteration)


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def _batches(run: Run, data: Any) -> Generator[Batch | UserError]:
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
        worker_init_fn=_leave_signals_to_trainer,
        # Its own generator, so that loading leaves the global one alone.
        generator=torch.Generator().manual_seed(chosen.seed),
    )
    yield from loader


def _leave_signals_to_trainer(worker: int) -> None:
    """A terminal and torchrun send signals to loader processes too, which are still needed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stack_samples(samples: list[Sample]) -> Batch:
    """Stack samples into a batch.

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


def _to_device(batch: Batch, device: torch.device) -> Any:
    return _map(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _tensorboard(folder: Path, first: int) -> Any:
    # Imported here: it takes a second, and a run without it should not wait.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first)


def _describe(run: Run, samples: int, notes: Sequence[str]) -> None:
    settings: Settings = run.settings
    write_text(run.folder / "settings.yml", as_yaml(settings))
    with (run.folder / "command.txt").open("a", encoding="utf-8") as file:
        file.write(shlex.join(sys.argv) + "\n")
    for note in notes:
        log.warning("%s", note)
    log.info("%s %s: %s", run.paper.name, run.procedure.name, run.folder)
    log.info("%s", ", ".join(f"{name} {version}" for name, version in _versions().items()))
    log.info(
        "%d samples, %d iterations of %d to an epoch, on %s",
        samples,
        run.plan.iterations,
        run.epoch_length,
        run.device,
    )


def _versions() -> dict[str, str]:
    return {
        "llve": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
