import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from llve_common.enhance import row_blocks
from llve_common.enhance.frames import deferred_enhancer
from llve_common.enhance.row_blocks import RowBlocks
from llve_common.errors import MediaError
from llve_common.io.images import to_pixels, to_tensor
from llve_common.machine.threads import lone_workers
from llve_common.paper.contract import Prepared, Window

ROWS, WIDTH = 6, 10
SIZES = [(1, 1), (2, 5), (5, 10), (6, 10), (7, 10), (12, 10), (13, 10), (29, 7), (40, 1), (3, 70)]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(row_blocks, "_BLOCK", ROWS * WIDTH)


@pytest.fixture(name="network")
def network_fixture():
    """Two convolutions, each with a bias, so that padding with zeros is not padding with zeros."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    nn.init.constant_(layers[0].bias, 0.3)
    return layers.requires_grad_(False)


def blocks_of(run, halo, rounding, workers=None):
    """Of a network that looks at its block alone."""
    return RowBlocks(Prepared(lambda block, first, seen: run(block), halo), rounding, workers)


def whole(run, pixels, rounding):
    with torch.inference_mode():
        return to_pixels(run(to_tensor(pixels)[None])[0], rounding, pixels.dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("rounding", ["truncate", "round"])
def test_blocks_equal_the_whole_frame(network, picture, size, dtype, rounding):
    # Sums in double precision: another order of adding moves no level.
    network.double()

    def run(image):
        return network(image.double())

    pixels = picture(*size, dtype=dtype)
    enhanced = blocks_of(run, 2, rounding, workers=3)(pixels)
    assert enhanced.dtype == dtype
    np.testing.assert_array_equal(enhanced, whole(run, pixels, rounding))


def test_halves_go_to_the_even_level(picture):
    pixels = picture(20, WIDTH)
    expected = np.round(pixels.astype(np.float32) / 2)
    np.testing.assert_array_equal(blocks_of(lambda x: x / 2, 0, "half-even")(pixels), expected)


def test_a_halo_too_small_shows(network, picture):
    pixels = picture(30, WIDTH, dtype=np.uint16)
    assert (blocks_of(network, 1, "round")(pixels) != whole(network, pixels, "round")).any()


def test_blocks_stop_at_the_frames_edges(picture):
    seen = []

    def run(block):
        seen.append(block.shape)
        assert block.is_contiguous(memory_format=torch.channels_last)
        assert torch.is_inference_mode_enabled()
        return block

    pixels = picture(2 * ROWS + 1, WIDTH)
    np.testing.assert_array_equal(blocks_of(run, 3, "round", workers=1)(pixels), pixels)
    assert [shape[2] for shape in seen] == [ROWS + 3, 3 + ROWS + 1, 3 + 1]
    assert {shape[3] for shape in seen} == {WIDTH}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_becomes_the_tensor_that_to_tensor_gives(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    pixels = np.ascontiguousarray(np.broadcast_to(levels[:, None, None], (len(levels), 1, 3)))
    seen = []
    blocks_of(lambda block: seen.append(block.clone()) or block, 0, "round", 1)(pixels)
    assert torch.equal(torch.cat(seen, dim=2)[0], to_tensor(pixels))


def test_results_out_of_range_are_clipped(picture):
    pixels = picture()
    assert (blocks_of(lambda block: block + 1.5, 0, "truncate")(pixels) == 255).all()
    assert (blocks_of(lambda block: block - 1.5, 0, "round")(pixels) == 0).all()


def test_read_only_and_strided_pixels(picture):
    pixels = picture(20, 20)[:, ::2]
    pixels.flags.writeable = False
    np.testing.assert_array_equal(blocks_of(lambda block: block, 0, "round")(pixels), pixels)


def test_a_kept_result_is_not_changed(picture):
    kept = torch.full((1, 3, 4, 4), 0.5)
    blocks_of(lambda block: kept, 0, "round")(picture(4, 4))
    assert (kept == 0.5).all()


def test_an_error_in_a_block_comes_out_and_the_next_frame_works(picture):
    faults = [torch.nan]
    enhance = blocks_of(lambda block: block * faults.pop() if faults else block, 0, "round", 2)
    pixels = picture(20, WIDTH)
    with pytest.raises(MediaError, match="not a number"):
        enhance(pixels)
    np.testing.assert_array_equal(enhance(pixels), pixels)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_torch_computes_alone_inside_and_as_before_outside(picture, threads):
    before = torch.get_num_threads()
    seen = set()

    def run(block):
        seen.add(torch.get_num_threads())
        return block

    try:
        torch.set_num_threads(threads)
        blocks_of(run, 0, "round", workers=2)(picture(40, WIDTH))
        assert seen == {1}
        assert torch.get_num_threads() == threads
        assert ThreadPoolExecutor(1).submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["llve-worker", "set_num_threads"])
def test_no_thread_waits_for_one_that_the_system_refuses(monkeypatch, kind):
    start, asked = threading.Thread.start, []

    def limited(thread):
        asked.append(thread)
        if kind in thread.name and sum(kind in each.name for each in asked) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError):
        lone_workers(3)
    for thread in asked:
        if thread.ident is not None:
            thread.join(10)
            assert not thread.is_alive()


def test_several_callers_at_once_and_always_the_same(network, picture):
    enhance = blocks_of(network, 2, "round", workers=2)
    # Widths change, so that buffers are made anew in between.
    frames = [picture(25, WIDTH + n, seed=n) for n in range(4)]
    expected = [enhance(frame) for frame in frames]
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda frame: [enhance(frame) for _ in range(10)], frames))
    for several, wanted in zip(found, expected, strict=True):
        assert all(np.array_equal(each, wanted) for each in several)


def test_blocks_know_their_place_and_what_was_seen_of_the_whole_frame(picture):
    pixels = picture(2 * ROWS + 1, WIDTH)
    looked, places = [], []

    def look(frame):
        assert torch.is_inference_mode_enabled()
        looked.append(frame)
        return "seen"

    def run(block, first, seen):
        places.append((first, block.shape[2], seen))
        return block

    RowBlocks(Prepared(run, 1, look), "round", workers=1)(pixels)
    assert len(looked) == 1
    assert looked[0] is pixels
    assert places == [(0, 7, "seen"), (5, 8, "seen"), (11, 2, "seen")]


def test_numbers_below_the_normal_ones_count_as_zero_inside_only(picture):
    small = torch.full((1,), 1e-40)
    seen = []
    blocks_of(lambda block: seen.append(small * 1) or block, 0, "round")(picture(1, 1))
    assert seen[0].item() == 0
    assert (small * 1).item() > 0


def test_papers_of_a_finite_halo_go_in_blocks(model, picture):
    pixels = picture(13, WIDTH)
    heights = []

    def enhance(network, frames):
        heights.append(frames.shape[-2])
        return frames

    for window, expected in ((Window(halo=1), [7, 8, 2]), (Window(), [13])):
        heights.clear()
        begin = deferred_enhancer(model(enhance=enhance, window=window))
        np.testing.assert_array_equal(begin(pixels)(), pixels)
        assert sorted(heights) == sorted(expected)


def test_a_prepared_network_is_prepared_once(model, picture):
    prepared = []

    def prepare(network):
        prepared.append(network)
        return Prepared(lambda block, first, seen: block, halo=0)

    network = nn.Identity()
    begin = deferred_enhancer(model(network, prepare=prepare, window=Window(multiple=7)))
    for _ in range(2):
        np.testing.assert_array_equal(begin(picture())(), picture())
    assert prepared == [network]
