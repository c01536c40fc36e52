"""SCI against values computed by the published implementation."""

import hashlib

import numpy as np
import pytest
import torch
from recipes import image_recipe_weights, low_light_input
from torch import Tensor, nn

from llve_common.enhance.frames import enhance_frames
from llve_common.io.images import read_image, to_pixels, to_tensor
from llve_common.paper.contract import State
from llve_common.testing.reference import Case, cases, reference_json, shared_file
from llve_common.train.loader import stack_samples
from llve_common.weights.files import load_into, read_weights
from llve_sci.config import FinetuneSettings, TrainSettings
from llve_sci.data import LowLightImages
from llve_sci.network import Cascade, Enhancer, divide, initialise
from llve_sci.objective import illumination_loss, smoothness, to_ycbcr
from llve_sci.paper import PAPER
from llve_sci.weights import from_published, to_published

pytestmark = pytest.mark.reference
SET = "sci_sgz"


def sci_models() -> dict:
    return {k: v for k, v in reference_json(f"{SET}/models").items() if k.startswith("sci_")}


def recipe(model: str, seed: int) -> State:
    return image_recipe_weights(reference_json(f"{SET}/models")[model]["state_dict"], seed)


def network_of(settings: dict, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network of a case, with the recipe's or the published weights."""
    whole = settings.get("model") == "sci_network"
    network = Cascade(settings["stage"]) if whole else Enhancer()
    if settings.get("official_weights"):
        path = shared_file("data", "sci", "weights", f"{settings['official_weights']}.pt")
        state = from_published(read_weights(path))
    else:
        state = from_published(recipe(settings["model"], settings["weight_seed"]))
    load_into(
        network, {k: v for k, v in state.items() if whole or k.startswith("enhance.")}, "recipe"
    )
    return network.to(dtype)


def total_loss(network: Cascade, image: Tensor) -> Tensor:
    settings = TrainSettings()
    losses = PAPER.procedures["train"].objective(settings, torch.device("cpu"))(
        network, {"low": image}, 1
    )
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize(
    ("model", "build"),
    [
        ("sci_network", Cascade),
        ("sci_finetunemodel", Enhancer),
        ("sci_enhancenetwork", lambda: Enhancer().enhance),
        ("sci_calibratenetwork", lambda: Cascade().calibrate),
    ],
)
def test_keys_shapes_and_parameters(model, build):
    facts = reference_json(f"{SET}/models")[model]
    network = build()
    # The parts are published without the prefix that our key map works on.
    prefix = {"sci_enhancenetwork": "enhance.", "sci_calibratenetwork": "calibrate."}.get(model, "")
    ours = {prefix + key: value for key, value in network.state_dict().items()}
    published = {k.removeprefix(prefix): v for k, v in to_published(ours).items()}
    assert {k: (list(v.shape), str(v.dtype)) for k, v in published.items()} == {
        k: (v["shape"], f"torch.{v['dtype']}") for k, v in facts["state_dict"].items()
    }
    assert [name for name, _ in network.named_parameters()] == facts["parameter_names"]
    assert sum(p.numel() for p in network.parameters()) == facts["parameters"]


def test_every_sci_model_is_covered():
    assert set(sci_models()) == {
        "sci_network", "sci_finetunemodel", "sci_enhancenetwork", "sci_calibratenetwork",
    }  # fmt: skip


@pytest.mark.parametrize("model", ["sci_network", "sci_finetunemodel"])
def test_weight_recipe(model):
    facts = reference_json(f"{SET}/recipe_check")[model]
    drawn = image_recipe_weights(
        reference_json(f"{SET}/models")[model]["state_dict"], facts["seed"], facts["gain"]
    )
    assert digest(drawn) == facts["sha256_drawn"]
    assert digest(to_published(from_published(drawn))) == facts["sha256_loaded"]


def digest(state: State) -> str:
    floats = [v.numpy().tobytes() for _, v in sorted(state.items()) if v.is_floating_point()]
    return hashlib.sha256(b"".join(floats)).hexdigest()


def test_initial_weights():
    facts = reference_json(f"{SET}/pipeline")["sci_init"]
    torch.manual_seed(facts["seed"])
    network = PAPER.procedures["train"].network(TrainSettings())
    state = to_published(network.state_dict())
    actual = {
        key: hashlib.sha256(value.numpy().tobytes()).hexdigest() for key, value in state.items()
    }
    assert {key: actual[key] for key in facts["sha256"]} == facts["sha256"]


@pytest.mark.parametrize("case", cases(f"{SET}/sci_forward"))
def test_forward(case: Case):
    arrays = run_forward(case, torch.float32)
    for array in case.arrays:
        if not array.startswith(("f64", "f64s4")):
            case.check(array, arrays[array])


@pytest.mark.parametrize("case", cases(f"{SET}/sci_forward", holding="f64"))
def test_forward_in_double_precision(case: Case):
    arrays = run_forward(case, torch.float64)
    for array in case.arrays:
        if not array.startswith("f64"):
            continue
        kind, _, name = array.partition("/")
        if kind == "f64":
            np.testing.assert_allclose(arrays[name], case[array], rtol=1e-8, equal_nan=True)
        else:
            # Stored in single precision.
            actual = arrays[name][..., ::4, ::4].astype(np.float32)
            np.testing.assert_allclose(actual, case[array], rtol=2e-7, atol=1e-12)


def run_forward(case: Case, dtype: torch.dtype) -> dict[str, np.ndarray]:
    settings = case.settings
    image = low_light_input(settings["input_seed"], tuple(settings["input_shape"]))
    if "input_sha256" in settings:
        assert hashlib.sha256(image.tobytes()).hexdigest() == settings["input_sha256"]
    network = network_of(settings, dtype).train(settings["mode"] == "train")
    tensor = torch.from_numpy(image).to(dtype)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        if isinstance(network, Cascade):
            for k, stage in enumerate(network.unroll(tensor)):
                found[f"in{k}"], found[f"illu{k}"] = stage.input, stage.illumination
                found[f"refl{k}"], found[f"att{k}"] = stage.reflectance, stage.calibration.abs()
        else:
            found["illu"], found["refl"] = network(tensor)
            found["input"] = tensor
        # Copied: the state dict is a view, and the loss below may move the statistics on.
        found |= {f"after.{k}": v.clone() for k, v in network.state_dict().items()}
        if isinstance(network, Cascade):
            found["loss_eval_after"] = total_loss(network.eval(), tensor)
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("case", cases(f"{SET}/sci_loss"))
def test_loss(case: Case):
    image = torch.from_numpy(case["input"].copy()).requires_grad_()
    illumination = torch.from_numpy(case["illu"].copy()).requires_grad_()
    losses = illumination_loss(image, illumination)
    total = losses["fidelity"] + losses["smoothness"]
    total.backward()
    actual = {
        "total": total.detach(),
        # The file has the mean squared error itself.
        "fidelity": losses["fidelity"].detach() / 1.5,
        "smoothness": losses["smoothness"].detach(),
        "ycbcr": to_ycbcr(image).detach(),
        "grad_illu": illumination.grad,
        "grad_input": image.grad,
        "smoothness_if_per_pixel": smoothness(image, illumination, "per-pixel").detach(),
    }
    for array in case.arrays:
        if array not in {"input", "illu"} and not array.startswith("f64/"):
            case.check(array, actual[array])


@pytest.mark.parametrize("case", cases(f"{SET}/sci_loss", holding="f64"))
def test_loss_in_double_precision(case: Case):
    image, illumination = (torch.from_numpy(case[name]).double() for name in ("input", "illu"))
    losses = illumination_loss(image, illumination)
    actual = {
        "total": sum(losses.values()),
        "fidelity": losses["fidelity"] / 1.5,
        "smoothness": losses["smoothness"],
        "smoothness_if_per_pixel": smoothness(image, illumination, "per-pixel"),
    }
    for array in case.arrays:
        if array.startswith("f64/"):
            np.testing.assert_allclose(actual[array[4:]], case[array], rtol=1e-8)


def train_steps(case: Case, dtype: torch.dtype, steps: int | None = None) -> dict:
    settings = case.settings
    network = network_of(settings, dtype)
    whole = isinstance(network, Cascade)
    chosen = (TrainSettings if whole else FinetuneSettings)()
    procedure = PAPER.procedures["train" if whole else "finetune"]
    assert chosen.train.lr == settings["lr"]
    assert list(chosen.train.betas) == settings["betas"]
    assert chosen.train.weight_decay == settings["weight_decay"]
    assert chosen.train.clip_norm == settings["clip"]
    objective = procedure.objective(chosen, torch.device("cpu"))
    optimizer = procedure.optimizer(chosen, network)
    image = torch.from_numpy(
        low_light_input(settings["input_seed"], tuple(settings["input_shape"]))
    ).to(dtype)
    batch = stack_samples([{"low": one} for one in image])
    found: dict = {"losses": [], "grad_norms": []}
    for iteration in range(1, (steps or settings["steps"]) + 1):
        procedure.before_step(chosen, network, iteration)
        optimizer.zero_grad()
        total = torch.stack(list(objective(network, batch, iteration).values())).sum()
        total.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), chosen.train.clip_norm)
        optimizer.step()
        found["losses"].append(total.item())
        found["grad_norms"].append(norm.item())
        if iteration in {10, 20} and not whole:
            modes = network.training
            with torch.no_grad():
                found[f"refl_step{iteration}"] = network.eval()(image)[1].numpy()
            network.train(modes)
    for key, value in to_published(network.state_dict()).items():
        flat = value.double().numpy().ravel()
        places = np.unique(np.linspace(0, flat.size - 1, min(flat.size, 8)).astype(int))
        found[f"p/{key}/stats"] = np.array([flat.mean(), flat.std(), np.linalg.norm(flat)])
        found[f"p/{key}/samples"] = flat[places]
    if whole:
        with torch.no_grad():
            found["eval_illu0"], found["eval_refl0"] = (
                value.numpy() for value in network.eval()(image)
            )
    return found


