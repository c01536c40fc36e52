"""The comparison with summaries of arrays."""

import numpy as np
import pytest

from llve_common.testing.reference import check_summary


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
