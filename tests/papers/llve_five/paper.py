"""The test paper bound to the core's contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llve_common.data.clip import clip_of
from llve_common.paper.contract import Paper, Pictures, Plan, Procedure, Stream, Test, Window
from llve_five.config import OPTIONS, TestSettings, TrainSettings
from llve_five.data import Windows
from llve_five.network import Five


def objective(network: nn.Module, batch: dict[str, Any], iteration: int) -> dict[str, Tensor]:
    return {"pixel": nn.functional.l1_loss(network(batch["frames"]), batch["target"])}


PAPER = Paper(
    name="five",
    title="Five (a test)",
    package="llve_five",
    kind="video",
    network=lambda state, settings: Five(),
    enhance=lambda network, frames: network(frames)[:, None],
    window=lambda network, settings: Window(inputs=(-2, -1, 0, 1, 2), multiple=4),
    rounding="round",
    procedures={
        "train": Procedure(
            name="Train",
            settings=TrainSettings,
            network=lambda settings: Five(),
            data=lambda settings: Windows(clip_of(settings.data.low, settings.data.high)),
            objective=lambda settings, device: objective,
            optimizer=lambda settings, network: torch.optim.Adam(
                network.parameters(), lr=settings.train.lr
            ),
            plan=lambda settings, epoch: Plan(settings.train.iterations, 2, 2),
            weights_name="models/{iteration}.pth",
            options=OPTIONS,
        )
    },
    test=Test(
        settings=TestSettings,
        clips=lambda settings, window: [clip_of(settings.data.low, settings.data.high)],
        pictures=lambda settings: Pictures(lambda _, frame: settings.folder / frame.name),
        options=OPTIONS,
    ),
    to_published=lambda state: {f"module.{key}": value for key, value in state.items()},
    from_published=lambda state: {key.removeprefix("module."): v for key, v in state.items()},
    bundled="five-random.safetensors",
    stream=Stream(
        frames=(0,),
        part=lambda network, frames: network.part(frames[:, 0]),
        combine=lambda network, parts, outputs: network.combine(parts)[:, None],
    ),
)
