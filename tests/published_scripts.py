"""SDSD's and STCD's published scripts: their option files, and what they printed on the set."""

import json
import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import typer
import yaml
from recipes import with_recipe, write_sdsd_set
from torch import nn

from llve_common.config import leaves
from llve_common.metrics.cost import parameter_count
from llve_common.testing.conformance import run_command
from llve_common.testing.reference import reference_json
from llve_common.weights.files import write_weights

# What they printed


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


def check_clips(summary: dict[str, Any], score: str, line: str) -> None:
    """Compare the means that a line of validation says: of clips, and of each."""
    mean = re.search(r"# \w+: ([\d.e+-]+): ", line)
    assert mean is not None, line
    assert summary["mean_of_clips"][score] == pytest.approx(float(mean[1]), rel=1e-3)
    clips = re.findall(r"(\S+): ([\d.e+-]+)(?= |$)", line)
    assert clips
    for clip, value in clips:
        assert summary["per_clip"][clip][score] == pytest.approx(float(value), rel=1e-3)


class PublishedRuns:
    """What the scripts did on the small set; subclass as ``TestPublishedRuns``."""

    paper: ClassVar[str]
    app: ClassVar[typer.Typer]
    tested: ClassVar[str]
    """The name of the published test, whose setup gives the network's arguments and the clips."""

    def network(self, arguments: dict[str, Any]) -> nn.Module:
        """The network of published arguments."""
        raise NotImplementedError

    def training_options(self) -> dict[str, dict[str, Any]]:
        """The options of the published training that its output tells, by section."""
        run, pictures = self.listed["train_none"], self.with_pictures["files"]
        return {
            "train": {
                "niter": len(logged(run["log"])),
                "val_freq": numbers(r"val_images/(\d+)\.png", pictures)[0],
                "manual_seed": numbers(r"Random seed: (\d+)", run["log"])[0],
            },
            "logger": {"save_checkpoint_freq": numbers(r"(\d+)_G\.pth", run["files"])[0]},
        }

    @property
    def listed(self) -> dict[str, Any]:
        """All that is known of the runs."""
        return reference_json(f"sdsd_stcd/e2e_{self.paper}")

    @property
    def batch_sizes(self) -> list[int]:
        """The sizes of training's batch that give the logged iterations of an epoch."""
        log = self.listed["train_none"]["log"]
        [images], [steps] = numbers(r"train images: (\d+)", log), numbers(r", iters: (\d+)", log)
        return [size for size in range(1, images + 1) if -(-images // size) == steps]

    @property
    def with_pictures(self) -> dict[str, Any]:
        """The training that wrote pictures of its validation."""
        found: dict[str, Any] = self.listed["train_distributed_one_process_with_val"]
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        dataset = reference_json(f"sdsd_stcd/data_{cls.paper}")["dataset"]
        return write_sdsd_set(tmp_path_factory.mktemp("set"), dataset)

    @pytest.fixture(scope="class")
    @classmethod
    def weights(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The weights of the test, under the names that parallel training saves."""
        self, file = cls(), tmp_path_factory.mktemp("weights") / "G.pth"
        recipe = self.listed[f"{self.tested}_setup"]["weights"]
        state = with_recipe(self.network(recipe["arguments"]), recipe).state_dict()
        write_weights(file, {f"module.{name}": value for name, value in state.items()})
        return file

    @pytest.fixture
    def option_file(self, tmp_path: Path, root: Path, weights: Path) -> Callable[[str], Path]:
        """Writes the published option file of a command, with the settings of the published run."""

        def write(command: str) -> Path:
            setup = self.listed[f"{self.tested}_setup"]
            content = deepcopy(option_files(self.paper, command)[0])
            content |= {"name": "tiny"}
            content["path"] |= {"root": str(tmp_path), "pretrain_model_G": str(weights)}
            content["network_G"] |= setup["weights"]["arguments"]
            clips = setup["testing_dir"]
            if command == "train":
                [said] = [e for e in self.listed["train_none"]["stdout"] if "testing_dir" in e]
                clips = re.findall("'([^']+)'", said)
                # The size of the crop is told nowhere.
                small = {"GT_size": 16, "LQ_size": 16, "n_workers": 0}
                content["datasets"]["train"] |= small | {"batch_size": self.batch_sizes[0]}
                content["logger"] |= {"print_freq": 1}
                for section, values in self.training_options().items():
                    content[section] |= values
            for data in content["datasets"].values():
                data |= {"dataroot_GT": str(root / "GT"), "dataroot_LQ": str(root / "input")}
                data |= {"train_size": setup["train_size"], "testing_dir": ",".join(clips)}
            file = tmp_path / f"{command}.yml"
            file.write_text(yaml.dump(content))
            return file

        return write

    def run(self, *words: object, fails: bool = False) -> str:
        """Run our command and return what it printed."""
        return run_command(self.app, *words, fails=fails)

    def check_scores(self, folder: Path) -> dict[str, Any]:
        """Check the scores of every frame, and give the summary."""
        lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
        for line, published in zip(lines, self.listed[f"{self.tested}_frames"], strict=True):
            clip, place, psnr, ssim = published
            assert (line["clip"], int(line["frame"][:4])) == (clip, int(place.split("/")[0]))
            assert line["psnr"] == pytest.approx(psnr, abs=1e-2)
            assert line["ssim"] == pytest.approx(ssim, abs=1e-4)
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        return summary

    def check_damaged(self, folder: Path, weights: Path, file: Path, missing: str) -> None:
        """Mended: without ``strict_load``, missing and unknown keys went unsaid."""
        state = torch.load(weights, weights_only=True)
        state.pop(f"module.{missing}")
        write_weights(folder / "damaged.pth", state | {"extra.key": torch.zeros(1)})
        output = self.run("test", "-opt", file, "--model", folder / "damaged.pth", fails=True)
        assert missing in output
        assert "extra.key" in output

    def check_training(self, folder: Path) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Check a run's files, rates and log; the losses of each iteration, ours and theirs."""
        run, log = self.listed["train_none"], (folder / "train.log").read_text()
        written = map(json.loads, (folder / "losses.jsonl").read_text().splitlines())
        lines = [line for line in written if "losses" in line]
        losses, last = [], len(logged(run["log"]))
        for line, (iteration, rates, theirs) in zip(lines, logged(run["log"]), strict=True):
            assert line["iteration"] == iteration
            assert line["lr"] == pytest.approx(rates, rel=1e-3)
            losses.append((line["losses"], theirs))
        [parameters] = [line for line in run["log"] if "with parameters" in line]
        arguments = self.listed[f"{self.tested}_setup"]["weights"]["arguments"]
        assert f"{parameter_count(self.network(arguments)):,}" == parameters.split()[-1]
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*_*.pth")}
        models = [path for path in run["files"] if "/models/" in path]
        wanted = {path.removeprefix("experiments/tiny/") for path in models}
        # Ours saves and validates after the last iteration too, whether or not it is due then.
        assert found == wanted | {f"models/{last}_G.pth"}
        wanted = {path for path in self.with_pictures["files"] if path.startswith("val_images/")}
        wanted.add(f"val_images/{last:06d}.png")
        assert {f"val_images/{path.name}" for path in (folder / "val_images").iterdir()} == wanted
        assert log.count("without effect here") == 1
        assert len(re.findall(r"iteration \d+, validation: psnr", log)) == len(wanted)
        return losses


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
    for key, value in leaves({**content, "data": content["datasets"][command]}):
        if key in names and key.replace("data.", f"datasets.{command}.") not in idle:
            ours = attrgetter(names[key])(settings)
            wanted = tuple(value) if isinstance(value, list) else value
            assert (str(ours) if isinstance(ours, Path) else ours) == wanted, key
    assert (settings.run.name if command == "train" else settings.name) == content["name"]
    return idle
