"""An evaluation of each task: its curves agree with its numbers, and it can be stored exactly."""

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.curves import MulticlassCurves, RegressionCurves
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import FitOptions, estimator_class
from mlops_assets.training.evaluation import Evaluation, choose_challenger, evaluate
from mlops_assets.training.evaluation import choose_threshold as threshold_of
from mlops_assets.training.family import ThresholdDeclaration
from mlops_assets.training.metrics import MetricError

RESAMPLING = Resampling(draws=200, seed=5)
TASKS = ("binary", "multiclass", "regression")


@pytest.fixture(scope="module")
def evaluations(
    families: dict[str, ModelFamily], parts_of: dict[str, dict[str, Part]]
) -> dict[str, Evaluation]:
    """A linear model of each task on test, with a threshold where there is one."""
    found = {}
    for task, parts in parts_of.items():
        train, validation, test = parts["train"], parts["validation"], parts["test"]
        model = estimator_class("linear").fit(train, validation, {}, FitOptions(1, 1))
        threshold = threshold_of(
            validation, model.predict(validation.features), ThresholdDeclaration()
        )
        answers = model.predict(test.features)
        found[task] = evaluate(test, answers, families[task], RESAMPLING, threshold)
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_stored_evaluation_is_the_same_to_the_last_bit(
    task: str, evaluations: dict[str, Evaluation]
):
    found = evaluations[task]
    again = Evaluation.from_json(found.to_json(), found.answers)
    for field in fields(Evaluation):
        if field.name not in {"curves", "answers"}:
            assert getattr(again, field.name) == getattr(found, field.name), field.name
    for field in fields(found.curves):
        was, is_ = getattr(found.curves, field.name), getattr(again.curves, field.name)
        assert is_.dtype == was.dtype
        assert is_.shape == was.shape
        assert is_.tobytes() == was.tobytes() or np.array_equal(is_, was, equal_nan=True)
    assert again.to_json() == found.to_json()
    assert again.answers is found.answers


def test_every_bit_of_awkward_numbers_survives(evaluations: dict[str, Evaluation]):
    odd = np.array([0.1 + 0.2, 1 / 3, 5e-324, -0.0, 1.7976931348623157e308, np.pi * 1e-300])
    found = evaluations["regression"]
    kept = replace(found, curves=replace(found.curves, edges=odd))
    again = Evaluation.from_json(kept.to_json(), kept.answers)
    assert again.curves.edges.tobytes() == odd.tobytes()


def test_what_is_missing_stays_missing_with_its_reason(
    families: dict[str, ModelFamily], parts_of: dict[str, dict[str, Part]]
):
    part = parts_of["multiclass"]["test"]
    label = np.where(part.label == 2, 1.0, part.label)  # a class without rows: its ROC is NaN
    answers = np.full((len(part), 3), 1 / 3)
    found = evaluate(replace(part, label=label), answers, families["multiclass"], RESAMPLING)
    assert np.isnan(found.curves.true_positive_rate[2]).all()
    again = Evaluation.from_json(found.to_json(), answers)
    assert np.isnan(again.curves.true_positive_rate[2]).all()
    assert again.metrics == found.metrics
    assert again.to_json() == found.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("task"), "task"),
        (lambda raw: raw["curves"].pop("edges"), "edges"),
        (lambda raw: raw.update(rows=3), "do not fit 3 rows"),
        (lambda raw: raw.update(task={"name": "ranking"}), "describes no task"),
    ],
)
def test_what_is_no_stored_evaluation_is_refused(
    change: Any, message: str, evaluations: dict[str, Evaluation]
):
    found = evaluations["binary"]
    raw = json.loads(found.to_json())
    change(raw)
    with pytest.raises(MetricError, match=f"no stored evaluation.*{message}"):
        Evaluation.from_json(json.dumps(raw), found.answers)
    with pytest.raises(MetricError, match="no stored evaluation"):
        Evaluation.from_json("{", found.answers)


def test_only_a_binary_task_has_a_threshold(
    evaluations: dict[str, Evaluation], parts_of: dict[str, dict[str, Part]]
):
    assert evaluations["binary"].decision is not None
    for task in ("multiclass", "regression"):
        assert evaluations[task].decision is None
        part = parts_of[task]["test"]
        assert threshold_of(part, evaluations[task].answers, ThresholdDeclaration()) is None
        assert not any("threshold" in name for name in evaluations[task].numbers())


