"""One update of the weights: losses, backward, clipping, optimizer.

``train.accumulate`` averages the gradients of parts of a batch, one after the other, as several
processes average those of their shares. In half precision the losses are computed under autocast;
fp16 has its gradients scaled. Not a number in the loss or the gradient stops the run with an error
before the weights are touched.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from llve_common.errors import UserError
from llve_common.machine.processes import raise_in_all_processes
from llve_common.paper.contract import Batch, Objective, Progress
from llve_common.train.loader import parts_of
from llve_common.train.record import listed
from llve_common.train.run import Run


class Step(nn.Module):
    """Network and objective as one module, which is what several processes have to share."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """The named losses."""
        return self.objective(self.network, batch, iteration)


def update(run: Run, batch: Batch) -> dict[str, float]:
    """One update of the weights of ``run.network``.

    Args:
        run: after its last iteration; its optimizer and scaler move on, its count does not.
        batch: this process's share, on the run's device.

    Returns:
        The losses before the update by name, their ``total`` among them.

    Raises:
        UserError: the total or the gradient is not finite; the weights are then as they were.
    """
    iteration = run.iteration + 1
    run.procedure.schedule(run.settings, run.optimizer, Progress(iteration, run.epoch_length))
    run.network.train()
    run.optimizer.zero_grad(set_to_none=True)
    parts = parts_of(batch, run.settings.train.accumulate)
    values: dict[str, float] = {}
    for number, part in enumerate(parts, 1):
        with _averaging(run, at=number == len(parts)):
            with raise_in_all_processes(run.me):
                losses = _losses(run, part, iteration)
                for name, loss in losses.items():
                    values[name] = values.get(name, 0.0) + loss.item() / len(parts)
                _require_finite(values, iteration)
            run.scaler.scale(losses["total"] / len(parts)).backward()
    _limit_gradient(run, values, iteration)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return values


def _averaging(run: Run, *, at: bool) -> AbstractContextManager[None]:
    """Average gradients over processes at a batch's last part only."""
    if at or not isinstance(run.step, DistributedDataParallel):
        return nullcontext()
    return run.step.no_sync()


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
            got=listed(values),
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
        with raise_in_all_processes(run.me):
            raise UserError(
                "the gradient is not a finite number",
                where=f"iteration {iteration}",
                got=f"losses {listed(values)}",
                mend="lower the learning rate, or look for images that hold one value only",
            )