@pytest.mark.parametrize("case", cases(f"{SET}/sci_train", holding="f64"))
def test_training_steps_in_double_precision(case: Case):
    found = train_steps(case, torch.float64)
    exact = [array for array in case.arrays if array.startswith("f64/")]
    rtol = 1e-6 if case.name == "finetune_official_22" else 1e-8
    for array in exact:
        expected = case[array]
        actual = np.asarray(found[array.removeprefix("f64/")])
        # Relative to the array's largest value: some tensors hold single values near zero.
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale, err_msg=array)


@pytest.mark.parametrize("case", cases(f"{SET}/sci_train"))
def test_training_losses_in_single_precision(case: Case):
    # Batch norm over variances near 1e-6 makes later float32 steps noise (the set's README).
    found = train_steps(case, torch.float32, steps=min(case.settings["steps"], 10))
    expected = case["losses"][: len(found["losses"])]
    facts = case.noise["losses"]
    noise = np.maximum(np.array(facts["noise_f64_each"]), facts["noise_threads"])[: len(expected)]
    np.testing.assert_array_less(
        np.abs(np.array(found["losses"]) - expected),
        np.maximum(10 * noise, 2e-6 * facts["max_abs"]) + 1e-12,
    )


def test_published_finetuning_in_double_precision():
    facts = reference_json(f"{SET}/finetune_official")
    image = shared_file("data", "sci", "finetune", "low", "LIME_9.bmp")
    assert hashlib.sha256(image.read_bytes()).hexdigest() == facts["image_sha256"]
    settings = FinetuneSettings()
    procedure = PAPER.procedures["finetune"]
    network = network_of({"model": "sci_finetunemodel", "official_weights": "difficult"}).double()
    batch = {"low": to_tensor(read_image(image).pixels)[None].double()}
    objective = procedure.objective(settings, torch.device("cpu"))
    optimizer = procedure.optimizer(settings, network)
    losses = []
    for iteration in range(1, 6):
        procedure.before_step(settings, network, iteration)
        optimizer.zero_grad()
        total = torch.stack(list(objective(network, batch, iteration).values())).sum()
        total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.train.clip_norm)
        optimizer.step()
        losses.append(total.item())
    np.testing.assert_allclose(losses, facts["losses_float64_first20"][:5], atol=1.5e-6)


