"""A training in float64, run by the tests alone and under torchrun: FOLDER NORM ACCUMULATE."""

import sys
from pathlib import Path

import torch
from torch import nn

from llve_common.config import RunSettings, Settings, TrainerSettings
from llve_common.paper.contract import Paper, Plan, Procedure, Window
from llve_common.train.trainer import train


class Job(Settings):
    train: TrainerSettings = TrainerSettings()
    run: RunSettings = RunSettings()


class Pictures:
    def __len__(self):
        return 8

    def sample(self, index, rng):
        chance = torch.Generator().manual_seed(rng.getrandbits(32))
        return {"low": torch.rand(3, 8, 8, generator=chance, dtype=torch.float64)}


def network(norm):
    layers = [nn.Conv2d(3, 4, 3), *([nn.BatchNorm2d(4)] if norm else []), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(4, 3, 3)).double()


def main(folder, norm, accumulate):
    chosen = TrainerSettings(seed=1, batch_size=4, clip_norm=0.05, accumulate=accumulate)
    run = RunSettings(save=Path(folder), device="cpu", tensorboard=False, log_every=1)
    procedure = Procedure(
        name="Train",
        settings=Job,
        network=lambda settings: network(norm),
        data=lambda settings: Pictures(),
        objective=lambda settings, device: (
            lambda network, batch, _: {
                "l2": (network(batch["low"]) - batch["low"][..., 2:-2, 2:-2]).square().mean()
            }
        ),
        optimizer=lambda settings, network: torch.optim.Adam(network.parameters(), 0.01),
        plan=lambda settings, length: Plan(7, 99, 99),
        weights_name="weights_{iteration}.pt",
    )
    paper = Paper(
        name="job",
        title="Job",
        package="llve_common",
        network=lambda state: network(norm),
        enhance=lambda network, frames: frames,
        window=Window(),
        rounding="round",
        procedures={"train": procedure},
        test_settings=Job,
        to_published=dict,
        from_published=dict,
    )
    train(paper, procedure, Job(train=chosen, run=run))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "norm", int(sys.argv[3]))
