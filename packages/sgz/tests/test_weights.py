"""Weights of the network and of the segmentation network."""

import pytest
import torch

from llve_common.errors import CheckpointError
from llve_common.weights.files import write_weights
from llve_sgz.network import Enhancer, Segmenter
from llve_sgz.paper import PAPER
from llve_sgz.weights import conv_type_of, load_segmenter


@pytest.mark.parametrize("conv_type", ["dsc", "tc"])
def test_the_convolutions_show_in_the_names(conv_type):
    state = PAPER.to_published(Enhancer(1, conv_type).state_dict())
    assert conv_type_of(state) == conv_type
    network = PAPER.network(state, None)
    assert network.scale_factor == 12
    network.load_state_dict(PAPER.from_published(state))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(1)
    return Segmenter(3).state_dict()


def test_an_imagenet_file_fills_the_backbone_alone(tmp_path, trained):
    prefix = "resnet."
    file = {k.removeprefix(prefix): v for k, v in trained.items() if k.startswith(prefix)}
    file |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    write_weights(tmp_path / "resnet50.pth", file)
    torch.manual_seed(2)
    network = Segmenter(3)
    head = network.fpn.classify.weight.clone()
    load_segmenter(network, tmp_path / "resnet50.pth")
    assert torch.equal(network.resnet.conv1.weight, trained["resnet.conv1.weight"])
    assert torch.equal(network.fpn.classify.weight, head)


def test_a_whole_file_fills_the_head_too(tmp_path, trained):
    write_weights(tmp_path / "whole.safetensors", trained)
    network = Segmenter(3)
    load_segmenter(network, tmp_path / "whole.safetensors")
    assert all(torch.equal(value, trained[key]) for key, value in network.state_dict().items())


def test_a_foreign_file_is_refused(tmp_path):
    write_weights(tmp_path / "foreign.pth", torch.nn.Linear(2, 2).state_dict())
    with pytest.raises(CheckpointError, match="do not fit the network"):
        load_segmenter(Segmenter(3), tmp_path / "foreign.pth")
