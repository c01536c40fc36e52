"""TCE-Net's network against values computed by the published implementation."""

import itertools
import re
from collections import defaultdict

import numpy as np
import pytest
import torch
from recipes import (
    check_keys,
    normal_values,
    recipe_weights,
    relative_l2,
    thinned,
    with_tcenet_recipe,
)
from torch import Tensor, nn

from llve_common.testing.reference import (
    Case,
    cases,
    check_summary,
    reference_arrays,
    reference_json,
    require_known,
)
from llve_common.weights.files import load_into
from llve_tcenet.config import MULTIPLE, REMAINDERS
from llve_tcenet.network import ConvLSTM, Encoding, initialise, middle
from llve_tcenet.paper import PAPER, inference_network
from llve_tcenet.wavelet import haar, inverse_haar

pytestmark = pytest.mark.reference
SET = "tcenet"
FORWARD, PARTS = f"{SET}/vtce_forward", f"{SET}/vtce_parts"


def new_network() -> nn.Module:
    """A network of the width and depth that the published keys tell."""
    keys = reference_json(f"{SET}/keys_vtce")["keys"]
    shapes = {key: torch.empty(entry["shape"], device="meta") for key, entry in keys.items()}
    return inference_network(shapes)


def part_with(part: str, seed: int, scale: float = 0.05) -> nn.Module:
    """One part of the network, for which the recipe draws as if there were no other."""
    facts, prefix = reference_json(f"{SET}/keys_vtce"), f"{part}."
    own = {k.removeprefix(prefix): v for k, v in facts["keys"].items() if k.startswith(prefix)}
    norms = [key.removeprefix(prefix) for key in facts["norm_weight_keys"]]
    network: nn.Module = getattr(new_network(), part)
    load_into(network, recipe_weights(own, seed, scale, norms=norms), "")
    return network.eval()


def frames_of(pixels: np.ndarray) -> Tensor:
    """Frames (N, T, H, W, 3) uint8 as (N, T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(0, 1, 4, 2, 3)


def close(actual: Tensor, expected: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=atol)


# Names, shapes and initial weights


def test_keys_shapes_and_parameters():
    facts = reference_json(f"{SET}/keys_vtce")
    network = new_network()
    state = PAPER.to_published(network.state_dict())["G_net"]
    # In the order of registration, by which an optimizer's state is stored.
    check_keys(state, facts["keys"])
    parameters = [key for key, entry in facts["keys"].items() if entry["kind"] == "param"]
    assert [name for name, _ in network.named_parameters()] == parameters
    assert sum(p.numel() for p in network.parameters()) == facts["n_parameters"]
    for part, count in facts["submodule_parameters"].items():
        assert sum(p.numel() for p in getattr(network, part).parameters()) == count


def test_initial_weights():
    facts = reference_json(f"{SET}/init_stats")["params"]
    torch.manual_seed(reference_json(f"{SET}/config_defaults")["seed"])
    network = new_network()
    initialise(network)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("batches_tracked")}
    assert state.keys() == facts.keys()
    for key, fact in facts.items():
        std = fact.get("expected_std", fact["std"])
        noise = 5 * std / state[key].numel() ** 0.5
        assert state[key].mean().item() == pytest.approx(fact["mean"], abs=2 * noise), key
        assert state[key].std(correction=0).item() == pytest.approx(std, abs=2 * noise), key


def test_legal_sizes():
    """Every size of the published list's kind, and no other one, goes through the network."""
    facts = reference_json(f"{SET}/legal_sizes")["network"]
    rule = re.match(
        r"each of H and W is at least (\d+) and H % (\d+) is (\d+) or (\d+) \(W", facts["rule"]
    )
    least, multiple, *remainders = (int(each) for each in rule.groups())
    assert (multiple, tuple(remainders)) == (MULTIPLE, REMAINDERS)
    highest = int(re.search(r"every H from \d+ to (\d+)", facts["checked"])[1])
    attention = new_network().co_attention.eval()
    channels = attention.linear_e.in_features
    with torch.inference_mode():
        # What refuses a size is the wavelet transform of the latent at half its size.
        for side in range(least, highest + 1, 4):
            latent = torch.rand(1, channels, side // 4, 8)
            if side % MULTIPLE in REMAINDERS:
                assert attention(latent, latent)[0].shape == latent.shape
            else:
                with pytest.raises(RuntimeError):
                    attention(latent, latent)


# The whole network


def forward_network() -> nn.Module:
    facts = reference_json(FORWARD)
    seed, scale = facts["weight_seed"], facts["weight_scale"]
    return with_tcenet_recipe(inference_network, "keys_vtce", seed, scale)


def forward_frames(name: str) -> Tensor:
    return frames_of(reference_arrays(FORWARD)[f"{name}_input_u8"])


@pytest.mark.parametrize("case", cases(FORWARD, under="cases", joint="_"))
def test_forward(case: Case):
    facts, mode = case.settings, case.settings["mode"]
    assert mode in {"eval", "train", "train_dropout"}
    network = forward_network().train(mode != "eval")
    if mode == "train":
        network.encoder.aspp.project[-1].p = 0.0
    torch.manual_seed(reference_json(FORWARD)["dropout_torch_seed"])
    with torch.no_grad():
        outputs = network(frames_of(case["input_u8"]))
    for name, output in zip(("out1", "out2"), outputs, strict=True):
        close(output, case[name], 2e-5 if mode == "eval" else 1e-4)
    state = network.state_dict()
    for key, summary in facts.get("bn_after", {}).items():
        check_summary(state[key], summary, rtol=1e-4, atol=1e-4, name=key)
    for key, count in facts.get("num_batches_tracked", {}).items():
        assert state[key] == count


def test_gradients():
    facts, arrays, network = reference_json(FORWARD), reference_arrays(FORWARD), forward_network()
    [(name, expected)] = [
        (key.removeprefix("grad_case_"), facts[key]) for key in facts if key.startswith("grad_case")
    ]
    frames = forward_frames(name).requires_grad_()
    first, second = network(frames)
    assert expected["loss"] == "mean(out1^2) + 0.5*mean(out2^2)"
    loss = (first**2).mean() + 0.5 * (second**2).mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["value"], rel=1e-5)
    gradients = {key: p.grad for key, p in network.named_parameters()}
    assert gradients.keys() == expected["params"].keys()
    for key, summary in expected["params"].items():
        # A bias before a layer norm that is linear in it has a gradient of rounding alone.
        atol = 1e-4 * max(summary["absmax"], 1e-4)
        check_summary(gradients[key], summary, rtol=1e-4, atol=atol, name=key)
    [array] = [each for each in arrays if each.startswith(f"{name}_input_grad")]
    _, step = thinned(array)
    assert relative_l2(frames.grad.flatten(1, 2)[..., ::step, ::step], arrays[array]) < 1e-3


