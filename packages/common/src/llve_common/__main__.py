"""``python -m llve_common``: what belongs to no single paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llve_common.cli import Commands, console
from llve_common.data.synthetic import write_image_set

app = typer.Typer(cls=Commands, no_args_is_help=True, help="Tools that all papers share.")


@app.callback()
def main() -> None:
    """Keep the name of a single command in the help."""


@app.command()
def synthetic(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips from each photograph.")] = 2,
    frames: Annotated[int, typer.Option(min=1, help="Frames in a clip.")] = 8,
    height: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 120,
    width: Annotated[int, typer.Option(min=16, help="Of a frame, in pixels.")] = 160,
    seed: Annotated[int, typer.Option(min=0, help="Every pixel follows from it.")] = 0,
) -> None:
    """Make the embedded low/normal-light set from the photographs that scikit-image ships."""
    write_image_set(folder, clips=clips, frames=frames, height=height, width=width, seed=seed)
    console.print(f"made {folder}: train and test, each with low and high")


if __name__ == "__main__":
    app(prog_name="python -m llve_common")
