"""Checkpoints of a run, and going on from them.

A run that was stopped, by a signal or by force, and is then resumed ends with the same weights as
an unbroken one, bit for bit on the CPU: the order of samples depends on seed, iteration and rank
alone, each sample's augmentation is seeded by itself, and a checkpoint holds everything else.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, NonNegativeFloat
from torch import Tensor
from torch.optim import Optimizer

from llve_common.config import NonNegativeInt, Settings, checked, leaves, with_absolute_paths
from llve_common.errors import CheckpointError
from llve_common.machine.processes import broadcast, gather, raise_in_all_processes
from llve_common.train.manifest import require_same_data
from llve_common.train.record import (
    LOSSES,
    cut_losses,
    read_validations,
    remove_leftovers_of_runs,
    versions,
)
from llve_common.train.run import Run
from llve_common.weights.files import load_into, read_checkpoint, write_checkpoint

log = logging.getLogger(__name__)

# Settings that say how a run goes on, or whose files are compared; all others, but for those of
# ``run``, say what it computed before.
_MAY_CHANGE = (
    "epochs", "iterations", "schedule", "decay", "decay_after", "decay_epochs", "save_every",
    "snapshot_every", "validate_every", "validation", "val_low", "val_high", "test_clips",
    "preview", "preview_every", "version", "workers",
)  # fmt: skip


class _Own(BaseModel, arbitrary_types_allowed=True):
    rng: dict[str, Tensor]
    buffers: dict[str, Tensor]
    recent: dict[str, list[float]]


class _Checkpoint(BaseModel, arbitrary_types_allowed=True):
    """What :func:`save_checkpoint` writes, but for what is never read."""

    paper: str
    procedure: str
    iteration: NonNegativeInt
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    processes: list[_Own]
    seconds: NonNegativeFloat
    settings: dict[str, Any]


def save_checkpoint(run: Run) -> None:
    """Write all that is needed to go on, and remove the oldest checkpoints.

    Raises:
        MediaError: the file cannot be written.
    """
    state = {
        "paper": run.paper.name,
        "procedure": run.procedure.name,
        "iteration": run.iteration,
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "processes": gather(_own_state(run), run.me),
        "seconds": run.seconds,
        "settings": with_absolute_paths(run.settings).model_dump(mode="json"),
        "versions": versions(),
    }
    with raise_in_all_processes(run.me):
        if run.me.first:
            write_checkpoint(run.folder / "checkpoints" / f"{run.iteration:08d}.ckpt", state)
            # One of a later iteration was damaged when the run went on: it goes first.
            oldest_first = sorted(
                checkpoints_in(run.folder), key=lambda each: int(each.stem) <= run.iteration
            )
            for old in oldest_first[: -run.settings.run.keep_checkpoints]:
                old.unlink(missing_ok=True)


def checkpoints_in(folder: Path) -> list[Path]:
    """A run's checkpoints, oldest first; copies under other names are their owner's."""
    found = (folder / "checkpoints").glob("*.ckpt")
    numbered = (each for each in found if each.stem.isdecimal())
    return sorted(numbered, key=lambda each: int(each.stem))


def restore(run: Run) -> None:
    """Go on from the newest whole checkpoint; from the start where there is none yet.

    Raises:
        DataError: the run's data are not those that it began with.
        CheckpointError: there are checkpoints, but none is whole, or it is of another training.
    """
    path: Path | None = None
    with raise_in_all_processes(run.me):
        if run.me.first:
            remove_leftovers_of_runs(run.folder)
            require_same_data(run)
            path = newest_checkpoint(run.folder)
    path = broadcast(path, run.me)
    with raise_in_all_processes(run.me):
        if path is None:
            log.info("no checkpoint yet: the run begins anew")
        else:
            _load(run, path)
        if run.me.first:
            cut_losses(run.folder / LOSSES, run.iteration)
            run.validations = read_validations(run.folder)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that can be read; None where there is none at all.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    faults = []
    for path in reversed(checkpoints_in(folder)):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            faults.append(error)
            log.warning("left out: %s", error)
        else:
            return path
    if faults:
        raise faults[0]
    return None


def _load(run: Run, path: Path) -> None:
    state = checked(_Checkpoint, read_checkpoint(path), path, CheckpointError)
    if (state.paper, state.procedure) != (run.paper.name, run.procedure.name):
        raise CheckpointError(
            "the checkpoint is of another training",
            where=path,
            got=f"{state.paper} {state.procedure}",
            expected=f"{run.paper.name} {run.procedure.name}",
        )
    run.iteration, run.seconds = state.iteration, state.seconds
    saved = checked(type(run.settings), state.settings, path, CheckpointError)
    _require_same_settings(run, saved, path)
    load_into(run.network, state.network, str(path))
    load_optimizer(run.optimizer, state.optimizer, path)
    with _fitting(path, "the state of the run does not fit"):
        run.scaler.load_state_dict(state.scaler)
        if len(state.processes) == run.me.count:
            _set_own_state(run, state.processes[run.me.rank])
        elif run.me.first:
            log.warning("the run had %d processes: not an exact resume", len(state.processes))
    log.info("going on after iteration %d (%s)", run.iteration, path)


def load_optimizer(optimizer: Optimizer, state: dict[str, Any], path: Path) -> None:
    """Give an optimizer the state that a file holds.

    Raises:
        CheckpointError: it is of other parameters, or damaged.
    """
    with _fitting(path, "the optimizer's state does not fit"):
        optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                for name, moment in optimizer.state[parameter].items():
                    # A count of steps is a single number.
                    odd = isinstance(moment, Tensor) and moment.ndim
                    if odd and moment.shape != parameter.shape:
                        shapes = f"{tuple(moment.shape)} for {tuple(parameter.shape)}"
                        raise ValueError(f"{name} has the shape {shapes}")
        # What it lacks shows in a step alone: one of a copy, by no gradient.
        trial = copy.deepcopy(optimizer)
        for group in trial.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        trial.step()


@contextmanager
def _fitting(path: Path, what: str) -> Iterator[None]:
    """What torch says of a state that it cannot take, as one kind of error."""
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            what,
            where=path,
            got=f"no {error}" if isinstance(error, KeyError) else error,
            mend="begin a new run, with these weights where the paper's settings allow it",
        ) from error


def _require_same_settings(run: Run, saved: Settings, path: Path) -> None:
    """Where a run is, what it computes on and how it goes on may change; what it computed may not.

    Raises:
        CheckpointError: other settings have changed, or the run is beyond its new end.
    """
    then, now = (dict(leaves(each.model_dump(exclude={"run"}))) for each in (saved, run.settings))
    changed = {
        name: f"{name}={now.get(name)} instead of {then.get(name)}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
        # Files may have moved; those of the run's data are compared by themselves.
        and not (isinstance(then.get(name), Path) and isinstance(now.get(name), Path))
    }
    refused = [said for name, said in changed.items() if name.split(".")[:2][-1] not in _MAY_CHANGE]
    if refused:
        raise CheckpointError(
            "the checkpoint was made with other settings",
            where=path,
            got=", ".join(refused),
            expected=f"the run's own; may change {', '.join(_MAY_CHANGE)}",
            mend="leave them out, or begin a new run",
        )
    if run.plan.iterations < run.iteration:
        raise CheckpointError(
            "the run is beyond its new end",
            where=path,
            got=f"{run.iteration} iterations were made",
            expected=f"at most the {run.plan.iterations} of the settings",
        )
    for said in changed.values():
        log.warning("changed from iteration %d on: %s", run.iteration + 1, said)


def _own_state(run: Run) -> dict[str, Any]:
    """What each process has for itself: chance, running statistics, losses not yet logged."""
    rng = {"cpu": torch.get_rng_state()}
    if run.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(run.device)
    buffers = {name: each.detach().cpu() for name, each in run.network.named_buffers()}
    return {"rng": rng, "buffers": buffers, "recent": run.recent}


def _set_own_state(run: Run, state: _Own) -> None:
    torch.set_rng_state(state.rng["cpu"])
    if run.device.type == "cuda" and "cuda" in state.rng:
        torch.cuda.set_rng_state(state.rng["cuda"], run.device)
    for name, buffer in run.network.named_buffers():
        buffer.copy_(state.buffers[name])
    run.recent = state.recent
