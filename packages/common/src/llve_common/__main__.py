"""``python -m llve_common``: what belongs to no single paper."""

if __name__ == "__main__":
    from llve_common import program

    program("llve_common", "python -m llve_common")()

from pathlib import Path
from typing import Annotated, Literal

import typer

from llve_common import __version__
from llve_common.commands.compare import compare
from llve_common.commands.data import data_app
from llve_common.commands.enhance import enhance_command, recommended_paper
from llve_common.commands.protocols import protocols
from llve_common.commands.score import score
from llve_common.commands.terminal import SHORT_HELP, Commands, add_version, console
from llve_common.commands.weights import add_fetch

app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Tools that all papers share.",
    pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=SHORT_HELP,
)  # fmt: skip
add_version(app, f"llve-common {__version__}")
app.command("enhance")(enhance_command(recommended_paper))
app.command()(compare)
app.command()(score)
app.command()(protocols)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check what is installed and works, and say how to fix the rest; 1 if anything is broken."""
    from llve_common.commands.doctor import report

    report(as_json=as_json)


app.add_typer(data_app(), name="data")
shared = typer.Typer(no_args_is_help=True, help="Weights of networks that several papers use.")
add_fetch(shared, None)
app.add_typer(shared, name="weights")


@app.command()
def synthetic(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips from each photograph.")] = 2,
    frames: Annotated[int, typer.Option(min=1, help="Frames in a clip.")] = 6,
    height: Annotated[int, typer.Option(min=16, help="Height of a frame, in pixels.")] = 96,
    width: Annotated[int, typer.Option(min=16, help="Width of a frame, in pixels.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    layout: Annotated[
        Literal["images", "clips"],
        typer.Option(help="clips: GT and input, a folder of .npy frames for each clip (SDSD's)."),
    ] = "images",
) -> None:
    """Make the embedded low/normal-light set from the photographs that scikit-image ships."""
    from llve_common.data.synthetic import write_clip_set, write_image_set

    write = write_image_set if layout == "images" else write_clip_set
    write(folder, clips=clips, frames=frames, height=height, width=width, seed=seed)
    inside = "train and test, each with low and high" if layout == "images" else "GT and input"
    console.print(f"made {folder}: {inside}")


@app.command()
def photograph(
    folder: Annotated[Path, typer.Argument(help="A folder for the two files.")],
    name: Annotated[str, typer.Option(help="A colour image of skimage.data.")] = "astronaut",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
) -> None:
    """Write a photograph that scikit-image ships, as it is and darkened by simulation."""
    from llve_common.data.synthetic import write_dark_photograph

    normal, dark = write_dark_photograph(folder, name, seed)
    console.print(f"made {normal} and {dark}", soft_wrap=True)
