"""SGZ against values computed by the published implementation."""

import random
import re
from functools import cache
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from recipes import (
    case_image,
    check_arrays,
    check_keys,
    check_pixels,
    check_thinned,
    digest,
    recipe_weights,
    sha256,
    state_summary,
    thinned,
    training_steps,
    uniform_values,
)
from torch import nn

from llve_common.clips.folders import list_images
from llve_common.enhance.frames import enhance_frames
from llve_common.evaluate.test import Pictures, evaluate
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_common.paper.contract import Clip, Model, Scoring, State
from llve_common.testing.reference import (
    Case,
    cases,
    reference_arrays,
    reference_json,
    require_known,
    shared_file,
)
from llve_common.weights.files import load_into, read_weights
from llve_sgz.config import NetworkSettings, ObjectiveSettings, SegmentationSettings, TrainSettings
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
from llve_sgz.paper import PAPER

pytestmark = pytest.mark.reference
SET = "sci_sgz"


def build(model: str) -> nn.Module:
    """The network of a model's name: sgz_fpn<classes>, or sgz_<conv type>_s<scale>."""
    kind = model.removeprefix("sgz_")
    if kind.startswith("fpn"):
        return Segmenter(int(kind.removeprefix("fpn")))
    conv_type, _, scale = kind.partition("_s")
    return Enhancer(int(scale), conv_type)


@cache
def recipe(model: str, seed: int, gain: float = 1.0) -> State:
    """Drawn once: a segmentation network has 28 million values."""
    # Not every scale factor is listed: they change no key.
    kind = re.sub(r"_s\d+$", "", model)
    entries = next(
        facts["state_dict"]
        for name, facts in reference_json(f"{SET}/models").items()
        if re.sub(r"_s\d+$", "", name) == kind
    )
    return recipe_weights(entries, seed, 0.05 * gain)


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> Enhancer:
    """The network of a case, with the recipe's or the published weights."""
    network = build(settings["model"])
    if settings.get("official_weights"):
        state = read_weights(shared_file("data", "sgz", settings["official_weights"]))
    else:
        state = recipe(settings["model"], settings["weight_seed"], settings["gain"])
    load_into(network, PAPER.from_published(state), "recipe")
    return network.to(dtype)


def segmenter_of(model: str, settings: dict, dtype: torch.dtype = torch.float32) -> Segmenter:
    scale = settings["head_scale"]
    state = recipe(model, settings["weight_seed"])
    network = build(model)
    load_into(
        network, {k: v * scale if k.startswith("fpn.") else v for k, v in state.items()}, "recipe"
    )
    return network.to(dtype).requires_grad_(False).train(settings["mode"] == "train")


# Keys, counts, the recipe


@pytest.mark.parametrize("case", cases(f"{SET}/models", "sgz_.*"))
def test_keys_shapes_and_parameters(case: Case):
    facts, network = case.settings, build(case.name)
    published = PAPER.to_published(network.state_dict())
    check_keys(published, facts["state_dict"])
    assert [name for name, _ in network.named_parameters()] == facts["parameter_names"]
    assert parameter_count(network) == facts["parameters"]


@pytest.mark.parametrize("case", cases(f"{SET}/recipe_check", "(?!sci_).*"))
def test_weight_recipe(case: Case):
    facts = case.settings
    drawn = recipe(case.name.partition("_gain")[0], facts["seed"], facts["gain"])
    assert digest(drawn) == facts["sha256_drawn"]
    assert digest(PAPER.to_published(PAPER.from_published(drawn))) == facts["sha256_loaded"]


def test_parameter_and_multiply_accumulate_counts():
    runs = reference_json(f"{SET}/speed")["runs"]
    runs = [run for run in runs if run["model"].startswith("sgz_")]
    smallest = {run["model"]: run for run in sorted(runs, key=lambda run: -run["height"])}
    assert smallest
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
    network, image = network_of(case.settings), case_image(case.settings)
    assert network.scale_factor == case.settings["scale_factor"]
    if "error" in case.settings:
        assert case.settings["error"] == "RuntimeError"
        with pytest.raises(RuntimeError, match=re.escape(case.settings["message"])):
            network(image)
        return
    with torch.no_grad():
        enhanced, factor = network(image)
    check_arrays(case, {"enhanced": enhanced, "x_r": factor})


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_fpn"))
def test_segmentation_network(case: Case):
    settings = case.settings
    network = segmenter_of(settings["model"], settings)
    with torch.no_grad():
        logits = network(uniform_values(settings["input_seed"], settings["input_shape"]))
    actual = {
        "logits": logits,
        "target": logits.argmax(1),
        "focal_g2": segmentation(logits),
        "mean": logits.mean(),
        "std": logits.std(),
        **{f"after.{key}": value for key, value in network.state_dict().items()},
    }
    check_arrays(case, actual)


# The losses

LOSS, FOCAL, GREY, TIES = r"case\d+", r"focal_scale[\d.]+", "grey", "focal_ties"