def official_images() -> list:
    return [p for p in cases(f"{SET}/official_outputs") if (p.id or "").startswith(("sci/", "abs"))]


@pytest.mark.parametrize("case", official_images())
def test_published_weights_on_published_images(case: Case):
    facts = case.settings
    _, group, stem = case.name.split("/")
    source = next(shared_file("data", "sci", group, "low").glob(f"{stem}.*"))
    image = read_image(source)
    decoded_alike = (
        hashlib.sha256(image.pixels.tobytes()).hexdigest() == facts["decoded_rgb_sha256"]
    )
    assert decoded_alike, "this machine's decoder gives other pixels"
    network = network_of({"model": "sci_finetunemodel", "official_weights": group}).eval()
    enhanced = enhance_frames(PAPER, network, to_tensor(image.pixels)[None, None])[0, 0]
    with torch.no_grad():
        illumination = network.enhance(to_tensor(image.pixels)[None])[0]
    for array in case.arrays:
        kind, _, stride = array.partition("_s")
        whole, noise = {
            "refl": (enhanced, facts["reflectance_noise_f64"]),
            "illu": (illumination, facts["illumination_noise_f64"]),
        }[kind]
        step = int(stride)
        case.check(array, whole.permute(1, 2, 0).numpy()[::step, ::step], noise)
    difference = np.abs(
        to_pixels(enhanced, "truncate").astype(int)
        - read_image(shared_file("data", "sci", group, "published", f"{stem}.png")).pixels
    )
    if "decode_ijg9" in facts:
        # 4:2:0 JPEG: the published pictures were made with another decoder.
        assert 10 * np.log10(255**2 / np.mean(difference**2.0)) >= 36
    else:
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 1e-4 * difference.size


