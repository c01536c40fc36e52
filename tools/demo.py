"""The demo: from nothing to a page of results, by the commands that a user would type.

It darkens a photograph and a clip, and enhances both by all five papers with the bundled weights.
Then it trains SCI on the embedded set, tests it, and enhances the photograph with these weights,
too. The page opens with the pictures, and holds each command beside what it made.
"""

import argparse
import io
import json
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from llve_common.config import as_yaml, load_settings
from llve_common.io.images import read_image
from llve_common.machine.folders import shown_command
from llve_common.report.page import HANDLE, Group, Panel, Section, write_page
from llve_common.report.tables import Table
from llve_common.weights.network import bundled_weights
from llve_sci.config import TrainSettings

SCRIPTS = Path(sys.executable).parent
# The first is what the page opens with: its weights are for photographs and for clips.
PAPERS = ("stcd", "sci", "sgz", "sdsd", "tcenet")
CLIP = "pair13"
"""A clip of the embedded set that no training on that set looks at."""

MADE = {
    "photograph", "clips", "enhanced", "sci.html", "synthetic", "runs", "tested", "index.html",
}  # fmt: skip


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="made anew")
    parser.add_argument("--epochs", type=int, help="of training; the default is the settings'")
    arguments = parser.parse_args()
    out: Path = arguments.out
    held = {each.name for each in out.iterdir()} if out.is_dir() else set()
    if out.is_file() or (held and not {"index.html"} <= held <= MADE):
        sys.exit(f"error: {out} holds something other than a demo; give another --out")
    shutil.rmtree(out, ignore_errors=True)

    dark = out / "photograph" / "astronaut-dark.png"
    made = [
        run(f"python -m llve_common photograph {out}/photograph"),
        run(
            f"python -m llve_common synthetic {out}/clips --layout clips --clips 1 --frames 8 "
            "--height 256 --width 448"
        ),
    ]
    made += [
        run(f"{paper} enhance {dark} {out}/clips/input/{CLIP} -o {out}/enhanced/{paper}")
        for paper in PAPERS
    ]
    live = run(f"sci page -o {out}/sci.html")
    set_made = run(f"python -m llve_common synthetic {out}/synthetic")
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
    ours = run(f"sci enhance {dark} -o {out}/enhanced/trained.png --weights {weights}")

    page = out / "index.html"
    write_page(
        page,
        "Five papers at work",
        "Everything here was made by the commands below. The light is simulated and the sets are "
        "small: the page shows that the software works, not how good a paper is.",
        [
            pictures_section(out),
            Section(
                "In the browser",
                "The file sci.html beside this page enhances your own photographs, videos and your "
                "camera's picture, without sending them anywhere.",
                [live],
            ),
            Section("How the pictures were made", commands=[*made, ours]),
            training_section([set_made, trained], folder),
            test_section(tested, out),
        ],
    )
    print(f"\nThe page is at {page.resolve()}")


def run(command: str) -> str:
    """Run a command of this environment, show it, and return it as the page shows it."""
    print(f"\n$ {command}", flush=True)
    program, *words = shlex.split(command)
    subprocess.run([SCRIPTS / program, *words], check=True)
    return shown_command(command)


def pictures_section(out: Path) -> Section:
    """The photograph and the clip by all papers, each beside what its weights are for."""
    enhanced, photograph = out / "enhanced", out / "photograph"
    still = [panel("dark", photograph / "astronaut-dark.png")]
    still += [panel(each, enhanced / each / "astronaut-dark.png") for each in PAPERS]
    still.append(panel("sci, trained here", enhanced / "trained.png"))
    still.append(panel("as it was taken", photograph / "astronaut.png"))
    moving = [panel("dark", out / "clips" / "input" / CLIP)]
    moving += [panel(each, enhanced / each / CLIP) for each in PAPERS]
    moving.append(panel("as it was taken", out / "clips" / "GT" / CLIP))
    frames = [f"frame {number}" for number in range(len(moving[0].frames))]
    return Section(
        "A photograph and a clip",
        f"{HANDLE} "
        "Eileen Collins (NASA, public domain) and a cup of coffee, from photographs that "
        "scikit-image ships, darkened by simulation. No weights here were trained on either.",
        groups=[Group("The photograph", still), Group("The clip", moving, frames)],
    )


def panel(label: str, source: Path) -> Panel:
    """A picture, or the frames in a folder, and what a paper's bundled weights are for."""
    sources = sorted(source.iterdir()) if source.is_dir() else [source]
    caption = purpose(label) if label in PAPERS else ""
    return Panel(label, [read_image(each).pixels for each in sources], caption)


def purpose(paper: str) -> str:
    """What a paper's bundled weights are for, in their own words, without who made them."""
    about = import_module(f"llve_{paper}.config").ABOUT
    record = bundled_weights(about).with_suffix(".json")
    return str(json.loads(record.read_text("utf-8"))["purpose"]).removeprefix("made by llve ")


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
    test = out / "synthetic" / "test"
    groups = [
        Group(
            f"test frame {frame}",
            [
                panel("dark", test / "low" / frame),
                panel("enhanced", out / "tested" / frame),
                panel("original", test / "high" / frame),
            ],
        )
        for frame in ("coffee0_0000.png", "stereo_motorcycle0_0000.png")
    ]
    return Section(
        heading="Test",
        text="Photographs that the training did not see, against their normal-light originals.",
        commands=[command],
        tables=[table],
        groups=groups,
    )


if __name__ == "__main__":
    main()