def test_every_kind_of_loss_case_is_compared():
    require_known(reference_json(f"{SET}/sgz_loss"), LOSS, FOCAL, GREY, TIES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("case", cases(f"{SET}/sgz_loss", LOSS))
def test_losses(case: Case, dtype):
    low, enhanced, factor = (
        torch.from_numpy(case[name].copy()).to(dtype) for name in ("low", "enhanced", "A")
    )
    enhanced.requires_grad_()
    factor.requires_grad_()
    terms = enhancement_losses(
        low,
        enhanced,
        factor,
        exposure_level=case.settings["exp_level"],
        patch_size=case.settings["patch_size"],
    )
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    found = {
        "L_color": colour(enhanced),
        "L_spa": spatial(low, enhanced, corners=False),
        "term_tv": terms["tv"],
        "term_spa": terms["spatial"],
        "term_col": terms["colour"],
        "term_exp": terms["exposure"],
        "total_without_seg": total,
        "grad_enhanced": enhanced.grad,
        "grad_A": factor.grad,
    }
    forms = {
        r"L_TV(?:_w([\d.]+))?": lambda weight: float(weight or 1) * total_variation(factor),
        r"L_spa8_p(\d+)": lambda size: spatial(enhanced, low, int(size)),
        r"L_exp16_E([\d.]+)": lambda level: exposure(enhanced, float(level)),
        r"L1_exp16_E([\d.]+)": lambda level: smooth_exposure(enhanced, float(level)),
    }
    for array in case.arrays:
        for form, loss in forms.items():
            if match := re.fullmatch(f"(?:f64/)?({form})", array):
                found[match[1]] = loss(match[2])
    found = {name: value.detach().numpy() for name, value in found.items()}
    if dtype == torch.float64:
        case.check_exact(found, 1e-8)
    else:
        check_arrays(case, found, "low", "enhanced", "A")


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_loss", GREY))
def test_the_colour_of_a_grey_image_has_the_published_value_and_a_gradient(case: Case):
    facts = case.settings
    assert facts["grad_is_nan"]
    size, grey = re.search(r"([\dx]+) image of ([\d.]+\d)", facts["note"]).groups()
    image = torch.full([int(side) for side in size.split("x")], float(grey), requires_grad=True)
    loss = colour(image)
    loss.sum().backward()
    assert loss.item() == facts["value"]
    assert torch.equal(image.grad, torch.zeros_like(image))


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_loss", FOCAL))
def test_focal_loss(case: Case):
    logits = torch.from_numpy(case["logits"].copy()).requires_grad_()
    own, other = logits.argmax(1), torch.from_numpy(case["random_target"].astype(np.int64))
    segmentation(logits).backward()
    found = {
        "target": own,
        "one_hot_sum": torch.nn.functional.one_hot(own, logits.shape[1]).sum((0, 1, 2)),
        "grad_logits_g2": logits.grad,
    }
    for array in case.arrays:
        if match := re.fullmatch(r"focal_g(\d)(_\w+)?", array):
            gamma, form = match.groups()
            pixels = focal(logits, other if form == "_random_target" else own, int(gamma))
            found[array] = {"_map": pixels, "_sum": pixels.sum()}.get(form, pixels.mean())
    for array in case.arrays:
        if array not in {"logits", "random_target"}:
            case.check(array, found[array].detach().numpy().astype(case[array].dtype))


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_loss", TIES))
def test_focal_loss_of_ties_takes_the_first_class(case: Case):
    size = re.search(r"\d+x[\dx]+", case.settings["note"])[0]
    logits = torch.zeros([int(side) for side in size.split("x")])
    assert logits.argmax(1).flatten().tolist() == case.settings["target"]
    assert segmentation(logits).item() == pytest.approx(case.settings["focal_g2"], rel=1e-6)


# Training


def train_steps(case: Case, dtype: torch.dtype, monkeypatch, steps: int) -> dict:
    settings, seg = case.settings, case.settings["seg"]
    chosen = TrainSettings(
        network=NetworkSettings(
            scale_factor=settings["scale_factor"], conv_type=settings["conv_type"]
        ),
        objective=ObjectiveSettings(
            exp_level=settings["exp_level"], patch_size=settings["patch_size"]
        ),
        segmentation=SegmentationSettings(use=seg is not None),
        train={
            "lr": settings["lr"],
            "weight_decay": settings["weight_decay"],
            "clip_norm": settings["clip"],
        },
    )
    segmenter = None
    if seg is not None:
        segmenter = segmenter_of(f"sgz_fpn{seg['classes']}", seg, dtype)
        monkeypatch.setattr("llve_sgz.paper.build_segmenter", lambda *_: segmenter)
    network, image = network_of(settings, dtype), case_image(settings).to(dtype)
    taken = list(training_steps(PAPER, chosen, network, image, steps))
    found = {
        "losses": [sum(parts) for parts, _ in taken],
        "grad_norms": [norm for _, norm in taken],
        "terms_tv_spa_col_exp": [parts[:4] for parts, _ in taken],
        "seg_term_times_0.1": [part for parts, _ in taken for part in parts[4:]],
        **state_summary(PAPER.to_published(network.state_dict())),
    }
    if segmenter is not None:
        found["seg_bn1_running_mean"] = segmenter.resnet.bn1.running_mean.numpy()
    with torch.no_grad():
        outputs = dict(zip(("enhanced_after", "x_r_after"), network(image), strict=True))
    for array in case.arrays:
        name, step = thinned(array)
        if name in outputs:
            found[array] = outputs[name][..., ::step, ::step]
    return found


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_train"))
def test_training_steps_in_double_precision(case: Case, monkeypatch):
    found = train_steps(case, torch.float64, monkeypatch, case.settings["steps"])
    check_arrays(case, found)
    case.check_exact(found, 1e-6 if case.settings["seg"] else 1e-8)


@pytest.mark.parametrize("case", cases(f"{SET}/sgz_train"))
def test_training_losses_in_single_precision(case: Case, monkeypatch):
    # The segmentation network's steps are in double precision above; one shows that float32 works.
    steps = 1 if case.settings["seg"] else case.settings["steps"]
    losses = train_steps(case, torch.float32, monkeypatch, steps)["losses"]
    case.check("losses", losses, first=steps)


# Data


def test_loader_tensors():
    arrays, present = reference_arrays(f"{SET}/pipeline"), 0
    require_known(arrays, r"sgz_loader/[^/]+/s\d+")
    for name, facts in reference_json(f"{SET}/pipeline")["sgz_loader"].items():
        folder = shared_file("data", "sci", PurePosixPath(facts["source"]).parent.name, "low")
        # The shared README lists files of some entries as not at hand.
        if not (folder / name).is_file():
            continue
        present += 1
        data = LowLightImages(list_images(folder), facts["shape"][-1])
        index = [path.name for path in data.files].index(name)
        tensor = data.sample(index, random.Random(0))["low"]
        assert list(tensor.shape) == facts["shape"]
        assert sha256(tensor) == facts["sha256"]
        for array, (whole, step) in {each: thinned(each) for each in arrays}.items():
            if whole == f"sgz_loader/{PurePosixPath(name).stem}":
                np.testing.assert_array_equal(tensor[:, ::step, ::step], arrays[array])
    if not present:
        pytest.skip("none of the listed images is at hand")


def test_shuffle_order(tmp_path):
    facts = reference_json(f"{SET}/pipeline")["sgz_loader_shuffle"]
    for count, order in facts.items():
        paths = [tmp_path / f"{number:04d}.jpg" for number in range(int(count))]
        assert [int(path.stem) for path in shuffled(paths)] == order


def test_rounding():
    facts = reference_json(f"{SET}/pipeline")["save"]
    pixels = to_pixels(torch.tensor(facts["values"]).expand(3, 1, -1), PAPER.rounding)
    assert pixels[0, :, 0].tolist() == facts["sgz_round"]
    require_known(facts, "values", "sci_truncate", "sgz_round")


def test_crop(tmp_path):
    for facts in reference_json(f"{SET}/pipeline")["sgz_crop"]:
        source, target = tmp_path / "in.png", tmp_path / "out.png"
        pixels = np.random.default_rng(0).integers(0, 80, (facts["h"], facts["w"], 3), np.uint8)
        write_image(source, pixels)
        network = Enhancer(facts["scale"]).eval()
        for parameter in network.parameters():
            nn.init.zeros_(parameter)  # the factor is then 0, and the image stays as it is
        evaluate(
            Model(PAPER, network),
            [Clip("", (source,))],
            Scoring(fit="crop"),
            pictures=Pictures(lambda clip, frame, target=target: target),
        )
        written = read_image(target).pixels
        assert [1, 3, *written.shape[:2]] == facts["out"]
        np.testing.assert_array_equal(written, pixels[: written.shape[0], : written.shape[1]])


# The published weights on images


@pytest.mark.parametrize("case", cases(f"{SET}/official_outputs", "sgz/.*"))
def test_published_weights_on_published_images(case: Case):
    facts = case.settings
    # data/test_data/lowCUT/N.png is the upper part of data/lol_eval15/low/N.png here.
    sample, name = facts["image"].startswith("Samples/"), PurePosixPath(facts["image"]).name
    folder = ("data", "sgz") if sample else ("data", "lol_eval15", "low")
    pixels = read_image(shared_file(*folder, name)).pixels[: facts["height"]]
    assert sha256(pixels) == facts["decoded_rgb_sha256"]
    scale, weights = facts["scale_factor"], PurePosixPath(facts["weights"]).name
    network = network_of({"model": f"sgz_dsc_s{scale}", "official_weights": weights}).eval()
    image = to_tensor(pixels)[:, : facts["cropped_height"], : facts["cropped_width"]]
    with torch.no_grad():
        factor = network.factor(image[None])[0]
    enhanced = enhance_frames(Model(PAPER, network), image[None, None])[0, 0]
    planes = {"enhanced": enhanced, "x_r": factor}
    check_thinned(case, {k: (each, facts[f"{k}_noise_f64"]) for k, each in planes.items()})
    if "official_sample" in facts:
        stem = PurePosixPath(name).stem
        published = read_image(shared_file("data", "sgz", f"{stem}_published.png")).pixels
        check_pixels(to_pixels(enhanced, PAPER.rounding), published)
