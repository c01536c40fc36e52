import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from llve_common.clips.frames import Frame
from llve_common.enhance import frames
from llve_common.enhance.files import enhance_all
from llve_common.enhance.frames import (
    deferred_enhancer,
    enhance_frames,
    frame_enhancer,
    pad_to_fit,
    ready,
)
from llve_common.enhance.jobs import naming_faults
from llve_common.enhance.ready import as_wished
from llve_common.errors import DataError
from llve_common.io.images import Image, read_image, to_tensor, write_image
from llve_common.paper.contract import Model, Window


def frames_of(height, width, count=1):
    return torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def enhance(model):
    """Enhances jobs with the tiny paper, parts of it replaced."""

    def run(jobs, **changes):
        return enhance_all(ready(model(**changes)), jobs)

    return run


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 40), (8, 9), (15, 17), (16, 32), (33, 16)]
)
def test_any_size_reaches_the_network_padded_and_comes_back(model, height, width):
    seen = []

    def enhance(network, padded):
        assert torch.is_inference_mode_enabled()
        seen.append(padded)
        return padded

    chosen = model(enhance=enhance, window=Window(multiple=16))
    frames = frames_of(height, width)
    assert torch.equal(enhance_frames(chosen, frames), frames)
    assert seen[0].shape[-2:] == (-(-height // 16) * 16, -(-width // 16) * 16)


@pytest.mark.parametrize(
    ("size", "missing", "mode"),
    [((5, 6), (3, 2), "reflect"), ((4, 8), (4, 0), "edge"), ((1, 1), (7, 7), "edge")],
)
def test_padding_reflects_or_replicates_where_a_side_is_too_short(size, missing, mode):
    frames = frames_of(*size, count=2)
    padded = pad_to_fit(frames, Window(multiple=8))
    expected = np.pad(frames.numpy(), [(0, 0)] * 3 + [(0, each) for each in missing], mode=mode)
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_a_kernel_of_a_cuda_device_takes_integers_in_float32(model, picture, monkeypatch):
    def on_the_cpu(pixels, device):
        return to_tensor(pixels)

    monkeypatch.setattr(Model, "device", torch.device("cuda"))
    monkeypatch.setattr(frames, "to_tensor", on_the_cpu)
    monkeypatch.setattr(frames, "to_levels", lambda pixels, device: torch.from_numpy(pixels))
    monkeypatch.setattr(frames, "begin_levels", lambda levels, faults: levels.numpy)
    fused = model(fuse=lambda network: lambda levels: (255 - levels, torch.zeros(1)))
    levels = picture(2, 3)
    floats = levels.astype(np.float32) / 255
    plain = model(fuse=lambda network: None)
    half = replace(model(fuse=lambda network: pytest.fail("asked for")), precision="fp16")
    for chosen, pixels, expected in (
        (fused, levels, 255 - levels), (fused, floats, floats), (plain, levels, levels)
    ):  # fmt: skip
        np.testing.assert_array_equal(deferred_enhancer(chosen)(pixels)(), expected)
        [frame] = frame_enhancer(chosen, ahead=1)([Frame(Image(pixels), "", "here")])
        np.testing.assert_array_equal(frame.image.pixels, expected)
    frame_enhancer(half)


def test_sizes_that_fit_are_not_copied():
    frames = frames_of(16, 32)
    assert pad_to_fit(frames, Window(multiple=16)) is frames


@pytest.mark.parametrize(
    ("side", "padded"), [(16, 16), (20, 20), (36, 36), (4, 16), (17, 32), (24, 32), (5, 16)]
)
def test_sides_of_a_remainder_that_fits_are_left_as_they_are(side, padded):
    window = Window(multiple=16, remainders=(0, 4))
    assert pad_to_fit(frames_of(side, 20), window).shape[-2:] == (padded, 20)


def test_images_are_written_counted_and_told_to_the_watcher(model, image_file, tmp_path):
    told = []
    jobs = [(image_file(f"{n}.png", seed=n), tmp_path / "out" / f"{n}.png") for n in range(3)]
    result = enhance_all(ready(model()), jobs, watch=lambda *each: told.append(each))
    assert (result.frames, result.failures) == (3, ())
    assert result.seconds > 0
    assert told == [(1, 3), (2, 3), (3, 3)]
    for source, target in jobs:
        np.testing.assert_array_equal(read_image(target).pixels, read_image(source).pixels)


def test_images_of_a_batch_take_turns_at_the_network(enhance, image_file, tmp_path):
    """They are read and written side by side, but the network's memory is needed once."""
    turn = threading.Lock()

    def alone(network, frames):
        assert turn.acquire(blocking=False)
        time.sleep(0.01)
        turn.release()
        return frames

    jobs = [(image_file(f"{n}.png", seed=n), tmp_path / "out" / f"{n}.png") for n in range(8)]
    jobs[3][0].write_bytes(b"no image")
    result = enhance(jobs, enhance=alone)
    assert result.frames == 7
    assert len(result.failures) == 1
    assert "3.png" in result.failures[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("inputs", [(0,), (-1, 0, 1)], ids=["image", "clip"])
def test_grey_comes_out_grey_and_colour_is_left_alone(model, picture, dtype, inputs):
    def tinted(network, frames):
        middle = frames.shape[1] // 2
        return frames[:, middle : middle + 1] * torch.tensor([0.5, 1, 0.25])[:, None, None]

    network = model(enhance=tinted, window=Window(inputs=inputs), rounding="round")
    enhance = as_wished(frame_enhancer(network))
    colour = picture(20, 33, dtype)
    grey = colour[..., :1].repeat(3, axis=2)
    nearly = grey.copy()
    nearly[7, 5, 2] ^= 1  # between those of the quick look
    frames = [Frame(Image(pixels), "", "here") for pixels in (colour, grey, nearly)]
    outcome = [frame.image.pixels.astype(int) for frame in enhance(frames)]
    assert (outcome[1][..., :1] == outcome[1]).all()
    luma = grey[..., 0] * (0.5 * 0.299 + 0.587 + 0.25 * 0.114)
    assert abs(outcome[1][..., 0] - luma).max() <= 1 + 1e-4 * luma.max()
    for pixels, before in zip(outcome[::2], (colour, nearly), strict=True):
        assert abs(pixels - before * [0.5, 1, 0.25]).max() <= 0.5


def test_rounding_is_the_papers(enhance, tmp_path):
    write_image(tmp_path / "a.png", np.full((2, 2, 3), 101, np.uint8))
    half = lambda network, frames: frames / 2  # noqa: E731
    for rounding, value in (("truncate", 50), ("round", 51)):
        enhance([(tmp_path / "a.png", tmp_path / "b.png")], rounding=rounding, enhance=half)
        assert read_image(tmp_path / "b.png").pixels.max() == value


def test_result_over_its_source_is_refused_before_anything_is_written(
    enhance, image_file, tmp_path
):
    a, b = image_file("a.png"), image_file("b.png")
    (tmp_path / "link.png").symlink_to(b)
    for again in (tmp_path / "out" / ".." / "b.png", tmp_path / "link.png"):
        with pytest.raises(DataError, match="written over its source") as caught:
            enhance([(a, tmp_path / "out" / "a.png"), (b, again)])
        assert caught.value.where == b
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (
            [("a.png", "b.png"), ("b.png", "c.png")],
            "over another image that is read\n  got: the re",
        ),
        ([("a.png", "c.png"), ("a.jpg", "c.png")], "to the same file\n  got: a.png and a.jpg"),
    ],
)
def test_results_over_one_another_or_another_source_are_refused(jobs, said):
    with pytest.raises(DataError, match=said):
        naming_faults([(Path(source), Path(target)) for source, target in jobs])