# Ours are functions, not modules. The cell's convolution runs on the part of its weights that a
# state of zeros leaves, so its output has another shape.
NO_MODULES = {"LeakyReLU", "Sigmoid", "DWT", "IWT"}


def test_every_layer_in_order():
    facts, network = reference_json(FORWARD), forward_network()
    seen = defaultdict(list)
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, output, name=name: (
                seen[name].append(output.clone()) if isinstance(output, Tensor) else None
            )
        )
    with torch.no_grad():
        network(forward_frames(re.search(r"for case (\w+)", facts["trace_note"])[1]))
    compared = set()
    for entry in facts["trace"]:
        if entry["type"] in NO_MODULES or entry["module"] == "encoder.convlstm.Gates":
            continue
        output = seen[entry["module"]].pop(0)
        if entry["type"] == "Conv3d":
            output = output.unflatten(1, (entry["shape"][2], -1)).transpose(1, 2)
        atol = 3e-5 * max(1, entry["absmax"])
        check_summary(output, entry, rtol=1e-5, atol=atol, name=entry["module"])
        compared.add(entry["module"])
    weighted = {name.rpartition(".")[0] for name, _ in network.named_parameters()}
    assert weighted - compared == {"encoder.convlstm.Gates"}
    assert not any(seen[name] for name in compared)


# The parts

# Named after the channels of the whole map that they hold.
ENC_CONV, ATT_TRAIN = r"enc_conv{}_\d+_\d+", r"att_train_out(\d)_ch(\d+)_(\d+)"


def test_every_part_is_covered():
    parts = ("encoder", "attention", "attention_train_bn", "decoder", "dwt", "convlstm")
    require_known(reference_json(PARTS), *parts)
    require_known(
        reference_arrays(PARTS),
        "enc_input_u8", "enc_latent", ENC_CONV.format(r"\d"), "att_out[12]", ATT_TRAIN, "dec_out",
        "dwt_in", "(dwt|iwt)_out", "convlstm_(hidden|cell)_(no)?state",
    )  # fmt: skip


