import numpy as np
import pytest
import torch

from llve_common.enhance.files import enhance_all, naming_faults
from llve_common.enhance.frames import enhance_frames, pad_to_fit
from llve_common.errors import DataError
from llve_common.io.images import read_image, write_image
from llve_common.paper.contract import Window


def frames_of(height, width, count=1):
    return torch.rand(2, count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def enhance(model):
    """Enhances jobs with the tiny paper, parts of it replaced."""

    def run(jobs, **changes):
        return enhance_all(model(**changes), jobs)

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


def test_padding_reflects_at_the_bottom_and_right():
    frames = frames_of(5, 6, count=2)
    padded = pad_to_fit(frames, Window(multiple=8))
    expected = np.pad(frames.numpy(), [(0, 0)] * 3 + [(0, 3), (0, 2)], mode="reflect")
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_padding_replicates_where_a_side_is_too_short_to_reflect():
    frames = frames_of(4, 8)
    padded = pad_to_fit(frames, Window(multiple=8))
    expected = np.pad(frames.numpy(), [(0, 0)] * 3 + [(0, 4), (0, 0)], mode="edge")
    np.testing.assert_array_equal(padded.numpy(), expected)
    assert torch.equal(
        pad_to_fit(frames[..., :1, :1], Window(multiple=16))[0, 0, 0, 9],
        frames[0, 0, 0, 0, :1].expand(16),
    )


def test_sizes_that_fit_are_not_copied():
    frames = frames_of(16, 32)
    assert pad_to_fit(frames, Window(multiple=16)) is frames


@pytest.mark.parametrize(
    ("side", "padded"), [(16, 16), (20, 20), (36, 36), (4, 16), (17, 32), (24, 32), (5, 16)]
)
def test_sides_of_a_remainder_that_fits_are_left_as_they_are(side, padded):
    window = Window(multiple=16, remainders=(0, 4))
    assert pad_to_fit(frames_of(side, 20), window).shape[-2:] == (padded, 20)


def test_images_are_written_and_counted(enhance, image_file, tmp_path):
    jobs = [(image_file(f"{n}.png", seed=n), tmp_path / "out" / f"{n}.png") for n in range(3)]
    result = enhance(jobs)
    assert (result.written, result.failures) == (3, ())
    assert result.seconds > 0
    for source, target in jobs:
        np.testing.assert_array_equal(read_image(target).pixels, read_image(source).pixels)


def test_depth_and_transparency_are_kept(enhance, picture, tmp_path):
    for dtype in (np.uint8, np.uint16):
        pixels, alpha = picture(dtype=dtype), picture(dtype=dtype, seed=1)[..., 0]
        write_image(tmp_path / "a.png", pixels, alpha)
        enhance([(tmp_path / "a.png", tmp_path / "b.png")])
        back = read_image(tmp_path / "b.png")
        np.testing.assert_array_equal(back.pixels, pixels)
        np.testing.assert_array_equal(back.alpha, alpha)
        assert back.pixels.dtype == dtype


def test_rounding_is_the_papers(enhance, tmp_path):
    write_image(tmp_path / "a.png", np.full((2, 2, 3), 101, np.uint8))
    for rounding, value in (("truncate", 50), ("round", 51)):
        enhance(
            [(tmp_path / "a.png", tmp_path / "b.png")],
            rounding=rounding,
            enhance=lambda network, frames: frames / 2,
        )
        assert read_image(tmp_path / "b.png").pixels.max() == value


def test_failures_are_named_and_the_others_written(enhance, image_file, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    sources = [image_file("a.png"), tmp_path / "bad.png", tmp_path / "no.png", image_file("z.png")]
    result = enhance([(source, tmp_path / "out" / source.name) for source in sources])
    assert result.written == 2
    assert [failure.split(": ")[0] for failure in result.failures] == [
        str(tmp_path / "bad.png"),
        str(tmp_path / "no.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "z.png"]


def test_result_that_is_no_number_names_its_source(enhance, image_file, tmp_path):
    source = image_file("a.png")
    result = enhance(
        [(source, tmp_path / "b.png")], enhance=lambda network, frames: frames * torch.nan
    )
    assert result.failures[0].startswith(f"{source}: the enhanced image holds values that are not")
    assert not (tmp_path / "b.png").exists()


def test_16_bits_into_a_jpeg_is_a_failure_of_that_image(enhance, image_file, tmp_path):
    result = enhance([(image_file("a.png", dtype=np.uint16), tmp_path / "a.jpg")])
    assert "this format cannot hold 16 bits" in result.failures[0]


def test_watcher_is_told_every_image(model, image_file, tmp_path):
    told = []
    jobs = [(image_file(f"{n}.png"), tmp_path / "out" / f"{n}.png") for n in range(2)]
    enhance_all(model(), jobs, watch=lambda *each: told.append(each))
    assert told == [(1, 2), (2, 2)]


def test_result_over_its_source_is_refused_before_anything_is_written(
    enhance, image_file, tmp_path
):
    a, b = image_file("a.png"), image_file("b.png")
    around = tmp_path / "out" / ".." / "b.png"
    with pytest.raises(DataError, match="written over its source") as caught:
        enhance([(a, tmp_path / "out" / "a.png"), (b, around)])
    assert caught.value.where == b
    assert not (tmp_path / "out").exists()


def test_result_over_another_source_is_refused(image_file, tmp_path):
    a, inner = image_file("a.png"), image_file("out/a.png")
    with pytest.raises(DataError, match="over another image that is read") as caught:
        naming_faults([(a, inner), (inner, tmp_path / "out" / "out" / "a.png")])
    assert f"the result of {a}" in str(caught.value)


def test_two_results_in_one_file_are_refused(tmp_path):
    jobs = [(tmp_path / name, tmp_path / "out.png") for name in ("a.png", "a.jpg")]
    with pytest.raises(DataError, match="two inputs would be written to the same file") as caught:
        naming_faults(jobs)
    assert f"{tmp_path / 'a.png'} and {tmp_path / 'a.jpg'}" in str(caught.value)


def test_result_over_a_link_to_its_source_is_refused(image_file, tmp_path):
    (tmp_path / "link.png").symlink_to(image_file("a.png"))
    with pytest.raises(DataError, match="written over its source"):
        naming_faults([(tmp_path / "a.png", tmp_path / "link.png")])
