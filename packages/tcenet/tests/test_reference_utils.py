"""What the published helpers do with images, done by the core."""

import numpy as np
import pytest
import torch

from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.testing.reference import reference_arrays, reference_json, require_known

pytestmark = pytest.mark.reference
SET = "tcenet"

# Nothing here does these: padding to multiples of 64 for one data set's test, RAFT's own padder, a
# centre crop, booleans read by their letters, and maps from [-1, 1], which no image here has.
NOT_OURS = (r"align_to_\d+(_note)?", "str2bool", r"center_crop_\d+", "input_padder")
NOT_OUR_ARRAYS = ("denorm_in", "denorm_out", r"align\d+_(in|out)")
# Flow colours are the core's, and tested there.
IN_THE_CORE = {"flow_color_in", "flow_color_rgb_u8", "flow_color_same_as_raft_flow_viz"}
COVERED = {
    "save_img_in_f32_rgb", "save_img_png_rgb_u8", "save_img_gray_in_f32", "save_img_gray_png_u8",
    "read_img_u8_rgb", "read_img_out_f32", "img2tensor_out",
}  # fmt: skip


def test_every_helper_is_covered():
    require_known(reference_json(f"{SET}/utils"), *NOT_OURS)
    require_known(reference_arrays(f"{SET}/utils"), *COVERED, *NOT_OUR_ARRAYS, *IN_THE_CORE)


@pytest.mark.parametrize("kind", ["rgb", "gray"])
def test_saving(tmp_path, kind):
    arrays = reference_arrays(f"{SET}/utils")
    image = arrays["save_img_in_f32_rgb" if kind == "rgb" else "save_img_gray_in_f32"]
    saved = arrays["save_img_png_rgb_u8" if kind == "rgb" else "save_img_gray_png_u8"]
    planes = torch.from_numpy(image).movedim(-1, 0).expand(3, -1, -1)
    write_image(tmp_path / "a.png", to_pixels(planes, "truncate"))
    read = read_image(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(read, saved if kind == "rgb" else np.dstack([saved] * 3))


def test_reading(tmp_path):
    arrays = reference_arrays(f"{SET}/utils")
    write_image(tmp_path / "a.png", arrays["read_img_u8_rgb"])
    tensor = to_tensor(read_image(tmp_path / "a.png").pixels)
    np.testing.assert_array_equal(tensor.movedim(0, -1), arrays["read_img_out_f32"])
    np.testing.assert_array_equal(tensor[None], arrays["img2tensor_out"])
