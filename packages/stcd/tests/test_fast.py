"""STCD cut in two for the window engine: the same result, for less."""

import torch

from llve_common.metrics.cost import multiply_accumulates
from llve_stcd.fast import combine, part


def test_streaming_saves_a_decoder_pair_and_a_head(frames, network_of):
    network, (first, second) = network_of(nf=64, front_blocks=1), frames(2, 32, 32)
    with torch.inference_mode():
        kept = part(network, first[:, None])
        whole = multiply_accumulates(lambda: network(first, second))
        per_frame = multiply_accumulates(
            lambda: combine(network, [kept, part(network, second[:, None])], (0,))
        )
    assert whole / per_frame > 1.8
