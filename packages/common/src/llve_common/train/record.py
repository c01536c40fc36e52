"""What a run leaves to be read: its folder, log, settings, losses, weights, previews, scores."""

import io
import json
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor

from llve_common import __version__
from llve_common.config import RunSettings, as_yaml, checked, with_absolute_paths
from llve_common.enhance.frames import enhance_frames
from llve_common.errors import DataError, MediaError
from llve_common.io.atomic import remove_leftovers, write_text
from llve_common.io.images import to_pixels, to_tensor, write_image
from llve_common.machine.locks import LOCK, holding
from llve_common.machine.processes import gather, raise_in_all_processes
from llve_common.machine.shell import COMMAND, command_line
from llve_common.paper.contract import Clip, Model
from llve_common.train.run import Run
from llve_common.weights.files import write_published
from llve_common.weights.network import evaluating

log = logging.getLogger(__name__)

LOSSES = "losses.jsonl"
_PREVIEW = 320
"""The longer side of a frame that is shown: there may be a thousand pictures of a photograph."""
BEST = "best"
"""The name of the weights with the highest PSNR in validation, less its suffix."""


def new_folder(chosen: RunSettings, procedure: str) -> Path:
    """Make a run's folder, never one that holds something.

    It is ``<save>/<name>``, and one that is there already becomes ``<name>_archived_<timestamp>``;
    without a name it is ``<save>/<procedure>-<timestamp>``. A timestamp that is taken is numbered.

    Raises:
        MediaError: the folder cannot be made, or the old one not renamed, for example because a
            live process writes to it.
    """
    now = datetime.now()
    folder = chosen.save / (chosen.name or f"{procedure}-{now:%Y%m%d-%H%M%S}")
    try:
        if chosen.name is None:
            return _fresh_folder(folder)
        if folder.exists():
            archived = folder.with_name(f"{folder.name}_archived_{now:%y%m%d-%H%M%S}")
            archived = next(each for each in _numbered(archived) if not each.exists())
            with holding(folder) if (folder / LOCK).is_file() else nullcontext():
                remove_leftovers_of_runs(folder)
                folder.rename(archived)
            log.warning("%s is there already: renamed to %s", folder, archived)
        folder.mkdir(parents=True)
    except OSError as error:
        raise MediaError(
            "the run's folder cannot be made",
            where=folder,
            got=error.strerror,
            mend="choose a folder that you may write to",
        ) from error
    return folder


def remove_leftovers_of_runs(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a run's folder, held by this one."""
    for each in (folder, *filter(Path.is_dir, folder.glob("*"))):
        remove_leftovers(each)


def _fresh_folder(wanted: Path) -> Path:
    for folder in _numbered(wanted):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            # Another run's, begun within this second; or what should hold it is a file.
            if not folder.parent.is_dir():
                raise
        else:
            break
    return folder


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(1))


@contextmanager
def train_log(package: str = "llve_common") -> Iterator[Callable[[Path], None]]:
    """Write what this project's packages log in the block to a file that begins later.

    Args:
        package: besides the core, what is to be in it from the level INFO on.

    Yields:
        What begins the file. What was logged in the block before stands in it too, so that
        warnings from before there was a run folder are not lost.
    """
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler(early := io.StringIO())
    # A full disk is said by what has to be written.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(lambda record: record.name.startswith("llve_"))
    root = logging.getLogger()
    levels = {each: each.level for each in map(logging.getLogger, ("llve_common", package))}

    def begin(file: Path) -> None:
        handler.setStream(file.open("a", encoding="utf-8", errors="backslashreplace"))
        handler.stream.write(early.getvalue())
        handler.flush()

    root.addHandler(handler)
    for each in levels:
        if not each.isEnabledFor(logging.INFO):
            # A program that never set up its logging still gets the whole file.
            each.setLevel(logging.INFO)
    try:
        yield begin
    finally:
        for each, level in levels.items():
            each.setLevel(level)
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()
            handler.stream.close()


def describe(run: Run, notes: Sequence[str]) -> None:
    """Say what is run, on how many samples, in the run's folder and in the log."""
    write_text(run.folder / "settings.yml", as_yaml(with_absolute_paths(run.settings)))
    _append(run.folder / COMMAND, command_line(sys.argv))
    for note in notes:
        log.warning("%s", note)
    log.info("%s %s: %s", run.paper.name, run.procedure.name, run.folder)
    log.info("%s", ", ".join(f"{name} {version}" for name, version in versions().items()))
    amount = f"{len(run.data)} samples, {run.plan.iterations} iterations of {run.epoch_length}"
    log.info("%s to an epoch, on %s", amount, run.device)


