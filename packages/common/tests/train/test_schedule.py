"""Learning rates with restarts."""

import copy
import re

import pytest
import torch
from pydantic import ValidationError

from llve_common.config import ScheduleSettings
from llve_common.testing.reference import cases, reference_json, require_known
from llve_common.train.schedule import set_rates


def adam(base=1e-3, groups=1):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(groups)]
    return torch.optim.Adam([{"params": [each]} for each in parameters], lr=base)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def cosine(*, periods, restarts=(), weights=(), eta_min=0.0, **more):
    chosen = {"periods": periods, "restarts": restarts, "restart_weights": weights}
    return ScheduleSettings(**chosen, eta_min=eta_min, **more)


def multistep(*, weights=(), **chosen):
    return ScheduleSettings(scheme="multistep", restart_weights=weights, **chosen)


def run(chosen, base, last):
    """The first group's rate in iterations 0 (none yet), 1, ..., last."""
    optimizer = adam(base)
    listed = [base]
    for iteration in range(1, last + 1):
        set_rates(chosen, optimizer, iteration)
        listed += rates(optimizer)
    return listed


def test_is_the_usual_cosine_between_restarts():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    usual = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=0.1)
    expected = [1.0]
    for _ in range(8):
        optimizer.step()
        usual.step()
        expected += usual.get_last_lr()
    listed = run(cosine(periods=[8, 4], restarts=[8], weights=[0.5], eta_min=0.1), 1.0, 13)
    assert listed[:9] == pytest.approx(expected, rel=1e-12)
    assert listed[9] == 0.5
    assert listed[13] == pytest.approx(0.1)


def test_rates_rise_again_after_a_period_without_a_restart():
    listed = run(cosine(periods=[4, 4], restarts=[0], weights=[1]), 1.0, 9)
    assert listed[5] == pytest.approx(0)
    assert listed[9] == pytest.approx(1)


def test_a_restart_without_a_period_holds_the_last_rate():
    listed = run(cosine(periods=[4], restarts=[4], weights=[1], eta_min=0.25), 1.0, 9)
    assert listed[4:] == [0.25] * 6


def test_a_group_that_stood_still_stays_low_until_the_next_restart():
    chosen, optimizer = cosine(periods=[8, 8], restarts=[6], weights=[1]), adam(1.0, groups=2)
    for iteration in range(1, 9):
        set_rates(chosen, optimizer, iteration)
        if iteration < 3:
            optimizer.param_groups[0]["lr"] = 0.0
        if iteration == 4:
            assert rates(optimizer) == [0.0, pytest.approx(0.5)]
        if iteration == 7:
            assert rates(optimizer) == [1.0, 1.0]


def test_milestones_count_as_often_as_they_are_listed():
    listed = run(multistep(milestones=[2, 3, 3], gamma=0.5), 1.0, 4)
    assert listed == [1.0, 1.0, 0.5, 0.125, 0.125]


def test_warm_up_rises_and_the_schedule_goes_on_from_its_last_rate():
    listed = run(cosine(periods=[10, 10], restarts=[100], weights=[1], warmup=5), 1.0, 5)
    assert listed[1:5] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # (1 + cos(pi/2)) / (1 + cos(2 pi/5)) of the last warm-up rate
    assert listed[5] == pytest.approx(0.8 / (1 + (5**0.5 - 1) / 4))


def test_the_state_is_in_the_optimizers_checkpoint():
    chosen = cosine(periods=[7, 5], restarts=[7], weights=[0.5], eta_min=1e-6)
    unbroken, broken = adam(groups=2), adam(groups=2)
    for iteration in range(1, 13):
        if iteration == 5:
            saved = copy.deepcopy(broken.state_dict())
            broken = adam(base=0.5, groups=2)
            broken.load_state_dict(saved)
        for optimizer in (unbroken, broken):
            set_rates(chosen, optimizer, iteration)
            if iteration < 4:
                optimizer.param_groups[0]["lr"] = 0.0
        assert rates(unbroken) == rates(broken)