def test_loader_order(tmp_path):
    facts = reference_json(f"{SET}/pipeline")["sci_loader"]
    for name in reversed(facts["order"]):
        (tmp_path / name).touch()
    from llve_common.io.folders import list_images

    assert [path.name for path in list_images(tmp_path, recursive=True)] == facts["order"]


def test_loader_tensors():
    facts = reference_json(f"{SET}/pipeline")["sci_loader"]
    data = LowLightImages(shared_file("data", "sci", facts["set"], "low"))
    by_name = {path.name: index for index, path in enumerate(data.paths)}
    present = facts["tensor_sha256"].keys() & by_name.keys()
    absent = facts["tensor_sha256"].keys() - by_name.keys()
    # The shared README lists these as not applicable: their files are not at hand.
    assert absent <= {"00051.png", "00091.png", "NPE_71.png"}
    assert present
    for name in present:
        tensor = data.sample(by_name[name], None)["low"]
        assert hashlib.sha256(tensor.numpy().tobytes()).hexdigest() == facts["tensor_sha256"][name]


def test_eight_bits():
    facts = reference_json(f"{SET}/pipeline")["save"]
    values = torch.tensor(facts["values"]).expand(3, 1, -1)
    assert to_pixels(values, "truncate")[0, :, 0].tolist() == facts["sci_truncate"]
    assert to_pixels(values, "round")[0, :, 0].tolist() == facts["sgz_round"]


def test_parameter_and_multiply_accumulate_counts():
    from llve_common.metrics.cost import multiply_accumulates, parameter_count

    network = Enhancer().eval()
    runs = [r for r in reference_json(f"{SET}/speed")["runs"] if r["model"] == "sci_finetunemodel"]
    assert runs
    sizes = {(run["height"], run["width"]): run for run in runs}
    (height, width), run = min(sizes.items())
    assert parameter_count(network) == run["parameters"]
    image = torch.zeros(1, 3, height, width)
    assert 2 * multiply_accumulates(lambda: network(image)) == run["conv_flops"]


def test_divide_is_clipped_division():
    ones = torch.ones(1, 3, 2, 2)
    assert torch.equal(divide(ones, ones * 0.5), ones)
    torch.manual_seed(0)
    network = Enhancer()
    initialise(network)
    assert network.enhance.in_conv[0].bias.abs().max() == 0
