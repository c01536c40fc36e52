"""SGZ against values computed by the published implementation."""

import hashlib
import random
import re
from functools import cache

import numpy as np
import pytest
import torch
from recipes import image_recipe_weights, low_light_input
from torch import Tensor, nn

from llve_common.enhance.frames import enhance_frames
from llve_common.evaluate.test import Pictures, evaluate
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_common.paper.contract import Clip, State
from llve_common.testing.reference import Case, cases, reference_json, shared_file
from llve_common.train.loader import stack_samples
from llve_common.weights.files import load_into, read_weights
from llve_sgz.config import ObjectiveSettings, SegmentationSettings, TrainSettings
from llve_sgz.data import LowLightImages, shuffled
from llve_sgz.network import Enhancer, Segmenter
from llve_sgz.objective import (
    colour,
    enhancement_losses,
    exposure,
    focal,
    segmentation,
    smooth_exposure,
    spatial,
    total_variation,
)
from llve_sgz.paper import PAPER, at_scale
from llve_sgz.weights import from_published, to_published

pytestmark = pytest.mark.reference
SET = "sci_sgz"
CPU = torch.device("cpu")


def models() -> dict:
    return {k: v for k, v in reference_json(f"{SET}/models").items() if k.startswith("sgz_")}


def build(model: str) -> nn.Module:
    """The network of a model's name: sgz_fpn21, or sgz_<conv type>_s<scale>."""
    kind = model.removeprefix("sgz_")
    if kind.startswith("fpn"):
        return Segmenter(int(kind.removeprefix("fpn")))
    conv_type, _, scale = kind.partition("_s")
    return Enhancer(int(scale), conv_type)


def entries_of(model: str) -> dict:
    # Scale factors other than 1 and 12 are not listed: they change no key.
    known = models()
    return known[model if model in known else f"{model.rpartition('_s')[0]}_s1"]["state_dict"]


def recipe(model: str, seed: int, gain: float = 1.0) -> State:
    return image_recipe_weights(entries_of(model), seed, gain)


@cache
def segmenter_recipe(seed: int) -> State:
    """Drawn once: 28 million values."""
    return recipe("sgz_fpn21", seed)


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> Enhancer:
    """The network of a case, with the recipe's or the published weights."""
    model = settings["model"]
    network = build(model)
    if settings.get("official_weights"):
        state = read_weights(shared_file("data", "sgz", settings["official_weights"]))
    else:
        state = recipe(model, settings["weight_seed"], settings["gain"])
    load_into(network, from_published(state), "recipe")
    return network.to(dtype)


def segmenter_of(seed: int, head_scale: float, dtype: torch.dtype = torch.float32) -> Segmenter:
    network = Segmenter()
    state = segmenter_recipe(seed)
    scaled = {k: v * head_scale if k.startswith("fpn.") else v for k, v in state.items()}
    load_into(network, scaled, "recipe")
    return network.to(dtype).requires_grad_(False)


def image_of(settings: dict) -> Tensor:
    image = low_light_input(settings["input_seed"], tuple(settings["input_shape"]))
    if "input_sha256" in settings:
        assert hashlib.sha256(image.tobytes()).hexdigest() == settings["input_sha256"]
    return torch.from_numpy(image)


# Keys, counts, the recipe


def test_every_sgz_model_is_covered():
    assert set(models()) == {
        "sgz_dsc_s1", "sgz_dsc_s12", "sgz_tc_s1", "sgz_tc_s12", "sgz_fpn21",
    }  # fmt: skip


@pytest.mark.parametrize(
    "model", ["sgz_dsc_s1", "sgz_dsc_s12", "sgz_tc_s1", "sgz_tc_s12", "sgz_fpn21"]
)
def test_keys_shapes_and_parameters(model):
    facts = reference_json(f"{SET}/models")[model]
    network = build(model)
    published = to_published(network.state_dict())
    assert {k: (list(v.shape), str(v.dtype)) for k, v in published.items()} == {
        k: (v["shape"], f"torch.{v['dtype']}") for k, v in facts["state_dict"].items()
    }
    assert [name for name, _ in network.named_parameters()] == facts["parameter_names"]
    assert parameter_count(network) == facts["parameters"]


