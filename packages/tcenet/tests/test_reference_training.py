"""TCE-Net's objective, training steps and schedule against the published implementation."""

from functools import partial

import numpy as np
import pytest
import torch
from recipes import tcenet_recipe_weights, uniform_values
from torch import Tensor

from llve_common.flow.raft import Raft, raft_flow
from llve_common.nn.vgg import Vgg19Features, without_unused
from llve_common.paper.contract import Progress
from llve_common.testing.reference import check_summary, reference_arrays, reference_json
from llve_common.weights.files import load_into
from llve_tcenet.config import TrainSettings
from llve_tcenet.network import TCENet
from llve_tcenet.objective import (
    EDGE_WEIGHT,
    charbonnier,
    details,
    edge,
    perceptual,
    smoothed,
    spatial_losses,
    temporal_consistency,
)
from llve_tcenet.paper import PAPER, adam, perceptual_features, set_rate, stcl

pytestmark = pytest.mark.reference
SET = "tcenet"

# The published code defines these losses and its objective uses none of them.
UNUSED = {
    "MMD_loss", "TVLoss", "TVLoss_weight_0.5", "AngularLoss", "MultiscaleRecLoss_l1",
    "MultiscaleRecLoss_l2_scale2", "MultiscaleRecLoss_smoothl1_single", "SSIM_window11_training",
    "GANLoss_rahinge", "GANLoss_rals", "GANLoss_hinge", "GANLoss_ls", "GANLoss_original",
}  # fmt: skip
PLAIN = {"CharbonnierLoss": charbonnier, "EdgeLoss": edge}
TEMPORAL = ("temporal_train", "temporal_eval", "temporal_fixed")


def vgg_features(seed: int, scale: float):
    vgg = Vgg19Features()
    state = tcenet_recipe_weights(reference_json(f"{SET}/keys_vgg19_features"), seed, scale)
    load_into(vgg, without_unused(state, vgg), "recipe")
    return partial(perceptual_features, vgg.requires_grad_(False))


def raft_with(seed: int, scale: float, *, training: bool) -> Raft:
    raft = Raft()
    raft.load_state_dict(tcenet_recipe_weights(reference_json(f"{SET}/keys_raft"), seed, scale))
    return raft.requires_grad_(False).train(training)


