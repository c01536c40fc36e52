"""Trainings in float64 by one process and by two, which a test compares: FOLDER.

The processes are forked here and not started by torchrun: importing torch anew takes seconds.
"""

import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

import torch
from torch import nn

from llve_common.errors import DataError, UserError
from llve_common.paper.contract import Plan
from llve_common.train.trainer import train

TINY = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))


class Pictures:
    """In batches of four: a whole one, and one for which there is too little for two."""

    files = ()

    def __len__(self):
        return 5

    def sample(self, index, rng):
        chance = torch.Generator().manual_seed(rng.getrandbits(32))
        return {"low": torch.rand(3, 8, 8, generator=chance, dtype=torch.float64)}


class MorePictures(Pictures):
    """In batches of four: a whole one, and one of three."""

    def __len__(self):
        return 7


class FaultyInOne(Pictures):
    def sample(self, index, rng):
        if os.environ["RANK"] == "1":
            raise DataError("only in the second process")
        return super().sample(index, rng)


def run(folder, norm, data=Pictures, stop=None, resume=None, number=signal.SIGTERM, **chosen):
    """Seven iterations; the second process gets a signal in iteration ``stop``."""

    def objective(settings, device):
        def loss(network, batch, iteration):
            if iteration == stop and os.environ["RANK"] == "1":
                os.kill(os.getpid(), number)
            difference = network(batch["low"]) - batch["low"][..., 2:-2, 2:-2]
            return {"l2": difference.square().mean(), "l1": 0.01 * difference.abs().sum()}

        return loss

    def network(settings):
        layers = [nn.Conv2d(3, 4, 3), *([nn.BatchNorm2d(4)] if norm else []), nn.Tanh()]
        return nn.Sequential(*layers, nn.Conv2d(4, 3, 3)).double()

    procedure = TINY["make_procedure"](
        network=network,
        data=lambda settings: data(),
        sums=lambda settings: ["l1"],
        objective=objective,
        plan=lambda settings, length: Plan(7, 99, 99),
    )
    chosen = {"seed": 1, "batch_size": 4, "clip_norm": 0.05, "lr": 0.01} | chosen
    where = {"save": folder, "device": "cpu", "tensorboard": False, "log_every": 1}
    settings = TINY["TinySettings"].model_validate({"train": chosen, "run": where})
    train(TINY["make_paper"](), procedure, settings, resume=resume)


def mistake(*args, **options):
    try:
        run(*args, **options)
    except UserError as error:
        return error
    raise AssertionError("nothing was wrong")


def by_two(folder, rank, ports):
    """What each of the two does; every group of them needs a port of its own."""
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}

    def next_group():
        os.environ["MASTER_PORT"] = str(ports.pop())

    next_group()
    run(folder / "plain 2", norm=False)
    next_group()
    run(folder / "norm 2", norm=True, data=MorePictures)
    next_group()
    # Of the batch of three, the first has two parts and the second one.
    run(folder / "parts 2", norm=False, data=MorePictures, accumulate=2)
    next_group()
    stopped = mistake(folder / "stopped 2", norm=True, data=MorePictures, stop=3)
    next_group()
    run(folder / "stopped 2", norm=True, data=MorePictures, resume=stopped.where)
    next_group()
    batch = mistake(folder / "batch 2", norm=False, batch_size=3)
    next_group()
    sample = mistake(folder / "sample 2", norm=False, data=FaultyInOne)
    said = {"signal": str(stopped), "batch": str(batch), "sample": str(sample)}
    said["everywhere"] = stopped.everywhere and batch.everywhere and sample.everywhere
    (folder / f"said{rank}.json").write_text(json.dumps(said))
    next_group()
    killed = mistake(folder / "killed 2", norm=False, stop=3, number=signal.SIGKILL)
    (folder / "killed.txt").write_text(str(killed))


def main(folder):
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()  # imports a great deal more
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    forks = []
    for rank in ("0", "1"):
        forks.append(os.fork())
        if forks[-1] == 0:
            by_two(folder, rank, ports)
            sys.exit()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forks]
    assert codes == [0, -signal.SIGKILL]
    run(folder / "plain 1", norm=False)
    run(folder / "norm 1", norm=True, data=MorePictures, accumulate=2)
    run(folder / "parts 1", norm=False, data=MorePictures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