def recipe_checks() -> list:
    return [case for case in cases(f"{SET}/recipe_check") if not (case.id or "").startswith("sci_")]


@pytest.mark.parametrize("case", recipe_checks())
def test_weight_recipe(case: Case):
    facts = case.settings
    model = case.name.partition("_gain")[0]
    entries = f"{model}_s1" if f"{model}_s1" in models() else model
    drawn = image_recipe_weights(entries_of(entries), facts["seed"], facts["gain"])
    assert digest(drawn) == facts["sha256_drawn"]
    assert digest(to_published(from_published(drawn))) == facts["sha256_loaded"]
    first, last = facts["first_values"], facts["last_values"]
    np.testing.assert_array_equal(
        drawn[facts["first_key"]].flatten()[: len(first)], np.array(first, np.float32)
    )
    np.testing.assert_array_equal(
        drawn[facts["last_key"]].flatten()[-len(last) :], np.array(last, np.float32)
    )


def digest(state: State) -> str:
    floats = [v.numpy().tobytes() for _, v in sorted(state.items()) if v.is_floating_point()]
    return hashlib.sha256(b"".join(floats)).hexdigest()


def test_parameter_and_multiply_accumulate_counts():
    runs = [
        run for run in reference_json(f"{SET}/speed")["runs"] if run["model"].startswith("sgz_")
    ]
    smallest = {run["model"]: run for run in sorted(runs, key=lambda run: -run["height"])}
    assert len(smallest) == 4
    for model, run in smallest.items():
        network = build(model).eval()
        assert parameter_count(network) == run["parameters"]
        image = torch.zeros(1, 3, run["height"], run["width"], device="meta")
        network.to("meta")
        count = multiply_accumulates(lambda network=network, image=image: network(image))
        assert 2 * count == run["conv_flops"]


# The networks


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_forward"))
def test_forward(case: Case):
    network, image = network_of(case.settings), image_of(case.settings)
    assert network.scale_factor == case.settings["scale_factor"]
    if "error" in case.settings:
        assert case.settings["error"] == "RuntimeError"
        with pytest.raises(RuntimeError, match=re.escape(case.settings["message"])):
            network(image)
        return
    with torch.no_grad():
        enhanced, factor = network(image)
    assert set(case.arrays) == {"enhanced", "x_r"}
    case.check("enhanced", enhanced)
    case.check("x_r", factor)


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_fpn"))
def test_segmentation_network(case: Case):
    settings = case.settings
    network = segmenter_of(settings["weight_seed"], settings["head_scale"])
    network.train(settings["mode"] == "train")
    rng = np.random.default_rng(settings["input_seed"])
    image = torch.from_numpy(rng.random(settings["input_shape"]).astype(np.float32))
    with torch.no_grad():
        logits = network(image)
    actual = {
        "logits": logits,
        "target": logits.argmax(1),
        "focal_g2": segmentation(logits),
        "mean": logits.mean(),
        "std": logits.std(),
        **{f"after.{key}": value for key, value in network.state_dict().items()},
    }
    for array in case.arrays:
        case.check(array, actual[array].numpy())


# The losses


def loss_cases(prefix: str) -> list:
    return [c for c in cases(f"{SET}/sgz_loss") if (c.id or "").startswith((prefix, "absent"))]


def test_every_loss_case_is_covered():
    listed = set(reference_json(f"{SET}/sgz_loss"))
    assert listed == {
        "case0", "case1", "grey", "focal_scale1", "focal_scale5", "focal_scale60", "focal_ties",
    }  # fmt: skip


