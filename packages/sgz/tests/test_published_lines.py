"""The published command lines of SGZ."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from published import PublishedLines, random_weights

from llve_common.io.images import write_image
from llve_common.testing.conformance import dark_frames, write_video
from llve_common.video import VideoReader
from llve_sgz.__main__ import app
from llve_sgz.network import Enhancer
from llve_sgz.paper import PAPER

VIDEO = Path("demo/Movie/Ari.mp4")


class TestPublishedLines(PublishedLines):
    paper = PAPER
    app = app
    scripts: ClassVar = {"sgz/train.py": ["train"], "sgz/test.py": ["test"]}
    parsers: ClassVar = {
        "sgz/option.py": [["train"], ["test"]],
        "sgz/demo/make_video.py": [["video"]],
    }
    # One parser for training and test: 1 there, and 12 in the test's code. Weights that are given
    # are loaded.
    other_defaults: ClassVar = {"--scale_factor", "--load_pretrain"}
    small: ClassVar = {
        "data.size": 64, "segmentation.use": False, "train.epochs": 1, "train.workers": 0,
        "run.tensorboard": False,
    }  # fmt: skip

    def make_data(self):
        for number, pixels in enumerate(dark_frames(3, 72, 84)):
            write_image(Path(f"data/train_data/{number}.jpg"), pixels)
        VIDEO.parent.mkdir(parents=True)
        write_video(VIDEO, dark_frames(12, 48, 60))
        random_weights(Path("weight/Epoch99.pth"), Enhancer, PAPER)
        self.run("video", "--choice", "V2I")

    def commands(self, line):
        if "make_video V2I" not in line:
            return super().commands(line)
        take_apart, together = (["video", "--choice", each] for each in ("V2I", "I2V"))
        return [take_apart, ["test", "--test_dir", "data/test_output"], together]

    def test_the_video_comes_out_in_order_with_its_times(self):
        [line] = [each for each in self.lines() if "make_video" in each]
        for words in self.commands(line):
            self.run(*words)
        with VideoReader(VIDEO) as before, VideoReader(Path("demo/Movie/Res.mp4")) as after:
            seen, shown = list(before), list(after)
        assert [frame.time for frame in shown] == [frame.time for frame in seen]
        # Frames become lighter one by one, so their order shows.
        assert np.all(np.diff([frame.pixels.mean() for frame in shown]) > 0)

    def test_another_number_of_images_than_frames_is_one_error(self):
        self.run("test", "--test_dir", "data/test_output")
        Path("data/test_output/Frames/3.jpg").unlink()
        assert "11 images" in self.run("video", "--choice", "I2V", fails=True)
        pattern = ("--image_lowlight_folder", "frames/%s.png")
        assert "not a pattern" in self.run("video", "--choice", "V2I", *pattern, fails=True)
