"""What a run leaves to be read: settings, losses, weights, previews, scores."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llve_common import __version__
from llve_common.config import Settings, as_yaml
from llve_common.evaluate.test import evaluate
from llve_common.io.atomic import write_text
from llve_common.io.images import to_pixels, write_image
from llve_common.machine.processes import gather
from llve_common.paper.contract import Model
from llve_common.train.run import Run
from llve_common.weights.files import write_published, write_weights
from llve_common.weights.network import evaluating

log = logging.getLogger(__name__)


def describe(run: Run, samples: int, notes: Sequence[str]) -> None:
    """Say what is run, on how many samples, in the run's folder and in the log."""
    settings: Settings = run.settings
    write_text(run.folder / "settings.yml", as_yaml(settings))
    with (run.folder / "command.txt").open("a", encoding="utf-8") as file:
        file.write(shlex.join(sys.argv) + "\n")
    for note in notes:
        log.warning("%s", note)
    log.info("%s %s: %s", run.paper.name, run.procedure.name, run.folder)
    log.info("%s", ", ".join(f"{name} {version}" for name, version in versions().items()))
    log.info(
        "%d samples, %d iterations of %d to an epoch, on %s",
        samples,
        run.plan.iterations,
        run.epoch_length,
        run.device,
    )


def versions() -> dict[str, str]:
    """Of what a run depends on."""
    return {
        "llve": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def tensorboard(folder: Path, first: int) -> Any:
    """TensorBoard's writer; what the folder has from iteration ``first`` on is hidden."""
    # Imported here: it takes a second, and a run without it should not wait.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first)


def log_losses(run: Run) -> None:
    """Log the means, over iterations and processes, of the losses since the last time."""
    mine = {name: float(np.mean(values)) for name, values in run.recent.items()}
    run.recent = {}
    each = gather(mine, run.me)
    if not run.me.first:
        return
    means = {name: float(np.mean([one[name] for one in each])) for name in mine}
    rates = [group["lr"] for group in run.optimizer.param_groups]
    seconds = round(run.seconds, 3)
    line = {"iteration": run.iteration, "epoch": run.progress.epoch, "seconds": seconds}
    with (run.folder / "losses.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "lr": rates, "losses": means}) + "\n")
    log.info("epoch %d, iteration %d: %s", run.progress.epoch, run.iteration, listed(means))
    for name, value in means.items():
        _scalar(run, f"loss/{name}", value)
    _scalar(run, "lr", rates[0])


def cut_losses(run: Run) -> None:
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


def publish(run: Run, name: str) -> None:
    """Write weights as the paper publishes them, under one of the procedure's file names."""
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


def save_previews(run: Run) -> None:
    """Write the procedure's pictures."""
    with evaluating(run.network):
        previews = run.procedure.previews(run.settings, run.network, run.progress, run.clips)
        for name, picture in previews:
            write_image(run.folder / name, to_pixels(picture, run.paper.rounding))


def validate(run: Run) -> None:
    """Score the validation's clips, and log the means."""
    with evaluating(run.network):
        model = Model(run.paper, run.network, run.settings)
        scores = evaluate(model, run.clips, run.procedure.scoring)
    means = {name: value for name, value in scores.mean_of_clips.items() if "input" not in name}
    log.info("iteration %d, validation: %s", run.iteration, listed(means))
    for name, value in means.items():
        _scalar(run, f"validation/{name}", value)


def listed(values: dict[str, float]) -> str:
    """Losses or scores in a line: ``psnr 20.1, ssim 0.8``."""
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def _scalar(run: Run, name: str, value: float) -> None:
    if run.writer is not None:
        run.writer.add_scalar(name, value, run.iteration)
