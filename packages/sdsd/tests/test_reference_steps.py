"""SDSD's losses and training steps against values computed by the published implementation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from recipes import check_fingerprint, check_moments, check_parameters, fingerprint, with_recipe
from torch import Tensor

from llve_common.testing.reference import Case, cases, reference_arrays
from llve_sdsd.network import RetinexNet
from llve_sdsd.objective import noisier, supervised_losses

pytestmark = pytest.mark.reference
FILE = "sdsd_stcd/sdsd_steps"
# Ours, and its share of the total.
COMPONENTS = {
    "pix(fake_H,GT)": ("enhanced", 0.5),
    "pix(fake_H_noise,GT)": ("enhanced_noisier", 0.5),
    "ill(ill,target)": ("illumination", 0.25),
    "ill(ill2_noise,target)": ("illumination_noisier", 0.25),
    "pix(fake_H2_noise,LQ_center)": ("denoised", 1.0),
}
STEPS = cases(FILE, under="cases")


def network_of(settings: dict) -> RetinexNet:
    given = settings["arguments"]
    network = RetinexNet(
        nf=given["nf"],
        nframes=given["nframes"],
        groups=given["groups"],
        front_blocks=given["front_RBs"],
        back_blocks=given["back_RBs"],
        # Here, other than in the forward cases, a missing argument means no attention.
        attention=given.get("w_TSA", False),
    )
    return with_recipe(network, settings)


@dataclass
class Step:
    """A training step before its update."""

    rates: list[float]
    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]


class Training:
    """The published steps, at the learning rates that the file gives."""

    def __init__(self, case: Case, dtype: torch.dtype) -> None:
        self.settings = case.settings
        self.network = network_of(case.settings).to(dtype)
        data = Case(FILE, case.settings["data"], {})
        self.frames, self.truth = (torch.from_numpy(data[n]).to(dtype) for n in ("LQs", "GT"))
        given = case.settings["train_overrides"] or {}
        self.pixel_weight = given.get("pixel_weight", 1.0)
        self.optimizer = torch.optim.Adam(
            [{"params": list(group.values())} for group in self.groups()],
            betas=(given.get("beta1", 0.9), given.get("beta2", 0.99)),
            weight_decay=given.get("weight_decay_G", 0.0),
        )

    def groups(self) -> list[dict[str, Tensor]]:
        """All parameters, or all but the fusion's, and the fusion's."""
        whole = dict(self.network.named_parameters())
        if not self.settings["ft_tsa_only"]:
            return [whole]
        fusion = {name: whole[name] for name in whole if name.startswith("tsa_fusion")}
        return [{name: whole[name] for name in whole if name not in fusion}, fusion]

    def __iter__(self) -> Iterator[Step]:
        """Every step, before its update; the update follows when the next one is asked for."""
        for facts in self.settings["steps"]:
            for group, rate in zip(self.optimizer.param_groups, facts["lr_used"], strict=True):
                group["lr"] = rate
            self.optimizer.zero_grad()
            losses = supervised_losses(
                self.network,
                self.frames,
                self.truth,
                criterion=self.settings["pixel_criterion"],
                pixel_weight=self.pixel_weight,
            )
            torch.stack(list(losses.values())).sum().backward()
            gradients = {name: p.grad for name, p in self.network.named_parameters()}
            yield Step(facts["lr_used"], losses, gradients)
            self.optimizer.step()

    def check_losses(self, step: Step, facts: dict, tolerance: float) -> None:
        total = sum(loss.item() for loss in step.losses.values())
        assert total == pytest.approx(facts["log"]["l_pix"], rel=tolerance)
        assert facts["components"].keys() == COMPONENTS.keys()
        for component, expected in facts["components"].items():
            name, share = COMPONENTS[component]
            actual = step.losses[name].item() / (self.pixel_weight * share)
            assert actual == pytest.approx(expected, rel=tolerance), component


@pytest.mark.parametrize("case", STEPS)
def test_steps_in_single_precision(case: Case):
    # Losses only: where a bound on the illumination begins to bind in one precision before it does
    # in the other, single gradients of a later step differ by as much as 40 %.
    training = Training(case, torch.float32)
    for number, (step, facts) in enumerate(zip(training, case.settings["steps"], strict=True)):
        # Large steps of all parameters amplify noise (the set's README).
        later = 1e-3 if min(step.rates) > 1e-4 else 1e-4
        training.check_losses(step, facts, 1e-5 if number == 0 else later)


@pytest.mark.parametrize("case", STEPS)
def test_steps_in_double_precision(case: Case):
    training = Training(case, torch.float64)
    parameters = dict(training.network.named_parameters())
    assert list(parameters) == case.settings["parameters_in_order"]
    groups = training.groups()
    assert [len(group) for group in groups] == case.settings["optimizer_group_tensor_counts"]
    numbers = [sum(value.numel() for value in group.values()) for group in groups]
    assert numbers == case.settings["optimizer_group_numel"]

    start = {name: value.detach().clone() for name, value in parameters.items()}
    summed_rates = dict.fromkeys(parameters, 0.0)
    changes: list[list[float]] = []

    def record_changes() -> None:
        found = [(p.detach() - start[name]).abs().max() for name, p in parameters.items()]
        changes.append([change.item() for change in found])

    facts_of_steps = case.settings["steps_float64"]
    for number, (step, facts) in enumerate(zip(training, facts_of_steps, strict=True)):
        if number == 0:
            prints = case["gradient_fingerprints_step1"]
            for (name, gradient), expected in zip(step.gradients.items(), prints, strict=True):
                check_fingerprint(gradient, expected, 1e-6, name)  # stored in single precision
        else:
            record_changes()
        training.check_losses(step, facts, 1e-9)
        norms = np.array([gradient.norm().item() for gradient in step.gradients.values()])
        check_gradients(norms, case["gradient_l2_per_step"][number], first=number == 0)
        for group, rate in zip(groups, step.rates, strict=True):
            summed_rates |= {name: summed_rates[name] + rate for name in group}
    record_changes()
    limits = np.array(list(summed_rates.values()))
    check_changes(case, np.array(changes), limits)
    fingerprints = np.array([fingerprint(p.detach()) for p in parameters.values()])
    check_parameters(fingerprints, case["parameter_fingerprints"], limits)
    moments = case["adam_step_l2avg_l2avgsq"]
    check_moments(training.optimizer, training.network, moments, 0.1)


def check_gradients(actual, expected, *, first: bool) -> None:
    difference = np.abs(actual - expected)
    assert (difference <= (2e-3 if first else 0.1) * expected).all()
    assert first or (difference <= 5e-3 * np.linalg.norm(expected)).all()


def check_changes(case: Case, changes, limits) -> None:
    expected = case["parameter_max_abs_change_per_step"]
    counts = np.count_nonzero(expected, axis=1)
    assert counts.tolist() == case.settings["changed_tensors_after_each_step"]
    # A frozen tensor does not change at all.
    np.testing.assert_array_equal(changes > 0, expected > 0)
    assert (np.abs(changes - expected) <= 2.1 * limits + 1e-6).all()


def test_the_noisier_copy():
    arrays = reference_arrays(FILE)
    wanted = arrays["noise_input_step1"]
    # Of which data it was made, only its shape tells, or its values.
    found = [
        noisier(torch.from_numpy(frames)).numpy()
        for name, frames in arrays.items()
        if name.endswith("/LQs") and frames.shape == wanted.shape
    ]
    assert any(np.allclose(each, wanted, rtol=0, atol=1e-6) for each in found)
