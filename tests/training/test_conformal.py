"""Quantiles from residuals keep what they promise on rows nobody has seen."""

import numpy as np
import pytest

from mlops_assets.training.estimators import EstimatorError
from mlops_assets.training.estimators.conformal import ConformalOffsets
from mlops_assets.training.tasks import Regression

TASK = Regression((0.1, 0.5, 0.9))


def test_the_offsets_are_order_statistics_of_the_residuals():
    residuals = np.arange(1.0, 20.0)  # 19 of them, so that 0.9 * 20 is the 18th
    found = ConformalOffsets.of(TASK, residuals, np.zeros(19))
    assert found.offsets == (2.0, 10.0, 18.0)
    assert found.middle == 10.0
    np.testing.assert_array_equal(found.answers(np.array([5.0])), [[7.0, 15.0, 23.0]])


def test_few_residuals_end_at_the_extremes_and_none_are_refused():
    found = ConformalOffsets.of(TASK, np.array([3.0, -1.0]), np.zeros(2))
    assert found.offsets == (-1.0, 1.0, 3.0)
    with pytest.raises(EstimatorError, match="the validation part has no row"):
        ConformalOffsets.of(TASK, np.empty(0), np.empty(0))


@pytest.mark.parametrize("rows", [30, 200])
def test_a_quantile_covers_new_rows_at_least_as_often_as_it_says(rows: int):
    below, above = [], []
    for seed in range(400):
        random = np.random.default_rng(seed)
        seen, new = random.exponential(size=rows), random.exponential(size=200)
        low, _, high = ConformalOffsets.of(TASK, seen, np.zeros(rows)).offsets
        below.append(np.mean(new < low))
        above.append(np.mean(new > high))
    # The mean over many trials; its standard error is below 0.003.
    assert np.mean(below) <= 0.1 + 0.005
    assert np.mean(above) <= 0.1 + 0.005
    assert np.mean(below) > 0.1 - 2 / rows
    assert np.mean(above) > 0.1 - 2 / rows


def test_a_single_quantile_answers_a_vector():
    found = ConformalOffsets.of(Regression((0.5,)), np.array([1.0, 2.0, 3.0]), np.zeros(3))
    np.testing.assert_array_equal(found.answers(np.array([0.0, 1.0])), [2.0, 3.0])
