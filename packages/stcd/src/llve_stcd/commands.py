"""The commands that STCD alone has: ``match`` and ``decompose``."""

from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import Device, Weights, console
from llve_common.errors import DataError
from llve_stcd.config import MatcherKind, Place


def match(
    first: Annotated[Path, typer.Argument(help="An image in normal light.")],
    second: Annotated[Path, typer.Argument(help="Another image of the scene.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Image.", show_default="<first>-matches.png"),
    ] = None,
    matcher: Annotated[MatcherKind, typer.Option(help="dkm and dkm-package need weights.")] = "dis",
    weights: Annotated[
        Path | None, typer.Option(help="DKMv3_indoor.pth or DKMv3_outdoor.pth.")
    ] = None,
    place: Annotated[Place, typer.Option(help="Kind of DKM's weights.")] = "indoor",
    device: Device = None,
) -> None:
    """Match two images as training does, and draw the warp and its certainty.

    From top to bottom: the images at 640x480, each one's matches in the other, the way to them
    (hue: direction, saturation: length), and their certainty.
    """
    from llve_common.io.images import read_image, to_tensor, write_image
    from llve_common.machine.device import choose_device
    from llve_stcd.matchers import make_matcher, matcher_images
    from llve_stcd.picture import matches_picture

    written = _beside(first, second, output, "matches")
    find, name = make_matcher(matcher, weights, place, choose_device(device or "auto"))
    images = [matcher_images(to_tensor(read_image(path).pixels)[None]) for path in (first, second)]
    matches = find(*images)
    write_image(written, matches_picture(images[0][0], images[1][0], matches))
    share = float((matches.certainty > 0.5).float().mean())
    console.print(f"matcher: {name}; {share:.1%} of the matches have a certainty above 0.5")
    console.print(f"wrote {written}", soft_wrap=True)


def decompose(
    first: Annotated[Path, typer.Argument(help="A frame in low light.")],
    second: Annotated[
        Path | None, typer.Argument(help="The frame after it.", show_default="the frame itself")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Image.", show_default="<first>-parts.png")
    ] = None,
    weights: Weights = None,
    device: Device = None,
) -> None:
    """Draw the parts that a frame is decomposed into.

    From left to right: the frame, its view-independent part, its shading, and their product, which
    is the enhanced frame.
    """
    import torch

    from llve_common.io.images import read_image, to_tensor, write_image
    from llve_common.machine.device import choose_device
    from llve_common.weights.network import load_model
    from llve_stcd.paper import PAPER, decomposed
    from llve_stcd.picture import decomposition_picture

    second = first if second is None else second
    written = _beside(first, second, output, "parts")
    model = load_model(PAPER, weights, choose_device(device or "auto"))
    pair = [to_tensor(read_image(path).pixels)[None].to(model.device) for path in (first, second)]
    if pair[0].shape != pair[1].shape:
        raise DataError("the two frames differ in size", where=second, expected=f"that of {first}")
    with torch.inference_mode():
        found = decomposed(model.network, *pair)
    write_image(written, decomposition_picture(pair[0], found))
    console.print(f"weights: {model.weights}", soft_wrap=True)
    console.print(f"wrote {written}", soft_wrap=True)


def _beside(first: Path, second: Path, output: Path | None, what: str) -> Path:
    """The file to write, which may be neither of those that are read."""
    from llve_common.enhance.jobs import naming_faults

    written = first.with_name(f"{first.stem}-{what}.png") if output is None else output
    naming_faults([(first, written)], kept=[second])
    return written