@pytest.mark.parametrize("task", TASKS)
def test_slices_have_the_tasks_metrics_and_account_for_every_row(
    task: str, evaluations: dict[str, Evaluation], families: dict[str, ModelFamily]
):
    found = evaluations[task]
    wanted = {families[task].primary_metric, *found.task.by_slice}
    for column in families[task].slices:
        inside = [one for one in found.slices if one.column == column]
        assert sum(one.rows for one in inside) == found.rows
        for one in inside:
            assert set(one.metrics) == wanted
    name = "carrier"
    loss = found.task.loss
    values = [one for one in found.slices if one.column == name]
    mean = sum(one.rows * one.metrics[loss].value for one in values) / found.rows
    assert mean == pytest.approx(found.value(loss))


def test_curves_of_classes_agree_with_the_numbers(evaluations: dict[str, Evaluation]):
    found = evaluations["multiclass"]
    curves = found.curves
    assert isinstance(curves, MulticlassCurves)
    assert curves.confusion.sum() == found.rows
    assert np.trace(curves.confusion) / found.rows == pytest.approx(found.value("accuracy"))
    shares = curves.confusion.sum(axis=1) / found.rows
    np.testing.assert_allclose(shares, list(found.label.values()))
    areas = [
        np.trapezoid(true, false)
        for true, false in zip(curves.true_positive_rate, curves.false_positive_rate, strict=True)
    ]
    assert np.mean(areas) == pytest.approx(found.value("roc_auc"), abs=2e-3)
    assert curves.right.sum() == np.trace(curves.confusion)
    assert curves.right.sum() + curves.wrong.sum() == found.rows
    assert curves.hour_accuracy @ curves.hour_rows / found.rows == pytest.approx(
        found.value("accuracy")
    )
    assert curves.hour_log_loss @ curves.hour_rows / found.rows == pytest.approx(
        found.value("log_loss")
    )
    early = list(found.label).index("early")
    hits = curves.confusion[early, early]
    assert curves.recall[early] == pytest.approx(hits / curves.confusion[early].sum())
    assert curves.precision[early] == pytest.approx(hits / curves.confusion[:, early].sum())


def test_curves_of_numbers_agree_with_the_numbers(
    evaluations: dict[str, Evaluation], parts_of: dict[str, dict[str, Part]]
):
    found, part = evaluations["regression"], parts_of["regression"]["test"]
    curves = found.curves
    assert isinstance(curves, RegressionCurves)
    assert curves.bin_rows.sum() == curves.residual_rows.sum() == found.rows
    assert curves.level_loss.mean() == pytest.approx(found.value("pinball_loss"))
    # The error is free of the noise that the picture shows.
    shown = np.sqrt(((curves.below - curves.levels) ** 2).mean())
    assert found.value("calibration_error") < shown
    for values, name in (
        (curves.hour_pinball, "pinball_loss"),
        (curves.hour_coverage, "coverage"),
    ):
        assert values @ curves.hour_rows / found.rows == pytest.approx(found.value(name))
    means = curves.bin_rows @ curves.predicted / found.rows
    np.testing.assert_allclose(means, found.answers.mean(axis=0))
    assert (np.diff(curves.point) >= 0).all()
    assert set(curves.label) <= set(part.label)
    hour = part.context["hour"].to_numpy() == int(curves.hour[0])
    middle = np.median((part.label - found.answers[:, 1])[hour])
    assert curves.hour_residuals[0, 2] == pytest.approx(middle)


def test_a_calendar_without_hours_has_no_curves_by_hour(
    families: dict[str, ModelFamily], parts_of: dict[str, dict[str, Part]]
):
    for task, parts in parts_of.items():
        part = parts["test"]
        dated = replace(part, context=part.context.assign(hour=None))
        answers = (
            estimator_class("baseline").fit(part, part, {}, FitOptions(1, 1)).predict(part.features)
        )
        curves = evaluate(dated, answers, families[task], RESAMPLING).curves
        assert len(curves.hour) == len(curves.hour_rows) == 0


def test_the_challenger_of_each_task_is_the_better_one(
    families: dict[str, ModelFamily], parts_of: dict[str, dict[str, Part]]
):
    for task, parts in parts_of.items():
        validation = parts["validation"]
        models = {
            name: estimator_class(algorithm).fit(parts["train"], validation, {}, FitOptions(1, 1))
            for name, algorithm in (("linear", "linear"), ("catboost", "baseline"))
        }
        found = {
            name: evaluate(
                validation, model.predict(validation.features), families[task], RESAMPLING
            )
            for name, model in models.items()
        }
        assert choose_challenger(families[task], found) == "linear"
