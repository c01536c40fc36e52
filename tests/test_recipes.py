"""Weights made from a seed, and the comparison with summaries of arrays."""

import numpy as np
import pytest
import torch
from recipes import normal_values, tcenet_recipe_weights, uniform_values

from llve_common.testing.reference import check_summary

KEYS = {
    "keys": {
        "features.2.bias": {"shape": [3], "dtype": "float32"},
        "norm.weight": {"shape": [2], "dtype": "float32"},
        "norm.running_var": {"shape": [2], "dtype": "float32"},
        "norm.num_batches_tracked": {"shape": [], "dtype": "int64"},
        "features.10.bias": {"shape": [4], "dtype": "float32"},
    },
    "norm_weight_keys": ["norm.weight"],
}


def test_one_generator_draws_for_the_keys_in_string_order():
    state = tcenet_recipe_weights(KEYS, seed=7, scale=0.5)
    draws = np.random.default_rng(7).standard_normal(11).astype(np.float32) * np.float32(0.5)
    expected = {
        "features.10.bias": draws[:4],
        "features.2.bias": draws[4:7],
        "norm.num_batches_tracked": np.int64(0),
        "norm.running_var": np.abs(draws[7:9]) + np.float32(0.5),
        "norm.weight": 1 + draws[9:],
    }
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], torch.as_tensor(value)), key


def test_values_are_those_of_numpys_generator():
    assert normal_values(3, (2, 4)).shape == (2, 4)
    assert torch.equal(
        uniform_values(3, (5,)),
        torch.tensor(np.random.default_rng(3).random(5), dtype=torch.float32),
    )


@pytest.mark.parametrize("fault", ["one listed place", "one other place", "all", "the order"])
def test_a_summary_tells_arrays_apart(fault):
    array = np.random.default_rng(0).normal(size=(4, 5))
    summary = {
        "mean": array.mean(),
        "l2": np.linalg.norm(array),
        "absmax": np.abs(array).max(),
        "idx": [0, 7, 19],
        "val": array.ravel()[[0, 7, 19]].tolist(),
    }
    check_summary(array, summary, rtol=1e-9, atol=1e-9)
    if fault == "one listed place":
        array[0, 0] = -array[0, 0]
    elif fault == "one other place":
        array[0, 1] = -array[0, 1]
    elif fault == "all":
        array += 1e-3
    else:
        array = array[::-1]
    with pytest.raises(AssertionError):
        check_summary(array, summary, rtol=1e-9, atol=1e-9)
