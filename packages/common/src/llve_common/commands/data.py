"""The command ``data`` of papers that learn from SDSD: check, convert, and make one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from llve_common.commands.terminal import console, progress_bar
from llve_common.data.sdsd.splits import TEST_CLIPS, Split
from llve_common.errors import ConfigError, DataError, MediaError
from llve_common.report.tables import plain_table

_SHOWN = 20

Light = Literal["neutral", "coloured", "dim", "varied"]
"""The names in :data:`llve_common.data.sensor.PRESETS`."""


def data_app() -> typer.Typer:
    """The command group."""
    app = typer.Typer(no_args_is_help=True, help="Check, convert or make a data set.")

    @app.command()
    def check(
        root: Annotated[
            Path, typer.Argument(help="The folder that holds GT and input, or high and low.")
        ],
        subset: Annotated[
            Split | None,
            typer.Option(help="Split all of whose test clips are needed.", show_default="none"),
        ] = None,
    ) -> None:
        """Look at every file and list everything that is missing or does not fit."""
        from llve_common.data.sdsd.inspection import inspect_clips
        from llve_common.data.sdsd.layout import published_split

        with progress_bar("checking", "clips") as advance:
            names = TEST_CLIPS[subset or published_split(root)]
            found = inspect_clips(root, names, needed=subset is not None, watch=advance)
        rows = []
        for clip in found.clips:
            size = "-" if clip.size is None else f"{clip.size[1]}x{clip.size[0]}"
            rows.append((clip.name, "test" if clip.test else "training", clip.frames, size))
        columns = ("clip", "for", "frames", "size")
        console.print(plain_table(str(root), columns, rows).rich())
        tested = sum(clip.test for clip in found.clips)
        of = f" (of {len(names)} published ones)" if tested else ""
        console.print(f"{len(rows) - tested} clips for training, {tested} for the test{of}")
        if found.faults:
            said = list(found.faults[:_SHOWN])
            if len(found.faults) > _SHOWN:
                said.append(f"and {len(found.faults) - _SHOWN} more")
            what = f"{len(found.faults)} things are missing or do not fit"
            raise DataError(what, where=root, got="".join(f"\n- {each}" for each in said))
        console.print("nothing is missing")

    @app.command()
    def convert(
        source: Annotated[Path, typer.Argument(help="A data set in images, such as indoor_png.")],
        target: Annotated[
            Path | None,
            typer.Argument(help="A folder to write.", show_default="indoor_np beside it"),
        ] = None,
        size: Annotated[
            str | None,
            typer.Option(help="Resize to WIDTHxHEIGHT, as training would.", show_default="no"),
        ] = None,
    ) -> None:
        """Write every image as a .npy file, which is read many times faster.

        Files that are there already are left as they are, so that it can be interrupted.
        """
        wanted = None if size is None else _size(size)
        folder = _beside(source) if target is None else target
        from llve_common.clips.clip import read_frame
        from llve_common.clips.folders import list_images
        from llve_common.enhance.jobs import naming_faults
        from llve_common.io.images import write_image

        images = [path for path in list_images(source, recursive=True) if path.suffix != ".npy"]
        if not images:
            raise DataError("the folder holds no image but .npy files", where=source)
        files = [folder / path.relative_to(source).with_suffix(".npy") for path in images]
        naming_faults(list(zip(images, files, strict=True)))
        written = 0
        with progress_bar("converting", "frames") as advance:
            for done, (path, file) in enumerate(zip(images, files, strict=True), 1):
                if not _is_whole(file):
                    write_image(file, read_frame(path, wanted))
                    written += 1
                advance(done, len(images))
        kept = len(images) - written
        console.print(f"wrote {written} frames to {folder}; {kept} were there", soft_wrap=True)

    @app.command()
    def synthetic(
        folder: Annotated[Path, typer.Argument(help="A new folder, for indoor_np.")],
        clips: Annotated[int, typer.Option(min=1, max=6, help="Clips from each photograph.")] = 2,
        frames: Annotated[int, typer.Option(min=5, help="Frames in a clip.")] = 8,
        height: Annotated[int, typer.Option(min=16, help="Height of a frame, in pixels.")] = 96,
        width: Annotated[int, typer.Option(min=16, help="Width of a frame, in pixels.")] = 160,
        seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
        png: Annotated[bool, typer.Option(help="Write images, not .npy files.")] = False,
    ) -> None:
        """Make the embedded low/normal-light set in the layout of SDSD indoor."""
        from llve_common.data.synthetic import write_clip_set

        kind, suffix = ("png", ".png") if png else ("np", ".npy")
        root = write_clip_set(
            folder / f"indoor_{kind}",
            suffix=suffix, clips=clips, frames=frames, height=height, width=width, seed=seed,
        )  # fmt: skip
        console.print(f"made {root}: GT and input, {frames} frames in a clip", soft_wrap=True)

    @app.command()
    def photographs(
        folder: Annotated[Path, typer.Argument(help="Photographs, with subfolders.")],
        out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for the set.")],
        clips: Annotated[int, typer.Option(min=1, help="Clips from each photograph.")] = 1,
        frames: Annotated[int, typer.Option(min=1, help="Frames in a clip.")] = 7,
        height: Annotated[int, typer.Option(min=16, help="Height of a frame, in pixels.")] = 128,
        width: Annotated[int, typer.Option(min=16, help="Width of a frame, in pixels.")] = 192,
        light: Annotated[Light, typer.Option(help="Ranges of the low light.")] = "neutral",
        layout: Annotated[
            Literal["clips", "images"],
            typer.Option(help="clips: GT and input (SDSD's); images: train and test."),
        ] = "clips",
        seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
        workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes.")] = 1,
    ) -> None:
        """Make a low/normal-light set of photographs, as a moving camera would see them."""
        from llve_common.data.photographs import write_photograph_set
        from llve_common.data.sensor import PRESETS

        with progress_bar("making", "clips") as advance:
            write_photograph_set(
                folder, out, layout=layout, clips=clips, frames=frames, size=(height, width),
                ranges=PRESETS[light], seed=seed, workers=workers, watch=advance,
            )  # fmt: skip
        console.print(f"made {out}, {frames} frames in a clip", soft_wrap=True)

    return app


def _is_whole(file: Path) -> bool:
    """Whether a frame is there that an earlier run wrote whole."""
    from llve_common.io.images import image_size

    try:
        return file.exists() and bool(image_size(file))
    except MediaError:
        return False


def _beside(source: Path) -> Path:
    from llve_common.clips.folders import named

    source = named(source)
    name = source.name
    if not name.endswith("_png"):
        raise ConfigError("say where to write", where=source, mend="give a second folder")
    return source.with_name(f"{name.removesuffix('_png')}_np")


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError("not a size", where="--size", got=text, expected="such as 960x512")
    return int(width), int(height)