def versions() -> dict[str, str]:
    """Of what a run depends on."""
    return {
        "llve": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def tensorboard(run: Run) -> Any:
    """TensorBoard's writer; what an interrupted process wrote after the checkpoint is hidden.

    Raises:
        MediaError: the folder's name is not UTF-8, which TensorBoard cannot write to.
    """
    # Imported here: it takes a second, and a run without it should not wait.
    from torch.utils.tensorboard import SummaryWriter

    folder = run.folder / "tensorboard"
    try:
        return SummaryWriter(str(folder), purge_step=run.iteration + 1)
    except UnicodeError as error:
        what, mend = "TensorBoard writes to names in UTF-8 alone", "give run.tensorboard=false"
        raise MediaError(what, where=folder, mend=mend) from error


def log_losses(run: Run) -> None:
    """Log the means, over iterations and processes, of the losses since the last time."""
    mine = {name: float(np.mean(values)) for name, values in run.recent.items()}
    run.recent = {}
    each = gather(mine, run.me)
    means = {name: float(np.mean([one[name] for one in each])) for name in mine}
    rates = [group["lr"] for group in run.optimizer.param_groups]
    iteration, epoch, seconds = run.iteration, run.progress.epoch, round(run.seconds, 3)
    line = {"iteration": iteration, "epoch": epoch, "seconds": seconds, "lr": rates}
    with raise_in_all_processes(run.me):
        if run.me.first:
            _append(run.folder / LOSSES, json.dumps({**line, "losses": means}))
            log.info("epoch %d, iteration %d: %s", epoch, iteration, listed(means))
            scalars = {f"loss/{name}": value for name, value in means.items()}
            _to_tensorboard(run, {**scalars, "lr": rates[0]})


def log_scores(run: Run, scores: Mapping[str, float]) -> None:
    """Log the means of a validation, and keep the weights if they are the best so far."""
    best = best_of(run.validations)
    if "psnr" in scores and (best is None or scores["psnr"] > best["validation"]["psnr"]):
        publish(run, BEST + Path(run.procedure.weights_name).suffix)
    line = {"iteration": run.iteration, "epoch": run.progress.epoch, "validation": dict(scores)}
    # Last, so that a run that is killed before it validates once more.
    _append(run.folder / LOSSES, json.dumps(line))
    run.validations.append(line)
    log.info("iteration %d, validation: %s", run.iteration, listed(scores))
    _to_tensorboard(run, {f"validation/{name}": value for name, value in scores.items()})


def read_validations(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's losses that hold scores: ``iteration``, ``epoch``, ``validation``."""
    file = folder / LOSSES
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [each for each in map(json.loads, lines) if "validation" in each]


def best_of(validations: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The line of the highest PSNR, the first of several; None where nothing was scored."""
    scored = (line for line in validations if "psnr" in line["validation"])
    return max(scored, key=lambda line: float(line["validation"]["psnr"]), default=None)


class _Line(BaseModel):
    iteration: int


def cut_losses(file: Path, iteration: int) -> None:
    """Drop what an interrupted process logged after a checkpoint's iteration, or only in part."""
    if not file.is_file():
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = []
    for line in lines:
        with suppress(DataError):
            if checked(_Line, line, file).iteration <= iteration:
                kept.append(line)
    if len(kept) < len(lines):
        write_text(file, "".join(line + "\n" for line in kept))


def publish(run: Run, name: str) -> None:
    """Write weights as the paper publishes them, under one of the procedure's file names."""
    now, published = run.progress, run.procedure.published
    counts = {"iteration": now.iteration, "epoch": now.epoch, "epochs": now.epochs}
    file = run.folder / name.format(**counts, settings=run.settings)
    if published is None:
        state = {name: value.cpu() for name, value in run.network.state_dict().items()}
        write_published(file, run.paper.to_published(state))
    else:
        write_published(file, published(run.settings, run.network, run.optimizer, now))


def save_previews(run: Run) -> None:
    """Write the procedure's pictures, or where it has none a small one of the validation."""
    with evaluating(run.network):
        previews = run.procedure.previews(run.settings, run.network, run.progress, run.clips)
        for name, picture in list(previews) or map(partial(_preview, run), run.clips[:1]):
            pixels = to_pixels(picture, run.paper.rounding)
            write_image(run.folder / name, pixels)
            if run.writer is not None:
                tag = f"preview/{Path(name).parent.name}"
                run.writer.add_image(tag, pixels, run.iteration, dataformats="HWC")


def _preview(run: Run, clip: Clip) -> tuple[str, Tensor]:
    """Of a frame near a clip's beginning: input, enhanced and ground truth, stacked and shrunk."""
    model = Model(run.paper, run.network, run.settings)
    inputs, outputs = model.window.inputs, model.window.outputs
    place = inputs.index(0)
    frames = [to_tensor(each.image.pixels) for each in islice(clip.read(), len(inputs))]
    enhanced = enhance_frames(model, torch.stack(frames)[None].to(run.device))
    targets = [to_tensor(each.image.pixels) for each in islice(clip.read_targets(place), 1)]
    shown = [frames[place], enhanced[0, outputs.index(0)].cpu(), *targets]
    # A test that crops may have smaller ground truth.
    height, width = (min(each.shape[side] for each in shown) for side in (1, 2))
    factor = min(1.0, _PREVIEW / max(height, width))
    size = [max(1, round(side * factor)) for side in (height, width)]
    small = [F.interpolate(each[None, :, :height, :width], size, mode="area")[0] for each in shown]
    return f"val_images/{run.iteration:06d}.png", torch.cat(small, 1)


def listed(values: Mapping[str, float]) -> str:
    """Losses or scores in a line: ``psnr 20.1, ssim 0.8``."""
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def _append(file: Path, line: str) -> None:
    """Add a line to a file.

    Raises:
        MediaError: the disk is full, or the file may not be written.
    """
    try:
        with file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise MediaError("cannot be written", where=file, got=error.strerror) from error


def _to_tensorboard(run: Run, values: Mapping[str, float]) -> None:
    if run.writer is not None:
        for name, value in values.items():
            run.writer.add_scalar(name, value, run.iteration)