def test_encoder():
    facts = reference_json(PARTS)["encoder"]
    arrays = reference_arrays(PARTS)
    encoder = part_with("encoder", facts["weight_seed"])
    frames = frames_of(arrays["enc_input_u8"][None])
    with torch.no_grad():
        encoding = encoder(frames)
        full = encoder.at_full_size(frames.flatten(1, 2))
        half = encoder.at_half_size(full)
    close(encoding.latent, arrays["enc_latent"], 3e-5)
    for number, kept in ((3, encoding.half), (1, encoding.full)):
        [array] = [each for each in arrays if re.fullmatch(ENC_CONV.format(number), each)]
        close(kept, arrays[array], 3e-5)
    for part, name in ((encoding.latent, "latent"), (half, "conv_3_cat"), (full, "conv_1_cat")):
        check_summary(part, facts[name], rtol=1e-5, atol=3e-5, name=name)


@pytest.mark.parametrize("part", ["attention", "attention_train_bn"])
def test_co_attention(part):
    facts, arrays = reference_json(PARTS), reference_arrays(PARTS)
    attention = part_with("co_attention", facts["attention"]["weight_seed"])
    attention.train(part != "attention")
    own = facts[part]
    latents = [normal_values(own[f"frame{i}_seed"], own["shape"]) for i in (1, 2)]
    with torch.no_grad():
        outputs = attention(*latents)
    for name, output in zip(("out1", "out2"), outputs, strict=True):
        check_summary(output, own[name], rtol=1e-5, atol=3e-5, name=name)
    if part == "attention":
        np.testing.assert_allclose(latents[0].flatten()[:8], own["frame1_first8"], rtol=1e-6)
        close(outputs[0], arrays["att_out1"], 3e-5)
        close(outputs[1], arrays["att_out2"], 3e-5)
    else:
        for told in filter(None, (re.fullmatch(ATT_TRAIN, each) for each in arrays)):
            number, first, end = (int(each) for each in told.groups())
            close(outputs[number - 1][:, first:end], arrays[told[0]], 3e-5)


def test_decoder():
    facts = reference_json(PARTS)["decoder"]
    decoder = part_with("decoder", facts["weight_seed"])
    drawn = {
        name: normal_values(facts[f"{name}_seed"], facts[f"{name}_shape"])
        for name in ("latent", "conv3", "conv1")
    }
    encoding = Encoding(drawn["latent"], middle(drawn["conv3"], 3), middle(drawn["conv1"], 5))
    with torch.no_grad():
        frame = decoder(encoding)
    close(frame, reference_arrays(PARTS)["dec_out"], 3e-5)


def test_wavelets():
    arrays = reference_arrays(PARTS)
    image = torch.from_numpy(arrays["dwt_in"])
    close(haar(image), arrays["dwt_out"], 2e-6)
    close(inverse_haar(torch.from_numpy(arrays["dwt_out"])), arrays["iwt_out"], 2e-6)


def test_conv_lstm():
    facts = reference_json(PARTS)["convlstm"]
    arrays = reference_arrays(PARTS)
    cell = ConvLSTM(*facts["args"])
    keys = {f"Gates.{name}": p for name, p in cell.Gates.named_parameters()}
    shapes = {key: v.shape for key, v in keys.items()}
    cell.load_state_dict(recipe_weights(shapes, facts["weight_seed"], facts["weight_scale"]))
    features = normal_values(facts["input_seed"], facts["input_shape"])
    shape = tuple(facts["state_shape"])
    state = (
        normal_values(facts["prev_hidden_seed"], shape),
        normal_values(facts["prev_cell_seed"], shape),
    )
    zeros = (torch.zeros(shape), torch.zeros(shape))
    with torch.no_grad():
        found = {"nostate": cell(features), "state": cell(features, state)}
        spelt_out = cell(features, zeros)
    for (name, pair), (index, part) in itertools.product(
        found.items(), enumerate(("hidden", "cell"))
    ):
        close(pair[index], arrays[f"convlstm_{part}_{name}"], 2e-6)
    for short, whole in zip(found["nostate"], spelt_out, strict=True):
        torch.testing.assert_close(short, whole, rtol=0, atol=2e-6)
