import math

import torch

from llve_common.nn.residual import ResidualBlock


def test_a_block_adds_two_convolutions_of_its_input():
    torch.manual_seed(0)
    block = ResidualBlock(4)
    features = torch.rand(2, 4, 5, 7)
    residual = block.conv2(block.conv1(features).clamp(min=0))
    torch.testing.assert_close(block(features), features + residual)


def test_initial_weights_are_a_tenth_of_kaiming_normal():
    torch.manual_seed(0)
    for conv in (ResidualBlock(64).conv1, ResidualBlock(64).conv2):
        assert math.isclose(conv.weight.std().item(), 0.1 * math.sqrt(2 / (64 * 9)), rel_tol=0.02)
        assert conv.bias.abs().max() == 0
