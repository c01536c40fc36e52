"""The published checkpoints' names, both ways.

The published network's names are ours. Its checkpoints, ``<version>_epoch_<n>.pth``, wrap them as
``G_net``, beside ``epoch``, ``g_optimizer`` and ``lr_scheduler_g``. The optimizer's state goes by
the position of a parameter, and ours stand in the published order.
"""

import glob
import re
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from llve_common.errors import CheckpointError
from llve_common.paper.contract import State
from llve_common.train.checkpoint import load_optimizer as restore_optimizer


def network_arguments(state: State) -> dict[str, int]:
    """What :class:`llve_tcenet.network.TCENet` was built with, from weights under our names.

    Where a weight is missing, its default stands, and loading the weights will name it.
    """
    found = {}
    last = state.get("decoder.conv_8.weight")
    if last is not None:
        found["features"] = last.shape[1]
    weights = sum(
        re.fullmatch(r"encoder\.res_block_list\.\d+\.0\.weight", k) is not None for k in state
    )
    if weights:
        found["blocks"] = weights // 2
    return found


def trained_weights(version: str, epoch: int | None, runs: Path, models: Path) -> Path:
    """The weights of a version that a training wrote: of an epoch, or the last of the newest run.

    They lie in ``models``, which is a folder in one of the runs, in ``runs`` itself, or anywhere.

    Raises:
        CheckpointError: there are none.
    """
    name = f"{glob.escape(version)}_epoch_{epoch or '*'}.pth"
    files = [*models.glob(name)]
    if not models.is_absolute():
        files += [*runs.glob(f"{models}/{name}"), *runs.glob(f"*/{models}/{name}")]
    if not files:
        raise CheckpointError(
            "no weights of that name",
            where=models if models.is_absolute() else f"{models}, {runs / '*' / models}",
            expected=f"{version}_epoch_{epoch or 'N'}.pth",
            mend="give --model FILE, or --version NAME of a training",
        )
    return max(files, key=lambda file: (file.stat().st_mtime_ns, str(file)))


def load_optimizer(optimizer: Optimizer, content: dict[str, Any], path: Path) -> None:
    """Give an optimizer the state that a published checkpoint holds; its rate stays.

    Raises:
        CheckpointError: it holds none, or one of other parameters.
    """
    state = content.get("g_optimizer")
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        raise CheckpointError(
            "the file holds no optimizer's state",
            where=path,
            got=f"the keys {', '.join(map(str, list(content)[:5]))}",
            expected="g_optimizer, as the published trainer writes",
            mend="give optimizer_state=false",
        )
    parameters = optimizer.param_groups[0]["params"]
    if missing := [place for place in range(len(parameters)) if place not in state["state"]]:
        raise CheckpointError(
            "the optimizer's state does not fit the network",
            where=path,
            got=f"nothing for parameter {missing[0]} of {len(parameters)}",
        )
    own = optimizer.state_dict()
    restore_optimizer(optimizer, {**state, "param_groups": own["param_groups"]}, path)


def published_checkpoint(
    network: nn.Module, optimizer: Optimizer, epochs: int, lr: float
) -> dict[str, Any]:
    """What the published trainer saves after ``epochs`` finished epochs, trained from the rate lr.

    The scheduler's state is that of a ``LambdaLR`` of one function, which has no state itself.
    """
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    return {
        "G_net": dict(network.state_dict()),
        "epoch": epochs,
        "g_optimizer": optimizer.state_dict(),
        "lr_scheduler_g": {
            "base_lrs": [lr] * len(rates),
            "last_epoch": epochs,
            "_step_count": epochs + 1,
            "_get_lr_called_within_step": False,
            "_last_lr": rates,
            "lr_lambdas": [None] * len(rates),
        },
    }
