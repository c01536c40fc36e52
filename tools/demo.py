"""The demo: from nothing to a page of results, by the commands that a user would type.

It makes the embedded set, trains SCI on it, tests it, and enhances a photograph with the weights
just trained and with the bundled ones. The page holds each command beside what it made.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from llve_common.config import as_yaml, load_settings
from llve_common.io.images import read_image
from llve_common.report.page import Group, Panel, Section, write_page
from llve_common.report.tables import Table
from llve_sci.config import TrainSettings

SCRIPTS = Path(sys.executable).parent


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="made anew")
    parser.add_argument("--epochs", type=int, help="of training; the default is the settings'")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if out.exists() and not (out / "index.html").is_file() and any(out.iterdir()):
        sys.exit(f"error: {out} holds something other than a demo; give another --out")
    shutil.rmtree(out, ignore_errors=True)

    made = run(f"python -m llve_common synthetic {out}/synthetic")
    epochs = f" --epochs {arguments.epochs}" if arguments.epochs else ""
    trained = run(
        f"sci train --config train/synthetic --data_path {out}/synthetic/train/low "
        f"--save {out}/runs{epochs}"
    )
    folder = next((out / "runs").iterdir())
    weights = max(folder.glob("model_epochs/*.pt"), key=lambda file: file.stat().st_mtime)
    tested = run(
        f"sci test --data_path {out}/synthetic/test/low --target-path {out}/synthetic/test/high "
        f"--model {weights} --save_path {out}/tested"
    )
    photograph = run(f"python -m llve_common photograph {out}/photograph")
    dark = out / "photograph" / "astronaut-dark.png"
    ours = run(f"sci enhance {dark} -o {out}/enhanced/trained.png --weights {weights}")
    bundled = run(f"sci enhance {dark} -o {out}/enhanced/bundled.png")

    page = out / "index.html"
    write_page(
        page,
        "SCI, from data to result",
        "Everything on this page was made by the commands it shows, on this machine. The set is "
        "synthetic and small: its figures show that the software works, not how good SCI is.",
        [
            training_section([made, trained], folder),
            test_section(tested, out),
            photograph_section([photograph, ours, bundled], out),
        ],
    )
    print(f"\nThe page is at {page.resolve()}")


def run(command: str) -> str:
    """Run a command of this environment, show it, and return it."""
    print(f"\n$ {command}", flush=True)
    program, *words = shlex.split(command)
    subprocess.run([SCRIPTS / program, *words], check=True)
    return command


def training_section(commands: list[str], folder: Path) -> Section:
    """The loss curve, over epochs so that the images of one pass are averaged."""
    settings = load_settings(TrainSettings, folder / "settings.yml")
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "losses" in line]
    iterations = [line["iteration"] for line in lines]
    losses = {
        name: smooth([line["losses"][name] for line in lines])
        for name in ("total", "smoothness", "fidelity")
    }
    return Section(
        heading="Training",
        text=f"SCI's published training, shortened: {settings.train.epochs} epochs, "
        f"{iterations[-1]} updates, in {lines[-1]['seconds']:.0f} s, at a learning rate of "
        f"{settings.train.lr:g} instead of 1000 epochs at 0.0003. It needs no ground truth.",
        commands=commands,
        plots=[loss_curve(iterations, losses)],
        tables=[setting_table(as_yaml(settings))],
    )


def loss_curve(iterations: list[int], losses: dict[str, list[float]]) -> str:
    """The losses as SVG text."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "llve", "font.size": 9}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for name, values in losses.items():
            axes.plot(iterations, values, label=name, linewidth=1.4)
        axes.legend()
        axes.set(title="Loss", xlabel="update", ylabel="loss, running mean of 60 updates")
        axes.grid(alpha=0.3)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def smooth(values: list[float], length: int = 6) -> list[float]:
    """A running mean over up to ``length`` logged values."""
    spans = [values[max(0, end - length) : end] for end in range(1, len(values) + 1)]
    return [sum(span) / len(span) for span in spans]


def setting_table(text: str) -> Table:
    """The settings of the run that a reader would ask for."""
    wanted = ("lr", "weight_decay", "clip_norm", "batch_size", "seed", "stages", "ycbcr")
    lines = [line.strip().partition(": ") for line in text.splitlines()]
    rows = tuple((name, value) for name, _, value in lines if name in wanted)
    return Table("Settings", ("setting", "value"), rows)


def test_section(command: str, out: Path) -> Section:
    """The means, and one frame of each clip."""
    summary: dict[str, Any] = json.loads((out / "tested" / "summary.json").read_text())
    means = summary["mean_of_frames"]
    table = Table(
        f"Mean of {summary['frames']} frames (SSIM: {summary['ssim']})",
        ("", "before", "after"),
        (
            ("PSNR, dB", f"{means['input_psnr']:.3f}", f"{means['psnr']:.3f}"),
            ("SSIM", f"{means['input_ssim']:.4f}", f"{means['ssim']:.4f}"),
        ),
    )
    frames = ("coffee0_0000.png", "stereo_motorcycle0_0000.png")
    test = out / "synthetic" / "test"
    groups = [
        group(
            f"test frame {frame}",
            test / "low" / frame,
            {"enhanced": out / "tested" / frame, "original": test / "high" / frame},
        )
        for frame in frames
    ]
    return Section(
        heading="Test",
        text="Photographs that the training did not see, against their normal-light originals.",
        commands=[command],
        tables=[table],
        groups=groups,
    )


def photograph_section(commands: list[str], out: Path) -> Section:
    """A photograph with both weights, and its original."""
    dark, enhanced = out / "photograph" / "astronaut-dark.png", out / "enhanced"
    return Section(
        heading="A photograph",
        text="Eileen Collins (NASA, public domain), which scikit-image ships. It was darkened by "
        "simulation: it is not a photograph taken in low light. Neither set of weights saw it. The "
        "bundled weights are llve's own, of other photographs. Single precision makes SCI's "
        "training chaotic, so another number of threads gives other weights.",
        commands=commands,
        groups=[
            group(
                "the photograph",
                dark,
                {
                    "with the weights just trained": enhanced / "trained.png",
                    "with the bundled weights": enhanced / "bundled.png",
                    "as it was taken": out / "photograph" / "astronaut.png",
                },
            )
        ],
    )


def group(caption: str, dark: Path, others: dict[str, Path]) -> Group:
    """An image file, and others by their labels, each under a handle that uncovers it."""
    panels = [Panel(label, read_image(file).pixels) for label, file in others.items()]
    return Group(caption, read_image(dark).pixels, "dark", panels)


if __name__ == "__main__":
    main()
