"""One training loop for every paper.

What happens, in order: a fresh run folder; seeds; network, data, objective and optimizer from the
procedure; then for each iteration: rates, mode, losses, backward, clipping, update; and, as the
plan says, log lines, published weights, previews, validation and checkpoints.

The run folder holds::

    settings.yml  command.txt  train.log   what was run, and what it said
    losses.jsonl                           one line for each logged iteration
    tensorboard/                           the same for TensorBoard
    checkpoints/<iteration>.ckpt           all that is needed to go on
    model_epochs/, image_epochs/, ...      published weights and previews, named by the paper

Not a number in the loss stops the run with an error before the weights are touched.
"""

from __future__ import annotations

import json
import logging
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, default_collate

from llve_common import __version__
from llve_common.config import Settings, as_yaml
from llve_common.engine.checkpoint import write_checkpoint, write_weights
from llve_common.engine.device import choose_device
from llve_common.engine.evaluator import evaluate
from llve_common.engine.run_folder import fresh_folder, logging_to
from llve_common.engine.sampler import Batches, SeededSamples, batches_per_epoch
from llve_common.errors import DataError, UserError
from llve_common.io.atomic import write_text
from llve_common.io.images import to_pixels, write_image
from llve_common.paper import Batch, Objective, Paper, Plan, Procedure, Progress, Sample

log = logging.getLogger(__name__)


Watcher = Callable[[int, int, float], None]
"""Is told of every iteration: (done, in all, loss)."""


@dataclass
class Run:
    """A training run between two iterations."""

    paper: Paper
    procedure: Procedure[Any]
    settings: Any
    folder: Path
    network: nn.Module
    objective: Objective
    optimizer: Optimizer
    plan: Plan
    epoch_length: int
    device: torch.device
    iteration: int = 0
    recent: dict[str, list[float]] = field(default_factory=dict)
    writer: Any = None

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        return Progress(self.iteration, self.epoch_length)


def train(
    paper: Paper,
    procedure: Procedure[Any],
    settings: Any,
    *,
    watch: Watcher | None = None,
) -> Path:
    """Train from the start and return the run's folder.

    Args:
        paper: whose network.
        procedure: one of the paper's.
        settings: of the procedure's settings class.
        watch: is told of every iteration.

    Raises:
        DataError: the training set is empty or its samples cannot be stacked into a batch.
        MediaError: a training image cannot be read, or the folder cannot be written.
        UserError: the loss stops being a number.
    """
    device = choose_device(settings.run.device)
    data = procedure.data(settings)
    if len(data) == 0:
        raise DataError("the training set is empty", where=procedure.name)
    torch.manual_seed(settings.train.seed)
    network = procedure.network(settings).to(device)
    epoch_length = batches_per_epoch(len(data), settings.train.batch_size)
    folder = fresh_folder(settings.run.save, procedure.name)
    run = Run(
        paper=paper,
        procedure=procedure,
        settings=settings,
        folder=folder,
        network=network,
        objective=procedure.objective(settings, device),
        optimizer=procedure.optimizer(settings, network),
        plan=procedure.plan(settings, epoch_length),
        epoch_length=epoch_length,
        device=device,
    )
    with ExitStack() as stack:
        stack.enter_context(logging_to(folder / "train.log"))
        if settings.run.tensorboard:
            run.writer = stack.enter_context(_tensorboard(folder / "tensorboard"))
        _describe(run, len(data))
        _fit(run, _batches(run, data, first=1), watch)
    return folder


def _fit(run: Run, batches: Iterator[Batch], watch: Watcher | None) -> None:
    started = time.monotonic()
    for batch in batches:
        iteration = run.iteration + 1
        losses = step(run, _to_device(batch, run.device), iteration)
        run.iteration = iteration
        for name, value in losses.items():
            run.recent.setdefault(name, []).append(value)
        _after(run, started)
        if watch is not None:
            watch(iteration, run.plan.iterations, losses["total"])
    log.info("finished after %d iterations, %.1f s", run.iteration, time.monotonic() - started)