# The published values

PUBLISHED = "sdsd_stcd/schedulers"
CONFIGURATION, FROZEN = r"cosine_[^_]+_config", r"(cosine_[^_]+_config)_with_ft_tsa_only_(\d+)"


def close(actual, expected):
    """To 1e-9, or 1e-15 for the tiny rates of a frozen group."""
    return actual == pytest.approx(expected, rel=1e-9, abs=1e-15)


def by_iteration(rates):
    return {int(iteration): rate for iteration, rate in rates.items()}


def check(chosen, case):
    wanted = by_iteration(case["lr"])
    listed = run(chosen, case["base_lr"], max(wanted))
    assert all(close(listed[iteration], value) for iteration, value in wanted.items())


def cosine_of(case):
    arguments = dict(case["args"])
    return cosine(periods=arguments.pop("T_period"), **arguments)


@pytest.mark.reference
def test_every_published_schedule_is_compared():
    require_known(
        reference_json(PUBLISHED), CONFIGURATION, FROZEN, "cosine_small", "multistep", "errors",
        # The published state of a schedule, where ours has none: rates follow from the iteration.
        "state_dict_keys_.*", "note",
    )  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, CONFIGURATION))
def test_published_configurations(case):
    facts = case.settings
    check(cosine_of(facts), facts)
    for name, outcome in facts.items():
        if beyond := re.fullmatch(r"step_(\d+)", name):
            # Past its end the published schedule crashed; ours holds.
            assert outcome.startswith("IndexError")
            last = facts["lr"][str(int(beyond[1]) - 1)]
            optimizer = adam(facts["base_lr"])
            optimizer.param_groups[0].update(initial_lr=facts["base_lr"], lr=last)
            set_rates(cosine_of(facts), optimizer, int(beyond[1]))
            assert rates(optimizer) == [last]


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="cosine_small"))
def test_published_small_cosines(case):
    facts = case.settings
    if "error" in facts:
        # Mended: an IndexError there, before the first iteration.
        assert facts["error"].startswith("IndexError")
        with pytest.raises(ValidationError, match="too few periods"):
            cosine_of(facts)
    else:
        check(cosine_of(facts), facts)


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="multistep"))
def test_published_multi_steps(case):
    facts, chosen = case.settings, multistep(**case.settings["args"])
    check(chosen, facts)
    wanted = facts.get("optimizer_state_entries_right_after_scheduler_step", {})
    optimizer = adam(facts["base_lr"])
    for iteration in range(1, len(wanted) + 1):
        set_rates(chosen, optimizer, iteration)
        assert len(optimizer.state) == wanted[str(iteration)]
        optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
        optimizer.step()


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, FROZEN))
def test_published_frozen_group(case):
    name, thaw = re.fullmatch(FROZEN, case.name).groups()
    used, before = (by_iteration(case.settings[k]) for k in ("lr_used", "lr_from_scheduler"))
    whole = reference_json(PUBLISHED)[name]
    chosen, optimizer = cosine_of(whole), adam(whole["base_lr"], groups=2)
    assert rates(optimizer) == used[0]
    for iteration in range(1, max(used) + 1):
        set_rates(chosen, optimizer, iteration)
        if iteration in before:
            assert close(rates(optimizer), before[iteration])
        if iteration < int(thaw):
            optimizer.param_groups[0]["lr"] = 0.0
        if iteration in used:
            assert close(rates(optimizer), used[iteration])


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="errors"))
def test_published_errors(case):
    scheme = case.name.partition("_")[0]
    made = {"cosine": {"periods": [5, 5]}, "multistep": {}}[scheme]
    ours = case.settings.removeprefix("AssertionError: ").rstrip(".")
    with pytest.raises(ValidationError, match=ours):
        ScheduleSettings(scheme=scheme, **made, restarts=[2], restart_weights=[1, 1])
