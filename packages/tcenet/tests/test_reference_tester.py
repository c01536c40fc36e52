"""TCE-Net's test, its pictures and its metrics against the published implementation."""

from functools import partial

import pytest
import torch
from recipes import check_pixels, with_tcenet_recipe
from torch import nn

from llve_common.enhance.windows import enhance_inner_frames, inner_frames
from llve_common.flow.raft import Raft, raft_flow
from llve_common.io.images import to_pixels, to_tensor
from llve_common.paper.contract import Model
from llve_common.testing.reference import reference_arrays, reference_json
from llve_tcenet.paper import PAPER, inference_network
from llve_tcenet.pictures import draw, output_pairs

pytestmark = pytest.mark.reference
SET = "tcenet"
WINDOW = PAPER.window(None, None)
SHARE = 0.005
"""Of the values of a picture, how many may be one level off."""


@pytest.fixture(scope="module")
def network() -> nn.Module:
    facts = reference_json(f"{SET}/tester")
    recipe = "keys_vtce", facts["g_seed"], facts["g_scale"]
    return with_tcenet_recipe(inference_network, *recipe)


@pytest.fixture(scope="module")
def clip() -> list[torch.Tensor]:
    return [to_tensor(pixels)[None] for pixels in reference_arrays(f"{SET}/tester")["low_u8"]]


def test_frames(network, clip):
    expected = reference_arrays(f"{SET}/tester")["frames"]
    actual = list(enhance_inner_frames(Model(PAPER, network), clip))
    assert len(actual) == len(expected)
    for frame, picture in zip(actual, expected, strict=True):
        check_pixels(to_pixels(frame[0], PAPER.rounding), picture, SHARE)


def test_which_frames_are_saved():
    facts = reference_json(f"{SET}/tester")
    count = facts["clip_frames"]
    for folder, files in facts["files"].items():
        if folder.startswith("frames/"):
            assert [f"{n:05d}.png" for n in inner_frames(WINDOW, count)] == files
    for length, rule in facts["window_rule"].items():
        saved = {*rule["saved_first"], rule["last_saved_from_second"]} - {None}
        ours = {f"{n:05d}.png" for n in inner_frames(WINDOW, int(length))}
        assert ours == saved


def test_pictures(network, clip):
    facts, arrays = reference_json(f"{SET}/tester"), reference_arrays(f"{SET}/tester")
    recipe = "keys_raft", facts["raft_seed"], facts["raft_scale"]
    raft = with_tcenet_recipe(lambda _: Raft(), *recipe)
    raft.train(facts["raft_training_mode"])
    with torch.inference_mode():
        found = [
            draw(first, second, partial(raft_flow, raft))
            for first, second in output_pairs(network, clip, WINDOW)
        ]
    assert len(found) == len(arrays["mask"])
    check_pixels(found[0].warped, arrays["warp"][0], SHARE)
    # The published tester swaps red and blue of the flow's picture when it writes it.
    check_pixels(found[0].flow, arrays["flo"][0][..., ::-1], SHARE)
    for pictures, mask in zip(found, arrays["mask"], strict=True):
        for channel in range(3):
            # exp(-50 d^2) amplifies the flow's rounding: 0.8 % on a CPU without AVX-512.
            check_pixels(pictures.mask[..., channel], mask, 0.01)
