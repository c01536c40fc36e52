"""STCD cut in two for the window engine: the same result, for less."""

import torch

from llve_common.enhance.windows import enhance_clip
from llve_common.metrics.cost import multiply_accumulates
from llve_common.paper.contract import Model
from llve_stcd.fast import combine, part
from llve_stcd.paper import PAPER


def test_a_clip_pairs_each_frame_with_the_next_and_the_last_with_itself(frames, network_of):
    network, clip = network_of(), frames(4)
    enhanced = list(enhance_clip(Model(PAPER, network), clip))
    with torch.inference_mode():
        for index, following in ((0, 1), (1, 2), (2, 3), (3, 3)):
            expected = network(clip[index], clip[following]).enhanced1
            torch.testing.assert_close(enhanced[index], expected, rtol=0, atol=1e-5)
    assert len(enhanced) == 4


def test_streaming_saves_a_decoder_pair_and_a_head(frames, network_of):
    network, (first, second) = network_of(nf=64, front_blocks=1), frames(2, 32, 32)
    with torch.inference_mode():
        kept = part(network, first[:, None])
        whole = multiply_accumulates(lambda: network(first, second))
        per_frame = multiply_accumulates(
            lambda: combine(network, [kept, part(network, second[:, None])], (0,))
        )
    assert whole / per_frame > 1.8
