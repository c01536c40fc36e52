"""Learning rates with restarts, as video restoration trains: cosine annealing and multi-step.

Both are recurrences on the rate that a parameter group has now, so what else changes a rate (a
warm-up, a group that stands still for a while) has its effect on what follows. All state is in the
optimizer's groups, as ``lr`` and ``initial_lr``, and so in its checkpoint.

The rates of iteration k = 1, 2, ... are set before its update. A restart listed as r takes effect
in iteration r + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch.optim import Optimizer

from llve_common.config import Settings
from llve_common.errors import ConfigError


class ScheduleSettings(Settings):
    """The settings of a schedule; a paper's own subclass has its published values as defaults."""

    scheme: Literal["cosine", "multistep"] = "cosine"
    warmup: int = Field(-1, description="iterations of linear rise; below 1: none")
    restarts: tuple[NonNegativeInt, ...] = Field(
        (), description="the last iterations before a restart"
    )
    restart_weights: tuple[PositiveFloat, ...] = Field((), description="of the base rate")
    periods: tuple[PositiveInt, ...] = Field((), description="cosine: one more than restarts")
    eta_min: NonNegativeFloat = Field(0.0, description="cosine: the lowest rate")
    milestones: tuple[NonNegativeInt, ...] = Field((), description="multistep: times gamma here")
    gamma: PositiveFloat = Field(0.1, description="multistep")
    clear_state: bool = Field(False, description="multistep: forget Adam's moments at a restart")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            if self.scheme == "cosine":
                _require_periods(self.periods, self.restarts)
            _require_weights(self.restarts, self.restart_weights)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


def set_rates(chosen: ScheduleSettings, optimizer: Optimizer, iteration: int) -> None:
    """Set every group's rate for the update of an iteration, counted from 1."""
    if chosen.scheme == "cosine":
        cosine_restarts(
            optimizer,
            iteration,
            periods=chosen.periods,
            restarts=chosen.restarts,
            weights=chosen.restart_weights,
            eta_min=chosen.eta_min,
        )
    else:
        multistep_restarts(
            optimizer,
            iteration,
            milestones=chosen.milestones,
            restarts=chosen.restarts,
            weights=chosen.restart_weights,
            gamma=chosen.gamma,
            clear_state=chosen.clear_state,
        )
    if iteration < chosen.warmup:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * iteration / chosen.warmup


def cosine_restarts(
    optimizer: Optimizer,
    iteration: int,
    *,
    periods: Sequence[int],
    restarts: Sequence[int] = (),
    weights: Sequence[float] = (),
    eta_min: float = 0.0,
) -> None:
    """Cosine annealing with restarts (Loshchilov and Hutter, *SGDR*, ICLR 2017), as a recurrence.

    With base rate b, lowest rate e, period T and its start s (0 before any restart, r + 1 after
    restart r)::

        lr[k] = e + (lr[k-1] - e) (1 + cos(pi (k - s) / T)) / (1 + cos(pi (k - 1 - s) / T))

    and one step past the lowest point, where that is 0 / 0,
    ``lr[k] = lr[k-1] + (b - e) (1 - cos(pi / T)) / 2``.

    Args:
        optimizer: whose groups to set.
        iteration: k, from 1.
        periods: one for the start and one for each restart; from a restart on that has none, the
            rates stay as they are.
        restarts: in increasing order; none is the same as one at 0.
        weights: of the base rate at each restart; none given is 1 for a restart at 0.
        eta_min: e.

    Raises:
        ConfigError: restarts, weights and periods differ in number.
    """
    _require_periods(periods, restarts)
    restarts, weights = _filled(restarts, weights)
    passed = sum(iteration > restart for restart in restarts)
    for group in optimizer.param_groups:
        base = group.setdefault("initial_lr", group["lr"])
        if passed >= len(periods):
            continue
        if iteration - 1 in restarts:
            group["lr"] = base * weights[restarts.index(iteration - 1)]
            continue
        start = restarts[passed - 1] + 1 if passed else 0
        period, along = periods[passed], iteration - start
        if (along - 1 - period) % (2 * period) == 0:
            group["lr"] += (base - eta_min) * (1 - math.cos(math.pi / period)) / 2
        else:
            fall = (1 + math.cos(math.pi * along / period)) / (
                1 + math.cos(math.pi * (along - 1) / period)
            )
            group["lr"] = eta_min + (group["lr"] - eta_min) * fall


def multistep_restarts(
    optimizer: Optimizer,
    iteration: int,
    *,
    milestones: Sequence[int],
    restarts: Sequence[int] = (),
    weights: Sequence[float] = (),
    gamma: float = 0.1,
    clear_state: bool = False,
) -> None:
    """Rates times gamma at milestones, back to the base rate times a weight at restarts.

    Args:
        optimizer: whose groups to set.
        iteration: from 1.
        milestones: iterations; one that is listed twice counts twice.
        restarts: none is the same as one at 0.
        weights: of the base rate at each restart.
        gamma: the factor.
        clear_state: whether a restart empties the optimizer's state.

    Raises:
        ConfigError: restarts and weights differ in number.
    """
    restarts, weights = _filled(restarts, weights)
    again = iteration - 1 in restarts
    if again and clear_state:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        base = group.setdefault("initial_lr", group["lr"])
        if again:
            group["lr"] = base * weights[restarts.index(iteration - 1)]
        else:
            group["lr"] *= gamma ** milestones.count(iteration)


def _filled(
    restarts: Sequence[int], weights: Sequence[float]
) -> tuple[Sequence[int], Sequence[float]]:
    _require_weights(restarts, weights)
    return (restarts, weights) if restarts else ([0], weights or [1.0])


def _require_weights(restarts: Sequence[int], weights: Sequence[float]) -> None:
    if len(weights) != len(restarts) and (restarts or len(weights) > 1):
        raise ConfigError(
            "restarts and their weights do not match",
            got=f"{len(restarts)} restarts, {len(weights)} weights",
            expected="a weight for each restart",
        )


def _require_periods(periods: Sequence[int], restarts: Sequence[int]) -> None:
    # The last restart may have no period: published settings end so, at the last iteration.
    wanted = len(restarts) if restarts and restarts[0] > 0 else max(len(restarts), 1) + 1
    if len(periods) < wanted:
        raise ConfigError(
            "too few periods for the restarts",
            got=f"{len(periods)} periods, restarts {list(restarts) or 'none, which is one at 0'}",
            expected="one period for the start and one for each restart",
        )
