"""Metrics of numbers equal scikit-learn's, with and without weights; quantiles are judged right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    r2_score,
    root_mean_squared_error,
)

from mlops_assets.training.bootstrap import Resampling, estimate, estimates, paired_difference
from mlops_assets.training.metrics import MetricError, Scored
from mlops_assets.training.tasks import Regression

LEVELS = (0.05, 0.5, 0.9)
TASK = Regression(LEVELS)
DAYS = 25
RESAMPLING = Resampling(draws=300)
SKLEARN: dict[str, Callable[..., Any]] = {
    "mae": lambda y, q, **kw: mean_absolute_error(y, q[:, 1], **kw),
    "rmse": lambda y, q, **kw: root_mean_squared_error(y, q[:, 1], **kw),
    "r2": lambda y, q, **kw: r2_score(y, q[:, 1], **kw),
    "pinball_loss": lambda y, q, **kw: np.mean(
        [mean_pinball_loss(y, q[:, i], alpha=a, **kw) for i, a in enumerate(LEVELS)]
    ),
}


def sample(rows: int = 4000, seed: int = 1, offset: float = 0.0):
    """Give labels whose true quantiles are the answers."""
    random = np.random.default_rng(seed)
    day = random.integers(0, DAYS, rows)
    mean = offset + random.normal(size=rows) * 3 + random.normal(size=DAYS)[day]
    label = mean + random.normal(size=rows)
    return label, mean[:, None] + norm.ppf(LEVELS), day


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("name", SKLEARN)
def test_a_metric_equals_scikit_learns_weighted_or_not(name: str, offset: float):
    label, answers, day = sample(offset=offset)
    rows = Scored.of(TASK, label, answers, day)
    weights = np.random.default_rng(2).multinomial(DAYS, [1 / DAYS] * DAYS, size=3).astype(float)
    measured = TASK.metric(name).reduce(rows)(np.vstack([np.ones(DAYS), weights]))
    expected = [SKLEARN[name](label, answers)] + [
        SKLEARN[name](label, answers, sample_weight=w[day]) for w in weights
    ]
    np.testing.assert_allclose(measured, expected, rtol=1e-9)


def test_true_quantiles_are_calibrated_and_narrow_ones_are_not():
    label, answers, day = sample(rows=40_000)
    rows = Scored.of(TASK, label, answers, day)
    assert TASK.metric("coverage").ideal == pytest.approx(0.85)
    assert TASK.metric("coverage").title == "Interval coverage"
    assert TASK.metric("coverage").value(rows) == pytest.approx(0.85, abs=0.01)
    assert TASK.metric("interval_width").value(rows) == pytest.approx(np.ptp(norm.ppf(LEVELS)))
    assert TASK.metric("calibration_error").value(rows) < 0.01
    middle = answers[:, [1]]
    narrow = Scored.of(TASK, label, middle + 0.3 * (answers - middle), day)
    assert TASK.metric("coverage").value(narrow) < 0.5
    # Levels 0.05 and 0.9 are missed by 0.26 and 0.25, the median by nothing.
    missed = norm.cdf(0.3 * norm.ppf(np.array(LEVELS))) - np.array(LEVELS)
    wanted = np.sqrt(np.mean(missed**2))
    assert TASK.metric("calibration_error").value(narrow) == pytest.approx(wanted, abs=0.01)
    assert TASK.metric("pinball_loss").value(narrow) > TASK.metric("pinball_loss").value(rows)


def test_a_single_quantile_has_no_interval_metrics():
    label, answers, day = sample()
    task = Regression((0.5,))
    assert "coverage" not in task.metrics
    rows = Scored.of(task, label, answers[:, 1], day)
    half = 0.5 * mean_absolute_error(label, answers[:, 1])
    assert task.metric("pinball_loss").value(rows) == pytest.approx(half)


def test_a_label_without_variance_has_no_r2_but_an_error():
    _, answers, day = sample(rows=200)
    rows = Scored.of(TASK, np.full(200, 3.0), answers, day)
    found = estimates(TASK.metrics.values(), rows, RESAMPLING)
    assert found["r2"].value is None
    assert found["r2"].reason == "all 200 labels are 3; there is no variance"
    assert found["mae"].low < found["mae"].value < found["mae"].high


def test_a_days_interval_is_wider_than_one_that_takes_rows_for_independent():
    random = np.random.default_rng(5)
    day = np.repeat(np.arange(40), 100)
    label = np.repeat(random.normal(size=40), 100) * 3 + random.normal(size=4000)
    answers = np.tile(norm.ppf(LEVELS), (4000, 1))
    blocked, single = (
        estimate(TASK.metric("mae"), Scored.of(TASK, label, answers, blocks), RESAMPLING)
        for blocks in (day, np.arange(4000))
    )
    assert blocked.value == pytest.approx(single.value)
    assert blocked.high - blocked.low > 3 * (single.high - single.low)


def test_a_paired_difference_is_positive_when_b_is_better():
    label, answers, day = sample()
    worse = answers + np.random.default_rng(3).normal(size=len(label))[:, None]
    for metric in TASK.primary_metrics:
        found = paired_difference(metric, TASK, label, worse, answers, day, RESAMPLING)
        assert found.gain > found.low > 0, metric
    with pytest.raises(MetricError, match="no direction"):
        paired_difference("coverage", TASK, label, worse, answers, day, RESAMPLING)
