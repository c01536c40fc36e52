"""The command that SGZ alone has: ``video``, the published frames by way of a folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def video(
    choice: Annotated[
        Literal["V2I", "I2V"], typer.Option(help="V2I: video to images; I2V: images to video.")
    ],
    video_path: Annotated[
        Path, typer.Option("--video_path", help="The video; I2V keeps its times and sound.")
    ] = Path("demo/Movie/Ari.mp4"),
    image_lowlight_folder: Annotated[
        str, typer.Option("--image_lowlight_folder", help="V2I: files to write; %d: the number.")
    ] = "data/test_data/Frames/%d.jpg",
    image_folder: Annotated[
        Path, typer.Option("--image_folder", help="I2V: the enhanced frames.")
    ] = Path("data/test_output/Frames"),
    save_path: Annotated[Path, typer.Option("--save_path", help="I2V: the video to write.")] = Path(
        "demo/Movie/Res.mp4"
    ),
) -> None:
    """Split a video into frames or join frames, as published; 'sgz enhance' needs no such step."""
    from llve_sgz.video import to_images, to_video

    if choice == "V2I":
        to_images(video_path, image_lowlight_folder)
    else:
        to_video(image_folder, video_path, save_path)
