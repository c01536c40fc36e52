"""SCI against values computed by the published implementation."""

import re
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
    training_steps,
)
from torch import Tensor, nn

from llve_common.clips.folders import list_images
from llve_common.enhance.frames import enhance_frames
from llve_common.io.digest import file_digest
from llve_common.io.images import read_image, to_pixels, to_tensor
from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_common.metrics.fidelity import psnr
from llve_common.paper.contract import Model
from llve_common.testing.reference import Case, cases, reference_json, require_known, shared_file
from llve_common.weights.files import load_into, read_weights
from llve_sci.config import FinetuneSettings, TrainSettings
from llve_sci.data import LowLightImages
from llve_sci.network import Cascade, Enhancer
from llve_sci.objective import illumination_loss, smoothness, to_ycbcr
from llve_sci.paper import PAPER
from llve_sci.weights import from_published, to_published

pytestmark = pytest.mark.reference
SET = "sci_sgz"
CPU = torch.device("cpu")


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network of a case, with the recipe's or the published weights."""
    whole = settings.get("model") == "sci_network"
    network = Cascade(settings["stage"]) if whole else Enhancer()
    if settings.get("official_weights"):
        path = shared_file("data", "sci", "weights", f"{settings['official_weights']}.pt")
        state = from_published(read_weights(path))
    else:
        entries = reference_json(f"{SET}/models")[settings["model"]]["state_dict"]
        state = from_published(recipe_weights(entries, settings["weight_seed"]))
    load_into(
        network, {k: v for k, v in state.items() if whole or k.startswith("enhance.")}, "recipe"
    )
    return network.to(dtype)


# The parts are published without the prefix that our key map works on.
MODELS = {
    "sci_network": (Cascade, ""),
    "sci_finetunemodel": (Enhancer, ""),
    "sci_enhancenetwork": (lambda: Enhancer().enhance, "enhance."),
    "sci_calibratenetwork": (lambda: Cascade().calibrate, "calibrate."),
}


@pytest.mark.parametrize("case", cases(f"{SET}/models", "sci_.*"))
def test_keys_shapes_and_parameters(case: Case):
    build, prefix = MODELS[case.name]
    network, facts = build(), case.settings
    ours = {prefix + key: value for key, value in network.state_dict().items()}
    published = {k.removeprefix(prefix): v for k, v in to_published(ours).items()}
    # Their order differs: a layer's other names come last here.
    check_keys(dict(sorted(published.items())), dict(sorted(facts["state_dict"].items())))
    assert [name for name, _ in network.named_parameters()] == facts["parameter_names"]
    assert parameter_count(network) == facts["parameters"]


@pytest.mark.parametrize("case", cases(f"{SET}/recipe_check", "sci_.*"))
def test_weight_recipe(case: Case):
    facts, model = case.settings, case.name.partition("_gain")[0]
    entries = reference_json(f"{SET}/models")[model]["state_dict"]
    drawn = recipe_weights(entries, facts["seed"], 0.05 * facts["gain"])
    assert digest(drawn) == facts["sha256_drawn"]
    assert digest(to_published(from_published(drawn))) == facts["sha256_loaded"]


def test_initial_weights():
    facts = reference_json(f"{SET}/pipeline")["sci_init"]
    torch.manual_seed(facts["seed"])
    state = to_published(PAPER.procedures["train"].network(TrainSettings()).state_dict())
    actual = {key: sha256(state[key]) for key in facts["sha256"]}
    assert actual == facts["sha256"]


@pytest.mark.parametrize("case", cases(f"{SET}/sci_forward"))
def test_forward(case: Case):
    check_arrays(case, run_forward(case, torch.float32))


@pytest.mark.parametrize("case", cases(f"{SET}/sci_forward", holding="f64"))
def test_forward_in_double_precision(case: Case):
    arrays = run_forward(case, torch.float64)
    case.check_exact(arrays, 1e-8)
    for array in case.arrays:
        if thinned := re.fullmatch(r"f64s(\d+)/(.*)", array):
            # Stored in single precision.
            step = int(thinned[1])
            actual = arrays[thinned[2]][..., ::step, ::step].astype(np.float32)
            np.testing.assert_allclose(actual, case[array], rtol=2e-7, atol=1e-12)