def losses_of(case: Case, dtype: torch.dtype) -> dict[str, np.ndarray]:
    low, enhanced, factor = (
        torch.from_numpy(case[name].copy()).to(dtype) for name in ("low", "enhanced", "A")
    )
    enhanced.requires_grad_()
    factor.requires_grad_()
    chosen = ObjectiveSettings()
    assert chosen.exp_level == case.settings["exp_level"]
    assert chosen.patch_size == case.settings["patch_size"]
    terms = enhancement_losses(low, enhanced, factor)
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    found = {
        "L_color": colour(enhanced),
        "L_spa": spatial(low, enhanced, corners=False),
        "L_TV": total_variation(factor),
        "L_TV_w3": 3 * total_variation(factor),
        "term_tv": terms["tv"],
        "term_spa": terms["spatial"],
        "term_col": terms["colour"],
        "term_exp": terms["exposure"],
        "total_without_seg": total,
        "grad_enhanced": enhanced.grad,
        "grad_A": factor.grad,
    }
    for size in (3, 4, 5):
        found[f"L_spa8_p{size}"] = spatial(enhanced, low, size)
    for level in (0.5, 0.6, 0.7):
        found[f"L_exp16_E{level}"] = exposure(enhanced, level)
        found[f"L1_exp16_E{level}"] = smooth_exposure(enhanced, level)
    return {name: value.detach().numpy() for name, value in found.items()}


@pytest.mark.parametrize("case", loss_cases("case"))
def test_losses(case: Case):
    actual = losses_of(case, torch.float32)
    for array in case.arrays:
        if array not in {"low", "enhanced", "A"} and not array.startswith("f64/"):
            case.check(array, actual[array])


@pytest.mark.parametrize("case", loss_cases("case"))
def test_losses_in_double_precision(case: Case):
    actual = losses_of(case, torch.float64)
    exact = [array for array in case.arrays if array.startswith("f64/")]
    assert exact
    for array in exact:
        np.testing.assert_allclose(actual[array[4:]], case[array], rtol=1e-8, err_msg=array)


def test_the_colour_of_a_grey_image_has_the_published_value_and_a_gradient():
    facts = reference_json(f"{SET}/sgz_loss")["grey"]
    assert facts["grad_is_nan"]
    image = torch.full((1, 3, 32, 32), 0.3, requires_grad=True)
    loss = colour(image)
    loss.sum().backward()
    assert loss.item() == facts["value"]
    assert torch.equal(image.grad, torch.zeros_like(image))


@pytest.mark.parametrize("case", loss_cases("focal_scale"))
def test_focal_loss(case: Case):
    logits = torch.from_numpy(case["logits"].copy()).requires_grad_()
    own, other = logits.argmax(1), torch.from_numpy(case["random_target"].astype(np.int64))
    loss = segmentation(logits)
    loss.backward()
    classes = torch.nn.functional.one_hot(own, logits.shape[1])
    actual = {
        "target": own,
        "one_hot_sum": classes.sum((0, 1, 2)),
        "focal_g2": loss,
        "focal_g2_sum": focal(logits, own).sum(),
        "focal_g2_map": focal(logits, own),
        "grad_logits_g2": logits.grad,
    }
    for gamma in (0, 1, 2):
        actual[f"focal_g{gamma}_random_target"] = focal(logits, other, gamma).mean()
    for gamma in (0, 1):
        actual[f"focal_g{gamma}"] = focal(logits, own, gamma).mean()
    for array in case.arrays:
        if array in {"logits", "random_target"} or array.startswith("f64/"):
            continue
        value = actual[array].detach().numpy()
        case.check(array, value.astype(case[array].dtype) if array == "one_hot_sum" else value)


@pytest.mark.parametrize("case", loss_cases("focal_scale"))
def test_focal_loss_in_double_precision(case: Case):
    exact = [array for array in case.arrays if array.startswith("f64/")]
    logits = torch.from_numpy(case["logits"]).double()
    for array in exact:
        gamma = int(array.removeprefix("f64/focal_g")[0])
        target = logits.argmax(1)
        if array.endswith("random_target"):
            target = torch.from_numpy(case["random_target"].astype(np.int64))
        pixels = focal(logits, target, gamma)
        actual = pixels.sum() if array.endswith("_sum") else pixels.mean()
        np.testing.assert_allclose(actual, case[array], rtol=1e-8, err_msg=array)


