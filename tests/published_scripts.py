"""SDSD's and STCD's published scripts: their option files, and what they printed on the set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from recipes import with_recipe
from torch import nn
from typer.testing import CliRunner

from llve_common.testing.reference import reference_json
from llve_common.weights.files import write_weights

# What they printed


def invoke(app: typer.Typer, *words: Any, fails: bool = False) -> str:
    """Run a command as typed; what it printed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def numbers(form: str, lines: Iterable[str]) -> list[int]:
    """The numbers that a form finds in lines or names, in order."""
    return sorted(int(found[1]) for line in lines if (found := re.search(form, line)))


def logged(log: Iterable[str]) -> list[tuple[int, list[float], dict[str, float]]]:
    """What a log says of each iteration: its number, its rates, its losses."""
    lines = [re.search(r"iter:\s+(\d+), lr:\(([^)]+),\)\] (l_pix: .*)", line) for line in log]
    return [
        (
            int(found[1]),
            [float(rate) for rate in found[2].split(",")],
            {name: float(value) for name, value in re.findall(r"(\w+): (\S+)", found[3])},
        )
        for found in filter(None, lines)
    ]


def run_options(run: dict[str, Any], with_validation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of a training that its output tells."""
    pictures = numbers(r"val_images/(\d+)\.png", with_validation["files"])
    return {
        "train": {
            "niter": len(logged(run["log"])),
            "val_freq": pictures[0],
            "manual_seed": numbers(r"Random seed: (\d+)", run["log"])[0],
        },
        "logger": {"save_checkpoint_freq": numbers(r"(\d+)_G\.pth", run["files"])[0]},
    }


def clips_left_out(run: dict[str, Any]) -> list[str]:
    """The test's clips that a training left out."""
    [said] = [line for line in run["stdout"] if "testing_dir" in line]
    return re.findall("'([^']+)'", said)


def option_file_like(
    write: Callable[..., Path],
    command: str,
    setup: dict[str, Any],
    run: dict[str, Any],
    training: dict[str, dict[str, Any]],
) -> Path:
    """An option file with the small settings of a published test (``setup``) or training."""
    clips = clips_left_out(run) if command == "train" else setup["testing_dir"]
    file = write(command, clips=",".join(clips), size=setup["train_size"])
    content = yaml.safe_load(file.read_text())
    content["network_G"] |= setup["weights"]["arguments"]
    if command == "train":
        for section, values in training.items():
            content[section] |= values
    file.write_text(yaml.dump(content))
    return file


def write_recipe(folder: Path, network: nn.Module, recipe: dict[str, Any]) -> Path:
    """The weights of a published run, under the names that parallel training saves."""
    state = with_recipe(network, recipe).state_dict()
    write_weights(folder / "G.pth", {f"module.{name}": value for name, value in state.items()})
    return folder / "G.pth"


def check_frames(lines: list[dict[str, Any]], published: list[Any]) -> None:
    """Compare the scores of every frame: clip, ``place/length``, PSNR, SSIM."""
    for line, (clip, place, psnr, ssim) in zip(lines, published, strict=True):
        assert (line["clip"], int(line["frame"][:4])) == (clip, int(place.split("/")[0]))
        assert line["psnr"] == pytest.approx(psnr, abs=1e-2)
        assert line["ssim"] == pytest.approx(ssim, abs=1e-4)


def check_clips(summary: dict[str, Any], score: str, line: str) -> None:
    """Compare the means that a line of validation says: of clips, and of each."""
    mean = re.search(r"# \w+: ([\d.e+-]+): ", line)
    assert mean is not None, line
    assert summary["mean_of_clips"][score] == pytest.approx(float(mean[1]), rel=1e-3)
    clips = re.findall(r"(\S+): ([\d.e+-]+)(?= |$)", line)
    assert clips
    for clip, value in clips:
        assert summary["per_clip"][clip][score] == pytest.approx(float(value), rel=1e-3)


# Option files

# Our setting of a published key, where their values are the same; of both papers.
SAME = {
    "data.dataroot_GT": "data.high", "data.dataroot_LQ": "data.low", "data.train_size": "data.size",
    "data.n_workers": "train.workers", "data.batch_size": "train.batch_size",
    "network_G.nf": "network.nf", "network_G.front_RBs": "network.front_blocks",
    "train.lr_G": "train.lr", "train.beta1": "train.beta1", "train.beta2": "train.beta2",
    "train.niter": "train.iterations", "train.warmup_iter": "train.schedule.warmup",
    "train.T_period": "train.schedule.periods", "train.restarts": "train.schedule.restarts",
    "train.restart_weights": "train.schedule.restart_weights",
    "train.eta_min": "train.schedule.eta_min", "train.pixel_criterion": "objective.criterion",
    "train.val_freq": "train.validate_every", "logger.print_freq": "run.log_every",
    "logger.save_checkpoint_freq": "train.save_every",
}  # fmt: skip


def option_files(paper: str, command: str) -> list[dict[str, Any]]:
    """The contents of a paper's published option files, of a reference set."""
    listed = reference_json("sdsd_stcd/options")
    return [content for name, content in listed.items() if name.startswith(f"{paper}/{command}/")]


def shipped_files(paper: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Command, name and content of the same files as they were published once, as texts."""
    found = []
    for file, lines in reference_json("published_lines")["option_files"].items():
        owner, _, command, name = file.split("/")
        content: dict[str, Any] = {}
        for place, text in lines:
            *parents, key = place.split("/")
            section = content
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = yaml.safe_load(text)
        found += [(command, name.removesuffix(".yml"), content)] * (owner == paper)
    return found


def check_options(
    content: dict[str, Any], command: str, settings: Any, note: str, own: dict[str, str]
) -> list[str]:
    """Assert that settings say what a file says, but for the keys that a note calls idle; these."""
    names, idle = SAME | own, note.split(": ")[-1].split(", ")
    for key, value in _leaves({**content, "data": content["datasets"][command]}):
        if key in names and key.replace("data.", f"datasets.{command}.") not in idle:
            ours = attrgetter(names[key])(settings)
            wanted = tuple(value) if isinstance(value, list) else value
            assert (str(ours) if isinstance(ours, Path) else ours) == wanted, key
    assert (settings.run.name if command == "train" else settings.name) == content["name"]
    return idle


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