def run_forward(case: Case, dtype: torch.dtype) -> dict[str, np.ndarray]:
    network = network_of(case.settings, dtype).train(case.settings["mode"] == "train")
    image = case_image(case.settings).to(dtype)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        if isinstance(network, Cascade):
            for k, stage in enumerate(network.unroll(image)):
                found[f"in{k}"], found[f"illu{k}"] = stage.input, stage.illumination
                found[f"refl{k}"], found[f"att{k}"] = stage.reflectance, stage.calibration.abs()
        else:
            found["illu"], found["refl"] = network(image)
            found["input"] = image
        # Copied: the state dict is a view, and the loss below may move the statistics on.
        found |= {f"after.{k}": v.clone() for k, v in network.state_dict().items()}
        if isinstance(network, Cascade):
            objective = PAPER.procedures["train"].objective(TrainSettings(), CPU)
            found["loss_eval_after"] = sum(objective(network.eval(), {"low": image}, 1).values())
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("case", cases(f"{SET}/sci_loss"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_loss(case: Case, dtype):
    image, illumination = (
        torch.from_numpy(case[name].copy()).to(dtype).requires_grad_() for name in ("input", "illu")
    )
    losses = illumination_loss(image, illumination)
    total = losses["fidelity"] + losses["smoothness"]
    total.backward()
    found = {
        "total": total,
        # The file has the mean squared error itself.
        "fidelity": losses["fidelity"] / 1.5,
        "smoothness": losses["smoothness"],
        "ycbcr": to_ycbcr(image),
        "grad_illu": illumination.grad,
        "grad_input": image.grad,
        "smoothness_if_per_pixel": smoothness(image, illumination, "per-pixel"),
    }
    found = {name: value.detach() for name, value in found.items()}
    if dtype == torch.float64:
        case.check_exact(found, 1e-8)
    else:
        check_arrays(case, found, "input", "illu")


def freeze_after(settings: dict) -> int | None:
    """After how many steps batch norm freezes, which a case says by its mode."""
    told = re.fullmatch(r"train(?: until step (\d+), eval afterwards)?", settings["mode"])
    return int(told[1]) if told[1] else None


def train_steps(case: Case, dtype: torch.dtype, steps: int) -> dict:
    settings = case.settings
    network = network_of(settings, dtype)
    train = {key: settings[key] for key in ("lr", "betas", "weight_decay")}
    train["clip_norm"] = settings["clip"]
    if isinstance(network, Cascade):
        chosen = TrainSettings(train=train)
    else:
        chosen = FinetuneSettings(train=train | {"freeze_after": freeze_after(settings)})
    image, taken, looks = case_image(settings).to(dtype), [], {}
    for step, each in enumerate(training_steps(PAPER, chosen, network, image, steps), 1):
        taken.append(each)
        if f"refl_step{step}" in case.arrays:
            looks[f"refl_step{step}"] = network.eval()(image)[1].detach()
    after = state_summary(to_published(network.state_dict()))
    if isinstance(network, Cascade):
        with torch.no_grad():
            for k, stage in enumerate(network.eval().unroll(image)):
                looks |= {f"eval_illu{k}": stage.illumination, f"eval_refl{k}": stage.reflectance}
    losses, norms = [sum(parts) for parts, _ in taken], [norm for _, norm in taken]
    return {"losses": losses, "grad_norms": norms, **looks, **after}


@pytest.mark.parametrize("case", cases(f"{SET}/sci_train"))
def test_training_steps_in_double_precision(case: Case):
    found = train_steps(case, torch.float64, case.settings["steps"])
    check_arrays(case, found)
    # Published weights moved by running statistics amplify rounding (the set's README).
    case.check_exact(found, 1e-6 if case.settings.get("official_weights") else 1e-8)


@pytest.mark.parametrize("case", cases(f"{SET}/sci_train"))
def test_training_losses_in_single_precision(case: Case):
    # Batch norm over variances near 1e-6 makes later float32 steps noise (the set's README).
    steps = min(case.settings["steps"], freeze_after(case.settings) or case.settings["steps"])
    losses = train_steps(case, torch.float32, steps)["losses"]
    case.check("losses", losses, first=steps)


def test_what_the_published_scripts_have_no_option_for():
    for settings in (TrainSettings(), FinetuneSettings()):
        train = settings.train
        assert (train.betas, train.weight_decay, train.clip_norm) == ((0.9, 0.999), 3e-4, 5)


def test_published_finetuning_in_double_precision():
    facts = reference_json(f"{SET}/finetune_official")
    image = shared_file("data", "sci", "finetune", "low", PurePosixPath(facts["image"]).name)
    assert file_digest(image) == facts["image_sha256"]
    weights = re.search(r"weights/(\w+)\.pt", facts["note"])[1]
    network = network_of({"model": "sci_finetunemodel", "official_weights": weights}).double()
    tensor = to_tensor(read_image(image).pixels)[None].double()
    # The README asks for the first five; the rest is information.
    steps = training_steps(PAPER, FinetuneSettings(), network, tensor, 5)
    losses = [sum(parts) for parts, _ in steps]
    np.testing.assert_allclose(losses, facts["losses_float64_first20"][:5], atol=1.5e-6)


@pytest.mark.parametrize("case", cases(f"{SET}/official_outputs", "sci/.*"))
def test_published_weights_on_published_images(case: Case):
    facts = case.settings
    # data/easy/N.png is data/sci/easy/low/N.png here.
    group, name = PurePosixPath(facts["image"]).parts[-2:]
    image = read_image(shared_file("data", "sci", group, "low", name))
    decoded_alike = sha256(image.pixels) == facts["decoded_rgb_sha256"]
    assert decoded_alike, "this machine's decoder gives other pixels"
    weights = PurePosixPath(facts["weights"]).stem
    network = network_of({"model": "sci_finetunemodel", "official_weights": weights}).eval()
    enhanced = enhance_frames(Model(PAPER, network), to_tensor(image.pixels)[None, None])[0, 0]
    with torch.no_grad():
        illumination = network.enhance(to_tensor(image.pixels)[None])[0]
    wholes = {
        "refl": (enhanced, facts["reflectance_noise_f64"]),
        "illu": (illumination, facts["illumination_noise_f64"]),
    }
    check_thinned(case, wholes)
    name = PurePosixPath(facts["official_png"]).name
    published = read_image(shared_file("data", "sci", group, "published", name)).pixels
    if "decode_ijg9" in facts:
        # 4:2:0 JPEG: the published pictures were made with another decoder.
        assert psnr(to_pixels(enhanced, "truncate"), published) >= 36
    else:
        check_pixels(to_pixels(enhanced, "truncate"), published)


def test_all_of_the_published_pipeline_is_looked_at():
    require_known(
        reference_json(f"{SET}/pipeline"),
        "sci_init", "sci_loader", "sgz_loader(_shuffle)?", "sgz_crop", "save", "versions",
    )  # fmt: skip


def test_rounding():
    facts = reference_json(f"{SET}/pipeline")["save"]
    pixels = to_pixels(torch.tensor(facts["values"]).expand(3, 1, -1), PAPER.rounding)
    assert pixels[0, :, 0].tolist() == facts["sci_truncate"]


def test_loader_order(tmp_path):
    facts = reference_json(f"{SET}/pipeline")["sci_loader"]
    for name in reversed(facts["order"]):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path, recursive=True)] == facts["order"]


def test_loader_tensors():
    facts = reference_json(f"{SET}/pipeline")["sci_loader"]
    data = LowLightImages(
        list_images(shared_file("data", "sci", facts["set"], "low"), recursive=True)
    )
    by_name = {path.name: index for index, path in enumerate(data.files)}
    # The shared README lists files of some entries as not at hand.
    present = facts["tensor_sha256"].keys() & by_name.keys()
    if not present:
        pytest.skip("none of the listed images is at hand")
    for name in present:
        tensor = data.sample(by_name[name], None)["low"]
        assert sha256(tensor) == facts["tensor_sha256"][name]


def test_parameter_and_multiply_accumulate_counts():
    network = Enhancer().eval()
    runs = [r for r in reference_json(f"{SET}/speed")["runs"] if r["model"] == "sci_finetunemodel"]
    run = min(runs, key=lambda run: run["height"] * run["width"])
    assert parameter_count(network) == run["parameters"]
    image = torch.zeros(1, 3, run["height"], run["width"])
    assert 2 * multiply_accumulates(lambda: network(image)) == run["conv_flops"]
