"""The ResNet-50's size, names and scales."""

import itertools

import pytest
import torch
from torch import nn

from llve_common.metrics.cost import parameter_count
from llve_common.nn.resnet import ResNet50, without_classifier


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return ResNet50().eval()


def test_published_size_and_names(network):
    # Table 1 and torchvision: 25 557 032 with the classifier of 1000 classes on 2048 features.
    assert parameter_count(network) == 25_557_032 - 1000 * 2049
    keys = network.state_dict().keys()
    assert len(keys) == 318
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.1.num_batches_tracked"} < keys
    assert {"layer3.5.conv2.weight", "layer4.2.bn3.bias"} < keys
    assert not any(key.startswith(("layer3.6", "layer1.1.downsample", "fc")) for key in keys)


def test_scales_are_rounded_up(network):
    with torch.no_grad():
        pyramid = network(torch.rand(2, 3, 75, 53))
    assert [tuple(features.shape[1:]) for features in pyramid] == [
        (64, 38, 27), (256, 19, 14), (512, 10, 7), (1024, 5, 4), (2048, 3, 2),
    ]  # fmt: skip
    assert pyramid.stem.min() >= 0
    assert pyramid.stem.max() > 0


def test_coarse_scales_are_computed_only_when_asked_for(network):
    calls = []
    handle = network.layer3.register_forward_hook(lambda *_: calls.append("layer3"))
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        fine = list(itertools.islice(network.scales(image), 3))
        assert calls == []
        whole = network(image)
    handle.remove()
    assert calls == ["layer3"]
    assert all(torch.equal(a, b) for a, b in zip(fine, whole[:3], strict=True))


def test_an_old_file_with_a_classifier_loads(network):
    state = network.state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("tracked")}
    old |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    network.load_state_dict(without_classifier(old))
    assert without_classifier(old).keys() == state.keys()