def step(run: Run, batch: Batch, iteration: int) -> dict[str, float]:
    """One update; returns the losses before it, their ``total`` among them.

    Raises:
        UserError: the total is not finite; the weights are then as they were.
    """
    run.procedure.schedule(run.settings, run.optimizer, iteration)
    run.procedure.before_step(run.settings, run.network, iteration)
    run.optimizer.zero_grad(set_to_none=True)
    losses = run.objective(run.network, batch, iteration)
    total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
    values = {name: loss.item() for name, loss in losses.items()} | {"total": total.item()}
    if not np.isfinite(values["total"]):
        raise UserError(
            "the loss is not a finite number",
            where=f"iteration {iteration}",
            got=", ".join(f"{name} {value:g}" for name, value in values.items()),
            mend="lower the learning rate, or look for images that hold one value only",
        )
    total.backward()
    if run.settings.train.clip_norm is not None:
        nn.utils.clip_grad_norm_(run.network.parameters(), run.settings.train.clip_norm)
    run.optimizer.step()
    return values


def _after(run: Run, started: float) -> None:
    plan, now = run.plan, run.iteration
    last = now == plan.iterations
    if now % run.settings.run.log_every == 0 or last:
        _log_losses(run, time.monotonic() - started)
    if now % plan.weights_every == 0 or last:
        name = run.procedure.weights_name.format(iteration=now, epoch=run.progress.epoch)
        write_weights(run.folder / name, run.paper.to_published(run.network.state_dict()))
    if plan.preview_every and (now % plan.preview_every == 0 or last):
        _save_previews(run)
    if plan.validate_every and (now % plan.validate_every == 0 or last):
        _validate(run)
    if now % plan.checkpoint_every == 0 or last:
        write_checkpoint(run.folder / "checkpoints" / f"{now:08d}.ckpt", _state(run))


def _state(run: Run) -> dict[str, Any]:
    return {
        "paper": run.paper.name,
        "procedure": run.procedure.name,
        "iteration": run.iteration,
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "settings": run.settings.model_dump(mode="json"),
        "versions": _versions(),
    }


def _save_previews(run: Run) -> None:
    with evaluating(run.network):
        for name, picture in run.procedure.previews(run.settings, run.network, run.progress):
            write_image(run.folder / name, to_pixels(picture, run.paper.rounding))


def _validate(run: Run) -> None:
    clips = run.procedure.validation(run.settings)
    with evaluating(run.network):
        scores = evaluate(run.paper, run.network, clips, device=run.device)
    means = {name: value for name, value in scores.mean_of_frames.items() if "input" not in name}
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


def _log_losses(run: Run, seconds: float) -> None:
    means = {name: float(np.mean(values)) for name, values in run.recent.items()}
    run.recent.clear()
    rates = [group["lr"] for group in run.optimizer.param_groups]
    line = {"iteration": run.iteration, "epoch": run.progress.epoch, "seconds": round(seconds, 3)}
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


def _batches(run: Run, data: Any, first: int) -> Iterator[Batch]:
    train_settings = run.settings.train
    last = run.plan.iterations
    loader = DataLoader(
        SeededSamples(data),
        batch_sampler=Batches(
            len(data), train_settings.batch_size, train_settings.seed, first, last
        ),
        num_workers=train_settings.workers,
        collate_fn=stack_samples,
        # Its own generator, so that loading leaves the global one alone.
        generator=torch.Generator().manual_seed(train_settings.seed),
    )
    return iter(loader)


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


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each)


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _to_device(each, device) for key, each in value.items()}
    return value


def _tensorboard(folder: Path) -> Any:
    # Imported here: it takes a second, and a run without it should not wait.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def _describe(run: Run, samples: int) -> None:
    settings: Settings = run.settings
    write_text(run.folder / "settings.yml", as_yaml(settings))
    write_text(run.folder / "command.txt", shlex.join(sys.argv) + "\n")
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
