"""Metrics equal scikit-learn's, with and without weights, ties included; intervals are honest."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from mlops_assets.training.bootstrap import Resampling, estimate, paired_difference
from mlops_assets.training.metrics import MetricError, Scored
from mlops_assets.training.metrics.binary import calibration_edges
from mlops_assets.training.tasks import Binary

TASK = Binary()
METRICS = TASK.metrics
SKLEARN = {
    "roc_auc": roc_auc_score,
    "average_precision": average_precision_score,
    "log_loss": log_loss,
    "brier": brier_score_loss,
}


def sample(rows: int = 3000, days: int = 30, decimals: int | None = 2, seed: int = 1):
    random = np.random.default_rng(seed)
    day = random.integers(0, days, rows)
    score = random.normal(size=rows) + random.normal(size=days)[day]
    probability = 1 / (1 + np.exp(-score))
    label = (random.random(rows) < probability).astype(float)
    answer = probability if decimals is None else np.round(probability, decimals)
    return label, answer, day


@pytest.mark.parametrize("decimals", [None, 2, 1])
@pytest.mark.parametrize("name", SKLEARN)
def test_a_metric_equals_scikit_learns_weighted_or_not(name: str, decimals: int | None):
    label, answer, day = sample(decimals=decimals)
    answer = np.clip(answer, 1e-6, 1 - 1e-6)
    rows = Scored.of(TASK, label, answer, day)
    weights = np.random.default_rng(2).multinomial(30, [1 / 30] * 30, size=3).astype(float)
    measured = METRICS[name].reduce(rows)(np.vstack([np.ones(30), weights]))
    expected = [SKLEARN[name](label, answer)] + [
        SKLEARN[name](label, answer, sample_weight=w[rows.block]) for w in weights
    ]
    # Draws of average precision are computed in single precision, the value itself in double.
    of_draws = 1e-7 if name == "average_precision" else 1e-10
    np.testing.assert_allclose(measured, expected, rtol=of_draws)
    np.testing.assert_allclose(METRICS[name].value(rows), expected[0], rtol=1e-10)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_memory_bounded_chunks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch):
    rows = Scored.of(TASK, *sample(decimals=None))
    weights = np.ones((5, 30))
    whole = METRICS[name].reduce(rows)(weights)
    monkeypatch.setattr("mlops_assets.training.metrics.binary._CHUNK_CELLS", 3000)
    np.testing.assert_allclose(METRICS[name].reduce(rows)(weights), whole, rtol=1e-12)


def test_the_calibration_line_is_that_of_a_logistic_regression():
    label, answer, day = sample(decimals=None)
    shrunk = 1 / (1 + np.exp(-(np.log(answer / (1 - answer)) * 0.5 + 0.3)))
    logit = np.log(shrunk / (1 - shrunk))[:, None]
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logit, label)
    rows, ones = Scored.of(TASK, label, shrunk, day), np.ones((1, 30))
    slope = METRICS["calibration_slope"].reduce(rows)(ones)[0]
    intercept = METRICS["calibration_intercept"].reduce(rows)(ones)[0]
    assert slope == pytest.approx(fit.coef_[0, 0], abs=1e-4)
    assert intercept == pytest.approx(fit.intercept_[0], abs=1e-4)
    assert slope > 1.5  # answers were shrunk towards a half


def test_a_days_interval_is_wider_than_one_that_takes_rows_for_independent():
    random = np.random.default_rng(5)
    day = np.repeat(np.arange(40), 100)
    answer = np.full(4000, 0.5)
    label = (random.random(4000) < np.repeat(random.choice([0.1, 0.9], 40), 100)).astype(float)
    blocked = estimate(
        METRICS["brier"], Scored.of(TASK, label, answer + label * 0.1, day), Resampling()
    )
    single = estimate(
        METRICS["brier"],
        Scored.of(TASK, label, answer + label * 0.1, np.arange(4000)),
        Resampling(),
    )
    assert blocked.value == pytest.approx(single.value)
    assert blocked.high - blocked.low > 3 * (single.high - single.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth, hits = 0.25, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        rates = np.repeat(random.beta(5, 15, 60), 20)  # mean 0.25
        label = (random.random(1200) < rates).astype(float)
        # With the constant answer 0 the Brier score is the rate itself.
        rows = Scored.of(TASK, label, np.zeros(1200), np.repeat(np.arange(60), 20))
        found = estimate(METRICS["brier"], rows, Resampling(draws=300, seed=seed))
        hits += found.low <= truth <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def boasting(gap: float, seed: int, days: int = 60, a_day: int = 40) -> Scored:
    """Answers that all lie above the rate of yes by a gap; days differ in their rate."""
    random = np.random.default_rng(seed)
    rate = 0.1 + 0.5 * random.beta(1.2, 3, days * a_day)
    of_day = np.repeat(random.choice([0.85, 1.15], days), a_day)
    label = (random.random(days * a_day) < rate * of_day).astype(float)
    return Scored.of(TASK, label, rate + gap, np.repeat(np.arange(days), a_day))


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.06])
def test_the_calibration_errors_interval_holds_its_value_and_the_truth(gap: float):
    found = [
        estimate(
            METRICS["calibration_error"], boasting(gap, seed), Resampling(draws=200, seed=seed)
        )
        for seed in range(80)
    ]
    assert all(one.low <= one.value <= one.high for one in found)
    # Near no error the interval is the cautious kind: squares of noise are skewed.
    assert sum(one.low <= gap <= one.high for one in found) / 80 >= 0.88
    if gap > 0.05:
        assert np.mean([one.value for one in found]) == pytest.approx(gap, abs=0.004)
        assert any(not one.low <= gap <= one.high for one in found)


def test_noise_alone_is_no_calibration_error():
    rows = [boasting(0.0, seed) for seed in range(40)]
    measured = np.mean([METRICS["calibration_error"].value(one) ** 2 for one in rows])
    plain = []
    for one in rows:
        cell = np.searchsorted(calibration_edges(one.answers), one.answers, side="right")
        gaps = np.bincount(cell, weights=one.answers - one.label) / np.bincount(cell)
        plain.append(np.mean(gaps**2))
    assert measured < 0.25 * np.mean(plain)


def test_gaps_of_a_single_day_cannot_be_told_from_noise():
    rows = Scored.of(TASK, np.array([0.0, 1, 1]), np.array([0.2, 0.7, 0.6]), np.zeros(3))
    with pytest.raises(MetricError, match="all of one day"):
        METRICS["calibration_error"].value(rows)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rows = Scored.of(TASK, *sample())
    one, same, other = (
        estimate(METRICS["roc_auc"], rows, Resampling(draws=200, seed=s)) for s in (1, 1, 2)
    )
    assert one == same
    assert one.low != other.low


def test_what_cannot_be_computed_says_why_and_is_never_a_number():
    label, answer, day = sample(rows=200)
    for name in ("roc_auc", "average_precision", "calibration_slope"):
        found = estimate(METRICS[name], Scored.of(TASK, np.zeros(200), answer, day), Resampling())
        assert found.value is None
        assert found.low is None
        assert "both classes are needed" in found.reason
    flat = estimate(
        METRICS["calibration_slope"], Scored.of(TASK, label, np.full(200, 0.2), day), Resampling()
    )
    assert flat.value is None
    assert "every answer is 0.2" in flat.reason


def test_few_days_or_a_class_that_resamples_miss_give_no_interval():
    label, answer, _ = sample(rows=200)
    few = estimate(
        METRICS["roc_auc"], Scored.of(TASK, label, answer, np.arange(200) % 3), Resampling()
    )
    assert few.value is not None
    assert few.low is None
    assert "3 days" in few.reason
    day = np.arange(200) % 10
    lonely = np.zeros(200)
    lonely[day == 0] = 1  # every positive on one day: a third of the resamples have none
    found = estimate(METRICS["roc_auc"], Scored.of(TASK, lonely, answer, day), Resampling())
    assert found.low is None
    assert "leave it undefined" in found.reason


@pytest.mark.parametrize(
    ("label", "answer", "message"),
    [
        ([0, 2.0], [0.1, 0.2], "label 2.0 is neither 0 nor 1"),
        ([0, 1.0], [0.1, np.nan], "probability nan is not in"),
        ([0, 1.0], [0.1, 1.2], "probability 1.2 is not in"),
        ([0, 1.0, 1.0], [0.1, 1.0], "equally long"),
        ([], [], "no row"),
    ],
)
def test_wrong_rows_are_refused(label: list[float], answer: list[float], message: str):
    with pytest.raises(MetricError, match=message):
        Scored.of(TASK, np.array(label), np.array(answer), np.arange(len(answer)))


def test_a_paired_difference_is_positive_when_b_is_better_whatever_the_direction():
    label, answer, day = sample(decimals=None)
    noise = np.random.default_rng(3).normal(size=len(label))
    worse = 1 / (1 + np.exp(-(np.log(answer / (1 - answer)) + noise)))
    for metric in SKLEARN:
        found = paired_difference(metric, TASK, label, worse, answer, day, Resampling(draws=400))
        assert found.gain > found.low > 0, metric
        back = paired_difference(metric, TASK, label, answer, worse, day, Resampling(draws=400))
        assert back.high < 0, metric


def test_pairing_makes_the_interval_of_a_difference_far_narrower_than_two_single_ones():
    label, answer, day = sample(decimals=None)
    better = np.clip(answer + 0.02 * (label - 0.5), 0, 1)
    found = paired_difference("roc_auc", TASK, label, answer, better, day, Resampling(draws=400))
    alone = estimate(METRICS["roc_auc"], Scored.of(TASK, label, answer, day), Resampling(draws=400))
    assert found.low > 0
    assert found.high - found.low < 0.2 * (alone.high - alone.low)


def test_a_difference_that_cannot_be_computed_raises():
    _, answer, day = sample(rows=100)
    with pytest.raises(MetricError, match="both classes"):
        paired_difference("roc_auc", TASK, np.ones(100), answer, answer, day, Resampling())
    with pytest.raises(MetricError, match="no direction"):
        paired_difference(
            "calibration_slope", TASK, np.ones(100), answer, answer, day, Resampling()
        )
    with pytest.raises(
        MetricError, match="a binary task has no metric 'accuracy'; there are roc_auc"
    ):
        paired_difference("accuracy", TASK, np.ones(100), answer, answer, day, Resampling())
