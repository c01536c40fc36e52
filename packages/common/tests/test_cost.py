import torch
from torch import nn

from llve_common.metrics.cost import multiply_accumulates, parameter_count


def test_convolutions_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
        nn.ConvTranspose2d(8, 3, 2, stride=2, bias=False),
    )
    image = torch.zeros(1, 3, 8, 10)
    full, half = 8 * 10, 4 * 5
    by_hand = full * 8 * 3 * 9 + half * 8 * 9 + half * 8 * 3 * 4
    assert multiply_accumulates(lambda: network(image)) == by_hand
    assert parameter_count(network) == (3 * 8 * 9 + 8) + (8 + 8) + (8 * 9 + 8) + 8 * 3 * 4


def test_matrix_products_by_hand():
    a, b = torch.zeros(2, 3, 5), torch.zeros(2, 5, 7)
    assert multiply_accumulates(lambda: a @ b) == 2 * 3 * 5 * 7
    assert multiply_accumulates(lambda: nn.Linear(5, 7)(a[0])) == 3 * 5 * 7


def test_cost_grows_with_the_pixels_and_the_batch():
    network = nn.Conv2d(3, 3, 1)
    assert multiply_accumulates(lambda: network(torch.zeros(2, 3, 4, 6))) == 2 * 4 * 6 * 9


def test_shared_weights_count_once():
    layer = nn.Linear(4, 4, bias=False)
    assert parameter_count(nn.Sequential(layer, nn.ReLU(), layer)) == 16


def test_inference_mode_costs_the_same():
    network = nn.Conv2d(3, 3, 1)
    with torch.inference_mode():
        assert multiply_accumulates(lambda: network(torch.zeros(1, 3, 4, 6))) == 4 * 6 * 9