def test_focal_loss_of_ties_takes_the_first_class():
    facts = reference_json(f"{SET}/sgz_loss")["focal_ties"]
    logits = torch.zeros(1, 21, 2, 2)
    assert logits.argmax(1).flatten().tolist() == facts["target"]
    assert segmentation(logits).item() == pytest.approx(facts["focal_g2"], rel=1e-6)


# Training


def train_steps(case: Case, dtype: torch.dtype, monkeypatch, steps: int | None = None) -> dict:
    settings, seg = case.settings, case.settings["seg"]
    chosen = TrainSettings(
        objective=ObjectiveSettings(
            exp_level=settings["exp_level"], patch_size=settings["patch_size"]
        ),
        segmentation=SegmentationSettings(use=seg is not None),
    )
    assert chosen.train.lr == settings["lr"]
    assert chosen.train.weight_decay == settings["weight_decay"]
    assert chosen.train.clip_norm == settings["clip"]
    segmenter = None
    if seg is not None:
        segmenter = segmenter_of(seg["weight_seed"], seg["head_scale"], dtype)
        segmenter.train(seg["mode"] == "train")
        monkeypatch.setattr("llve_sgz.paper.build_segmenter", lambda *_: segmenter)
    procedure = PAPER.procedures["train"]
    network = network_of(settings, dtype)
    objective = procedure.objective(chosen, CPU)
    optimizer = procedure.optimizer(chosen, network)
    image = image_of(settings).to(dtype)
    batch = stack_samples([{"low": one} for one in image])
    found: dict = {"losses": [], "grad_norms": [], "terms_tv_spa_col_exp": []}
    found["seg_term_times_0.1"] = []
    for iteration in range(1, (steps or settings["steps"]) + 1):
        procedure.before_step(chosen, network, iteration)
        optimizer.zero_grad()
        losses = objective(network, batch, iteration)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), chosen.train.clip_norm)
        optimizer.step()
        values = [loss.item() for loss in losses.values()]
        found["losses"].append(total.item())
        found["grad_norms"].append(norm.item())
        found["terms_tv_spa_col_exp"].append(values[:4])
        found["seg_term_times_0.1"].extend(values[4:])
    for key, value in to_published(network.state_dict()).items():
        flat = value.double().numpy().ravel()
        places = np.unique(np.linspace(0, flat.size - 1, min(flat.size, 8)).astype(int))
        found[f"p/{key}/stats"] = np.array([flat.mean(), flat.std(), np.linalg.norm(flat)])
        found[f"p/{key}/samples"] = flat[places]
    if segmenter is not None:
        found["seg_bn1_running_mean"] = segmenter.resnet.bn1.running_mean.numpy()
    with torch.no_grad():
        enhanced, factor = network(image)
    found["enhanced_after_s4"] = enhanced[..., ::4, ::4].numpy()
    found["x_r_after_s4"] = factor[..., ::4, ::4].numpy()
    return found


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_train"))
def test_training_steps_in_double_precision(case: Case, monkeypatch):
    found = train_steps(case, torch.float64, monkeypatch)
    exact = [array for array in case.arrays if array.startswith("f64/")]
    assert len(exact) > 30
    rtol = 1e-6 if case.settings["seg"] else 1e-8
    for array in exact:
        expected = case[array]
        actual = np.asarray(found[array.removeprefix("f64/")])
        # Relative to the array's largest value: some tensors hold single values near zero.
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale, err_msg=array)


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_train"))
def test_training_losses_in_single_precision(case: Case, monkeypatch):
    # The segmentation network's steps are in double precision above; one shows that float32 works.
    steps = 1 if case.settings["seg"] else None
    found = train_steps(case, torch.float32, monkeypatch, steps)
    facts = case.noise["losses"]
    noise = np.maximum(np.array(facts["noise_f64_each"]), facts["noise_threads"])
    count = len(found["losses"])
    np.testing.assert_array_less(
        np.abs(np.array(found["losses"]) - case["losses"][:count]),
        np.maximum(10 * noise, 2e-6 * facts["max_abs"])[:count] + 1e-12,
    )


