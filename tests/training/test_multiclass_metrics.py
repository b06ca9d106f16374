"""Metrics of classes equal scikit-learn's, with and without weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlops_assets.training.bootstrap import Resampling, estimate, paired_difference
from mlops_assets.training.metrics import MetricError, Scored
from mlops_assets.training.tasks import Binary, Multiclass

TASK = Multiclass(("a", "b", "c", "d"))
DAYS = 25
RESAMPLING = Resampling(draws=300)

SKLEARN: dict[str, Callable[..., Any]] = {
    "log_loss": lambda y, p, **kw: log_loss(y, p, labels=range(4), **kw),
    "accuracy": lambda y, p, **kw: accuracy_score(y, p.argmax(axis=1), **kw),
    "brier": lambda y, p, **kw: brier_score_loss(
        y, p, labels=range(4), scale_by_half=False, **kw
    ),
    "roc_auc": lambda y, p, **kw: np.mean(
        [roc_auc_score(y == k, p[:, k], **kw) for k in range(4)]
    ),
}  # fmt: skip


def sample(rows: int = 3000, seed: int = 1):
    random = np.random.default_rng(seed)
    day = random.integers(0, DAYS, rows)
    score = random.normal(size=(rows, 4)) + random.normal(size=(DAYS, 4))[day] * 0.5
    answers = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    label = np.array([random.choice(4, p=p) for p in answers]).astype(float)
    return label, answers, day


@pytest.mark.parametrize("name", SKLEARN)
def test_a_metric_equals_scikit_learns_weighted_or_not(name: str):
    label, answers, day = sample()
    rows = Scored.of(TASK, label, answers, day)
    weights = np.random.default_rng(2).multinomial(DAYS, [1 / DAYS] * DAYS, size=3).astype(float)
    measured = TASK.metric(name).reduce(rows)(np.vstack([np.ones(DAYS), weights]))
    expected = [SKLEARN[name](label, answers)] + [
        SKLEARN[name](label, answers, sample_weight=w[day]) for w in weights
    ]
    np.testing.assert_allclose(measured, expected, rtol=1e-10)


def test_honest_answers_have_a_small_calibration_error_and_boasting_ones_a_large_one():
    label, answers, day = sample(rows=20_000)
    honest = TASK.metric("calibration_error").value(Scored.of(TASK, label, answers, day))
    sure = answers**3 / (answers**3).sum(axis=1, keepdims=True)
    boasting = TASK.metric("calibration_error").value(Scored.of(TASK, label, sure, day))
    assert honest < 0.02
    assert boasting > 0.2


def test_two_classes_give_the_numbers_of_a_binary_task():
    label, answers, day = sample()
    yes, p = (label > 1).astype(float), answers[:, 2] + answers[:, 3]
    binary = Scored.of(Binary(), yes, p, day)
    both = Scored.of(Multiclass(("no", "yes")), yes, np.stack([1 - p, p], axis=1), day)
    for name, factor in (("log_loss", 1), ("roc_auc", 1), ("brier", 2)):
        assert both.task.metric(name).value(both) == pytest.approx(
            factor * binary.task.metric(name).value(binary)
        )


def test_a_class_without_rows_takes_no_part_in_the_mean_and_one_class_alone_says_why():
    label, answers, day = sample()
    label[label == 3] = 2
    area = TASK.metric("roc_auc").value(Scored.of(TASK, label, answers, day))
    assert area == pytest.approx(
        np.mean([roc_auc_score(label == k, answers[:, k]) for k in range(3)])
    )
    alone = estimate(
        TASK.metric("roc_auc"), Scored.of(TASK, np.full(len(label), 2.0), answers, day), RESAMPLING
    )
    assert alone.value is None
    assert "all 3000 rows have label 'c'; two classes are needed" in alone.reason


def test_a_paired_difference_is_positive_when_b_is_better():
    label, answers, day = sample()
    noise = np.random.default_rng(3).normal(size=answers.shape)
    worse = answers * np.exp(noise)
    worse /= worse.sum(axis=1, keepdims=True)
    for metric in TASK.primary_metrics:
        found = paired_difference(metric, TASK, label, worse, answers, day, RESAMPLING)
        assert found.gain > found.low > 0, metric
    with pytest.raises(MetricError, match="do not fit 3000 rows"):
        paired_difference("log_loss", TASK, label, answers[:, :3], answers, day, RESAMPLING)
