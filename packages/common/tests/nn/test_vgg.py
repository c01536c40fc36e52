"""VGG-19's names, sizes and outputs."""

import pytest
import torch
import torch.nn.functional as F
from recipes import check_keys, tcenet_recipe_weights, told_values

from llve_common.errors import CheckpointError
from llve_common.metrics.cost import parameter_count
from llve_common.nn.vgg import Vgg19Features, imagenet_normalised
from llve_common.testing.reference import check_summary, reference_json
from llve_common.weights.files import write_weights
from llve_common.weights.pretrained import load_vgg19

SET = "tcenet"


@pytest.mark.reference
def test_published_names_shapes_and_order():
    facts = reference_json(f"{SET}/keys_vgg19_features")
    whole = Vgg19Features([36])
    check_keys(whole.state_dict(), facts["keys"])
    assert parameter_count(whole) == facts["n_parameters"]
    assert Vgg19Features().layers == set(facts["used_output_indices"])


@pytest.mark.reference
def test_features_of_the_published_code(tmp_path):
    facts = reference_json(f"{SET}/losses")["F_loss_features"]
    keys = reference_json(f"{SET}/keys_vgg19_features")
    file = tmp_path / "vgg19.pth"
    write_weights(file, tcenet_recipe_weights(keys, facts["vgg_seed"], facts["vgg_scale"]))
    # The file describes the losses' input in words.
    image = imagenet_normalised(told_values(reference_json(f"{SET}/losses")["F_loss"]["x"]))
    with torch.no_grad():
        found = [image, *load_vgg19(file)(image)]
    for features, summary in zip(found, facts["features_of_x"], strict=True):
        assert list(features.shape) == summary["shape"]
        # The losses' tolerance in the set's README, which lists none for features.
        tolerance = 1e-5 * summary["absmax"]
        check_summary(features, summary, rtol=1e-5, atol=tolerance)


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(0)
    return Vgg19Features().eval()


def test_outputs_of_the_chosen_layers_by_hand(features):
    image = torch.rand(2, 3, 19, 33)
    state, expected, x = features.state_dict(), [], image
    for names, wanted in [((0, 2), 2), ((5, 7), 7), ((10, 12, 14, 16), 12), ((19, 21), 21)]:
        for place in names:
            weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if place == wanted:
                expected.append(x)
        x = F.max_pool2d(x, 2)
    with torch.no_grad():
        found = features(image)
    assert [tuple(each.shape[1:]) for each in found] == [
        (64, 19, 33), (128, 9, 16), (256, 4, 8), (512, 2, 4),
    ]  # fmt: skip
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other)


def test_an_output_before_a_relu_is_kept_as_it_was():
    torch.manual_seed(0)
    before, after = Vgg19Features([0, 1])(torch.rand(1, 3, 8, 8))
    assert before.min() < 0
    assert torch.equal(before.relu(), after)


def test_a_whole_published_file_loads(features, tmp_path):
    torch.manual_seed(1)
    whole = Vgg19Features([36]).state_dict()
    file = tmp_path / "vgg19.pth"
    write_weights(file, whole | {"classifier.0.weight": torch.zeros(8, 8)})
    loaded = load_vgg19(file)
    assert loaded.state_dict().keys() == features.state_dict().keys()
    assert all(torch.equal(value, whole[key]) for key, value in loaded.state_dict().items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 5, 5)}, "features.0.weight is (64, 3, 5, 5)"),
        ({"head.weight": torch.zeros(1)}, "unknown head.weight"),
        ({"features.x": torch.zeros(1)}, "unknown features.x"),
        ({"features.21.bias": None}, "missing features.21.bias"),
    ],
)
def test_a_file_that_does_not_fit(features, tmp_path, change, message):
    state = features.state_dict() | change
    file = tmp_path / "vgg19.pth"
    write_weights(file, {key: value for key, value in state.items() if value is not None})
    with pytest.raises(CheckpointError, match="do not fit") as caught:
        load_vgg19(file)
    assert message in str(caught.value)


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_vgg19(tmp_path / "vgg19.pth")
    for part in ("vgg19.pth: the weights of VGG-19", "download.pytorch.org", "perceptual: off"):
        assert part in str(caught.value)