# Data


def test_loader_tensors():
    facts = reference_json(f"{SET}/pipeline")["sgz_loader"]
    folder = shared_file("data", "sci", "difficult", "low")
    data = LowLightImages(folder, 512)
    present = {path.name: index for index, path in enumerate(data.paths)}
    # The shared README lists this one as not applicable: its file is not at hand.
    assert facts.keys() - present.keys() <= {"2015_02057.jpg"}
    found = facts.keys() & present.keys()
    assert found
    for name in found:
        tensor = data.sample(present[name], random.Random(0))["low"]
        assert list(tensor.shape) == facts[name]["shape"]
        assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == facts[name]["sha256"]


def test_shuffle_order(tmp_path):
    facts = reference_json(f"{SET}/pipeline")["sgz_loader_shuffle"]
    for count, order in facts.items():
        paths = [tmp_path / f"{number:04d}.jpg" for number in range(int(count))]
        assert [int(path.stem) for path in shuffled(paths)] == order


def test_crop(tmp_path):
    for facts in reference_json(f"{SET}/pipeline")["sgz_crop"]:
        source, target = tmp_path / "in.png", tmp_path / "out.png"
        pixels = np.random.default_rng(0).integers(0, 80, (facts["h"], facts["w"], 3), np.uint8)
        write_image(source, pixels)
        network = Enhancer(facts["scale"]).eval()
        for parameter in network.parameters():
            nn.init.zeros_(parameter)  # the factor is then 0, and the image stays as it is
        evaluate(
            at_scale(facts["scale"]),
            network,
            [Clip("", (source,))],
            device=CPU,
            fit="crop",
            pictures=Pictures(lambda clip, frame, target=target: target),
        )
        written = read_image(target).pixels
        assert [1, 3, *written.shape[:2]] == facts["out"]
        np.testing.assert_array_equal(written, pixels[: written.shape[0], : written.shape[1]])


def test_eight_bits():
    facts = reference_json(f"{SET}/pipeline")["save"]
    values = torch.tensor(facts["values"]).expand(3, 1, -1)
    assert to_pixels(values, PAPER.rounding)[0, :, 0].tolist() == facts["sgz_round"]


# The published weights on images


def official_images() -> list:
    return [p for p in cases(f"{SET}/official_outputs") if (p.id or "").startswith(("sgz/", "abs"))]


@pytest.mark.parametrize("case", official_images())
def test_published_weights_on_published_images(case: Case):
    facts = case.settings
    stem = case.name.removeprefix("sgz/")
    folder = ("data", "sgz") if stem == "F1" else ("data", "lol_eval15", "low")
    pixels = read_image(shared_file(*folder, f"{stem}.png")).pixels[: facts["height"]]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == facts["decoded_rgb_sha256"]
    network = network_of({"model": "sgz_dsc_s12", "official_weights": "Epoch99.pth"}).eval()
    image = to_tensor(pixels)[:, : facts["cropped_height"], : facts["cropped_width"]]
    with torch.no_grad():
        factor = network.factor(image[None])[0]
    enhanced = enhance_frames(PAPER, network, image[None, None])[0, 0]
    for name, whole, noise in (
        ("enhanced_s12", enhanced, facts["enhanced_noise_f64"]),
        ("x_r_s12", factor, facts["x_r_noise_f64"]),
    ):
        case.check(name, whole.permute(1, 2, 0).numpy()[::12, ::12], noise)
    if stem == "F1":
        published = read_image(shared_file("data", "sgz", "F1_published.png")).pixels
        difference = np.abs(to_pixels(enhanced, "round").astype(int) - published)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 1e-4 * difference.size
