"""Learning rates with restarts, as video restoration trains: cosine annealing and multi-step.

Both are recurrences on the rate that a parameter group has now, so what else changes a rate (a
warm-up, a group that stands still for a while) has its effect on what follows. All state is in the
optimizer's groups, as ``lr`` and ``initial_lr``, and so in its checkpoint.
"""

import math
from typing import Any

from torch.optim import Optimizer

from llve_common.config import ScheduleSettings
from llve_common.paper.contract import Plan


def set_rates(chosen: ScheduleSettings, optimizer: Optimizer, iteration: int) -> None:
    """Set every group's rate for an iteration, before its update.

    During the warm-up the rate is the base rate times iteration / warmup. A restart listed as r
    sets the base rate times its weight in iteration r + 1; with ``multistep`` it also empties the
    optimizer's state where ``clear_state`` says so. In all other iterations the rate follows from
    the last one: ``multistep`` multiplies it by gamma at milestones, as often as one is listed;
    ``cosine`` is cosine annealing with restarts (Loshchilov and Hutter, *SGDR*, ICLR 2017).
    Iterations are counted from 1.
    """
    restarts, weights = chosen.restarts or (0,), chosen.restart_weights or (1.0,)
    cosine, restarting = chosen.scheme == "cosine", iteration - 1 in restarts
    passed = sum(iteration > restart for restart in restarts)
    if restarting and not cosine and chosen.clear_state:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        rate, base = group["lr"], group.setdefault("initial_lr", group["lr"])
        if iteration < chosen.warmup:
            group["lr"] = base * iteration / chosen.warmup
        elif cosine and passed >= len(chosen.periods):
            continue
        elif restarting:
            group["lr"] = base * weights[restarts.index(iteration - 1)]
        elif cosine:
            along = iteration - (restarts[passed - 1] + 1 if passed else 0)
            group["lr"] = _annealed(rate, base, chosen.eta_min, along, chosen.periods[passed])
        else:
            group["lr"] = rate * chosen.gamma ** chosen.milestones.count(iteration)


def _annealed(rate: float, base: float, lowest: float, along: int, period: int) -> float:
    """The cosine's rate ``along`` iterations after a period's start, from the one before.

    With rate r, base rate b, lowest rate e, period T and k iterations along::

        e + (r - e) (1 + cos(pi k / T)) / (1 + cos(pi (k - 1) / T))

    and one step past the lowest point, where that is 0 / 0, ``r + (b - e) (1 - cos(pi / T)) / 2``.
    """
    if (along - 1 - period) % (2 * period) == 0:
        return rate + (base - lowest) * (1 - math.cos(math.pi / period)) / 2
    fall = (1 + math.cos(math.pi * along / period)) / (1 + math.cos(math.pi * (along - 1) / period))
    return lowest + (rate - lowest) * fall


def plan_by_iterations(settings: Any, epoch_length: int) -> Plan:
    """Weights with checkpoints and previews with validation, as SDSD and STCD publish them.

    The settings' ``train`` has ``iterations``, ``save_every`` and ``validate_every``.
    """
    chosen = settings.train
    save, look = chosen.save_every, chosen.validate_every
    return Plan(chosen.iterations, save, save, preview_every=look, validate_every=look)
