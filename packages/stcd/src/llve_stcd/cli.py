"""The command ``stcd``. The published option files work as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from llve_common.commands.data import data_app
from llve_common.commands.terminal import (
    ClipsPath,
    Config,
    Device,
    Model,
    OptionFile,
    Overrides,
    Resume,
    SavePath,
    console,
    paper_app,
    run_test,
    run_training,
    settings_to_test,
)
from llve_common.data.clip import read_frame
from llve_common.enhance.frames import naming_faults
from llve_common.errors import DataError
from llve_common.evaluate.test import NO_PICTURES, Pictures, files_below
from llve_common.io.images import to_tensor, write_image
from llve_common.machine.device import choose_device
from llve_common.paper.contract import Clip
from llve_common.paper.published_options import read_options
from llve_common.report.page import Section
from llve_common.weights.network import load_network
from llve_stcd.config import TEST_OPTIONS, TRAIN_OPTIONS, TestSettings
from llve_stcd.data import test_clips
from llve_stcd.dkm.network import Place
from llve_stcd.matchers import MatcherKind, make_matcher, matcher_images
from llve_stcd.paper import PAPER, decomposed
from llve_stcd.picture import decomposition_group, decomposition_picture, matches_picture

app = paper_app(PAPER)
app.add_typer(data_app(), name="data")


@app.command()
def train(
    overrides: Overrides = None,
    opt: OptionFile = None,
    config: Config = None,
    data_path: ClipsPath = None,
    save: Annotated[
        Path | None, typer.Option(help="Where run folders go.", show_default="experiments")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the run's folder.", show_default="with the time")
    ] = None,
    device: Device = None,
    resume: Resume = None,
) -> None:
    """Train on pairs of clips in low and in normal light."""
    options = {
        "data.root": data_path,
        "run.save": save,
        "run.name": name,
        "run.device": device,
    }
    published = None if opt is None else read_options(opt, TRAIN_OPTIONS)
    run_training(PAPER, "train", config, overrides, options, resume, published=published)


@app.command()
def test(
    overrides: Overrides = None,
    opt: OptionFile = None,
    config: Config = None,
    data_path: ClipsPath = None,
    model: Model = None,
    save_path: SavePath = None,
    save_images: Annotated[
        bool | None,
        typer.Option(
            "--save-images/--no-save-images",
            help="Write enhanced frames, ground truth and input too.",
            show_default="save-images",
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Score the test's clips: the first 30 frames of each, means of clips and of frames."""
    options = {
        "data.root": data_path,
        "weights": model,
        "save": save_path,
        "save_images": save_images,
        "device": device,
    }
    published = None if opt is None else read_options(opt, TEST_OPTIONS)
    settings = settings_to_test(PAPER, TestSettings, config, overrides, options, published)
    clips = test_clips(settings.data, settings.data.first)
    folder = settings.save if settings.name is None else settings.save / settings.name
    images = folder / "images"
    pictures = Pictures(
        enhanced=files_below(images / "output"),
        input=files_below(images / "input"),
        target=files_below(images / "GT"),
    )
    run_test(
        PAPER,
        settings,
        clips,
        pictures if settings.save_images else NO_PICTURES,
        folder=folder,
        details=lambda network: [decomposition_section(network, clips[0])],
    )


def decomposition_section(network: nn.Module, clip: Clip) -> Section:
    """The part of the test's page that shows what a clip's middle frame is taken apart into."""
    device = next(network.parameters()).device
    middle = len(clip.frames) // 2
    pair = [
        to_tensor(read_frame(path, clip.size))[None].to(device)
        for path in (clip.frames[middle], clip.frames[min(middle + 1, len(clip.frames) - 1)])
    ]
    with torch.inference_mode():
        found = decomposed(network, *pair)
    caption = f"{clip.name}, {clip.frames[middle].name}"
    return Section(
        "Decomposition",
        "A frame is its view-independent part times its shading.",
        groups=[decomposition_group(caption, pair[0], found)],
    )


@app.command()
def match(
    first: Annotated[Path, typer.Argument(help="An image in normal light.")],
    second: Annotated[Path, typer.Argument(help="Another one of the same scene.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", show_default="<first>-matches.png")
    ] = None,
    matcher: Annotated[MatcherKind, typer.Option(help="dkm and dkm-package need weights.")] = "dis",
    weights: Annotated[
        Path | None, typer.Option(help="DKMv3_indoor.pth or DKMv3_outdoor.pth.")
    ] = None,
    place: Annotated[Place, typer.Option(help="Which of the two the weights are.")] = "indoor",
    device: Device = None,
) -> None:
    """Match two images as training would, and draw the warp and its certainty.

    From top to bottom: the images at 640x480, each one's matches in the other, the way to them
    (hue: direction, saturation: length), and their certainty.
    """
    written = _beside(first, second, output, "matches")
    find, name = make_matcher(matcher, weights, place, choose_device(device or "auto"))
    images = [matcher_images(to_tensor(read_frame(path))[None]) for path in (first, second)]
    matches = find(*images)
    write_image(written, matches_picture(images[0][0], images[1][0], matches))
    share = float((matches.certainty > 0.5).float().mean())
    console.print(f"matcher: {name}; {share:.1%} of the matches have a certainty above 0.5")
    console.print(f"wrote {written}", soft_wrap=True)


@app.command()
def decompose(
    first: Annotated[Path, typer.Argument(help="A frame in low light.")],
    second: Annotated[
        Path | None, typer.Argument(help="The frame after it.", show_default="the frame itself")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", show_default="<first>-parts.png")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A weights file.", show_default="the bundled one")
    ] = None,
    device: Device = None,
) -> None:
    """Draw what a frame is taken apart into.

    From left to right: the frame, its view-independent part, its shading, and their product, which
    is the enhanced frame.
    """
    second = first if second is None else second
    written = _beside(first, second, output, "parts")
    chosen = choose_device(device or "auto")
    network, loaded = load_network(PAPER, weights, chosen)
    pair = [to_tensor(read_frame(path))[None].to(chosen) for path in (first, second)]
    if pair[0].shape != pair[1].shape:
        raise DataError("the two frames differ in size", where=second, expected=f"that of {first}")
    with torch.inference_mode():
        found = decomposed(network, *pair)
    write_image(written, decomposition_picture(pair[0], found))
    console.print(f"weights: {loaded}", soft_wrap=True)
    console.print(f"wrote {written}", soft_wrap=True)


def _beside(first: Path, second: Path, output: Path | None, what: str) -> Path:
    """The file to write, which may be neither of those that are read."""
    written = first.with_name(f"{first.stem}-{what}.png") if output is None else output
    naming_faults([(first, written)], kept=[second])
    return written