class DrawnFlows:
    """Random flows in place of an estimator, drawn in the order of the published calls."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        shape = (first.shape[0], 2, *first.shape[2:])
        return torch.from_numpy((self.rng.standard_normal(shape) * 1.5).astype(np.float32))


def test_every_loss_is_covered():
    covered = {*PLAIN, "EdgeLoss_odd_size", "F_loss_features", "F_loss", "overall", *TEMPORAL}
    assert set(reference_json(f"{SET}/losses")) == covered | UNUSED


@pytest.mark.parametrize(
    ("name", "loss", "seeds", "shape"),
    [
        *[(name, loss, (61, 62), (2, 3, 64, 48)) for name, loss in PLAIN.items()],
        ("EdgeLoss_odd_size", edge, (63, 64), (1, 3, 33, 27)),
    ],
)
def test_plain_losses(name, loss, seeds, shape):
    facts = reference_json(f"{SET}/losses")[name]
    for seed, drawn in zip(seeds, (facts["x"], facts["y"]), strict=True):
        assert f"seed {seed}" in drawn
    x, y = (uniform_values(seed, shape) for seed in seeds)
    x.requires_grad_()
    value = loss(x, y)
    value.backward()
    assert value.item() == pytest.approx(facts["value"], rel=1e-5)
    check_summary(x.grad, facts["grad_first_arg"], rtol=1e-4, atol=1e-7, name=name)


def test_details():
    arrays = reference_arrays(f"{SET}/losses")
    image = uniform_values(63, (1, 3, 33, 27))
    np.testing.assert_allclose(details(image), arrays["edge_laplacian_of_xo"], rtol=0, atol=1e-6)
    impulse = torch.zeros(1, 3, 9, 9)
    impulse[..., 4, 4] = 1
    kernel = smoothed(impulse)[0, :, None, 2:7, 2:7]
    np.testing.assert_allclose(kernel, arrays["edge_kernel_3x1x5x5"], rtol=1e-6)


def test_perceptual_loss():
    facts = reference_json(f"{SET}/losses")["F_loss"]
    features = vgg_features(facts["vgg_seed"], facts["vgg_scale"])
    x, y = (uniform_values(seed, (2, 3, 64, 48)) for seed in (61, 62))
    for feature, summary in zip(
        features(x),
        reference_json(f"{SET}/losses")["F_loss_features"]["features_of_x"],
        strict=True,
    ):
        assert list(feature.shape) == summary["shape"]
        check_summary(feature, summary, rtol=1e-5, atol=1e-5)
    value = perceptual(x.requires_grad_(), y, features)
    value.backward()
    assert value.item() == pytest.approx(facts["value"], rel=1e-5)
    check_summary(x.grad, facts["grad_first_arg"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", TEMPORAL)
def test_temporal_loss(case):
    facts, arrays = reference_json(f"{SET}/losses")[case], reference_arrays(f"{SET}/losses")
    if facts["raft_seed"] is None:
        flow = DrawnFlows(72)
    else:
        training = facts["raft_mode"] == "train"
        raft = raft_with(facts["raft_seed"], facts["raft_scale"], training=training)
        flow = partial(raft_flow, raft)
    frames = torch.from_numpy(arrays["temporal_frames_u8"].astype(np.float32) / np.float32(255))
    first, second = (f[None].permute(0, 3, 1, 2).requires_grad_() for f in frames)
    value = temporal_consistency(first, second, flow)
    value.backward()
    assert value.item() == pytest.approx(facts["value"], rel=1e-5)
    for frame, number in ((first, 3), (second, 4)):
        name = f"{case}_grad{number}_s2"
        if name in arrays:
            actual = frame.grad[..., ::2, ::2].numpy()
            distance = np.linalg.norm(actual - arrays[name]) / np.linalg.norm(arrays[name])
            assert distance < 1e-2


def test_overall_loss():
    facts = reference_json(f"{SET}/losses")["overall"]
    predictions, targets = (
        [uniform_values(seed, (1, 3, 128, 128)) for seed in seeds] for seeds in ((94, 95), (92, 93))
    )
    losses = spatial_losses(predictions, targets, vgg_features(facts["vgg_seed"], 0.05))
    expected = {name: facts[name] for name in ("perceptual", "charbonnier")}
    expected["edge"] = EDGE_WEIGHT * facts["edge"]
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(facts["spatial"], rel=1e-5)
    total = sum(losses.values()).item() + facts["temporal"]
    assert total == pytest.approx(facts["total"], rel=1e-5)


# Training steps

# Its random numbers cannot be drawn again without the count of draws before the first dropout.
NOT_REBUILT = {"fixed_flow_dropout"}
STEPS = ("fixed_flow", "raft")

# By step: total, temporal, running statistics (their norm), parameters (one by one).
TOLERANCES = (
    (1e-5, 1e-5, 1e-4, 2.1e-4),
    (5e-5, 1e-3, 5e-3, 4.3e-4),
    (3e-4, 6e-3, 3e-2, 6.5e-4),
)


def test_every_training_case_is_covered():
    assert set(reference_json(f"{SET}/train_steps")) == {*STEPS} | NOT_REBUILT


@pytest.mark.parametrize("case", STEPS)
def test_training_steps(case):
    facts = reference_json(f"{SET}/train_steps")[case]
    network = TCENet()
    keys = reference_json(f"{SET}/keys_vtce")
    network.load_state_dict(tcenet_recipe_weights(keys, facts["g_seed"], facts["g_scale"]))
    network.train().encoder.aspp.project[-1].p = 0.0
    raft = raft_with(18, 0.02, training=True) if case == "raft" else None
    flow = DrawnFlows(507) if raft is None else partial(raft_flow, raft)
    objective = stcl(vgg_features(facts["vgg_seed"], facts["vgg_scale"]), flow)
    settings = TrainSettings()
    optimizer = adam(settings, network)
    assert {k: optimizer.defaults[k] for k in ("lr", "weight_decay", "eps")} == {
        k: facts["optimizer"][k] for k in ("lr", "weight_decay", "eps")
    }
    assert list(optimizer.defaults["betas"]) == facts["optimizer"]["betas"]
    for index, step in enumerate(facts["steps"]):
        losses = objective(network, batch_of(case, facts, index), index + 1)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        check_losses(losses, step, *TOLERANCES[index][:2])
        if index == 0:
            check_gradients(network, step)
        optimizer.step()
        check_state(network, step["state_after"], index)
        if raft is not None:
            check_raft(raft, step, index)


def batch_of(case: str, facts: dict, index: int) -> dict:
    arrays = reference_arrays(f"{SET}/train_batches")
    size = f"{facts['height']}x{facts['width']}"

    def frames(name: str) -> Tensor:
        pixels = arrays[f"{name}_{size}"][0 if case == "raft" else index]
        values = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
        return values.permute(0, 1, 4, 2, 3)

    real = {"low": frames("x_SDSD"), "target": frames("y_SDSD")}
    return {"real": real, "synthetic": {"low": frames("x_syn")}}


def check_losses(losses: dict, step: dict, total: float, temporal: float) -> None:
    found = {name: loss.item() for name, loss in losses.items()}
    assert sum(found.values()) == pytest.approx(step["overall_loss"], rel=total)
    assert found["temporal"] == pytest.approx(step["g_temporal_loss"], rel=temporal)
    assert found["perceptual"] == pytest.approx(step["g_percep_loss"], rel=total)
    assert found["charbonnier"] == pytest.approx(step["g_char_loss"], rel=total)
    assert found["edge"] == pytest.approx(EDGE_WEIGHT * step["g_edge_loss"], rel=10 * total)


def check_gradients(network: TCENet, step: dict) -> None:
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert gradients.keys() == step["grad"].keys()
    largest = max(summary["l2"] for summary in step["grad"].values())
    for name, summary in step["grad"].items():
        norm = float(gradients[name].norm())
        # What a layer norm cancels is rounding, whose size is the whole gradient's.
        assert norm == pytest.approx(summary["l2"], rel=1e-2, abs=1e-7 * largest), name


def check_state(network: TCENet, after: dict, index: int) -> None:
    state = network.state_dict()
    statistics, parameters = TOLERANCES[index][2:]
    for name, summary in after.items():
        if name.endswith("num_batches_tracked"):
            assert state[name].item() == summary
        elif "running" in name:
            norm = float(state[name].norm())
            assert norm == pytest.approx(summary["l2"], rel=statistics), name
        else:
            actual = state[name].flatten()[summary["idx"]]
            np.testing.assert_allclose(
                actual, summary["val"], rtol=0, atol=parameters, err_msg=name
            )
            norm = float(state[name].norm())
            assert norm == pytest.approx(summary["l2"], rel=1e-3, abs=1e-3 * (index + 1)), name


def check_raft(raft: Raft, step: dict, index: int) -> None:
    state = raft.state_dict()
    assert state["cnet.norm1.num_batches_tracked"] == step["raft_num_batches_tracked"]
    for name, summary in step["raft_bn_after"].items():
        norm = float(state[name].norm())
        assert norm == pytest.approx(summary["l2"], rel=TOLERANCES[index][2]), name


# The schedule and the defaults


def test_learning_rates():
    facts = reference_json(f"{SET}/lr_schedule")
    settings, length = TrainSettings(), 7
    assert (settings.train.epochs, settings.train.lr) == (facts["epochs"], facts["lr_init"])
    optimizer = torch.optim.Adam(TCENet().parameters(), lr=1.0)
    for epoch, expected in enumerate(facts["lr_during_epoch"]):
        for iteration in (epoch * length + 1, (epoch + 1) * length):
            set_rate(settings, optimizer, Progress(iteration, length))
            assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9, abs=1e-18)
    assert PAPER.procedures["train"].schedule is set_rate


def test_defaults():
    facts, settings = reference_json(f"{SET}/config_defaults"), TrainSettings()
    train, raft = settings.train, settings.objective.raft
    folder = "./data/"
    ours = {
        "version": settings.version,
        "total_epochs": train.epochs,
        "train_batch_size": train.batch_size,
        "repeat_times": train.repeat,
        "threads": train.workers,
        "seed": train.seed,
        "save_root_dir": f"./{settings.run.save}",
        "scale_min": train.scales[0],
        "scale_max": train.scales[1],
        "crop_size": train.crop,
        "lr_num_epochs_decay": train.decay_after,
        "lr_decay_ratio": train.decay_epochs,
        "lr_init": train.lr,
        "beta1": train.betas[0],
        "beta2": train.betas[1],
        "weight_decay": train.weight_decay,
        "raft_model_path": str(raft.weights),
        "iters": raft.iterations,
        "SDSD_dir": folder + str(settings.data.real.low.relative_to("data")),
        "SDSD_ref_dir": folder + str(settings.data.real.normal.relative_to("data")),
        "syn_dir": folder + str(settings.data.synthetic.low.relative_to("data")),
        "syn_ref_dir": folder + str(settings.data.synthetic.normal.relative_to("data")),
        "use_tensorboard": settings.run.tensorboard,
    }
    assert ours == {name: facts[name] for name in ours}
