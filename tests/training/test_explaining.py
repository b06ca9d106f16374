"""An explanation finds what the made-up world put in, adds up, and needs only the protocol."""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName
from mlops_assets.training import ModelFamily
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator, Explanation, FitOptions, estimator_class
from mlops_assets.training.evaluation import choose_threshold, evaluate
from mlops_assets.training.explaining import (
    TABLES,
    AdditivityError,
    Effort,
    ModelExplanation,
    attribute,
    explain_model,
    explanation_tables,
    fairness,
    features_by_view,
    permutation_importance,
    write_explanation,
)
from mlops_assets.training.explaining.pictures import pictures_of
from mlops_assets.training.metrics import MetricError
from mlops_assets.training.training_set import TrainingSet, select_features

EFFORT = Effort(
    shap_rows=400,
    kept_rows=60,
    permutation_rows=500,
    permutation_repeats=4,
    permuted_features=3,
    dependence_features=3,
    dependence_rows=80,
    dependence_points=6,
)
RESAMPLING = Resampling(draws=300, seed=3)
TASKS = ("binary", "multiclass", "regression")
PartsOf = dict[str, dict[str, Part]]


@pytest.fixture(scope="module")
def models(parts_of: PartsOf) -> dict[str, Estimator]:
    return {
        task: estimator_class("catboost").fit(
            parts["train"], parts["validation"], {"iterations": 60, "depth": 4}, FitOptions(1, 1)
        )
        for task, parts in parts_of.items()
    }


@pytest.fixture(scope="module")
def explained(
    models: dict[str, Estimator],
    parts_of: PartsOf,
    families: dict[str, ModelFamily],
    views: FeatureRegistry,
) -> dict[str, ModelExplanation]:
    def explain(task: str) -> ModelExplanation:
        model, family = models[task], families[task]
        validation, test = parts_of[task]["validation"], parts_of[task]["test"]
        threshold = choose_threshold(
            validation, model.predict(validation.features), family.threshold
        )
        return explain_model(
            model,
            test,
            family,
            evaluate(test, model.predict(test.features), family, RESAMPLING, threshold),
            views=features_by_view(select_features(family, views)),
            effort=EFFORT,
        )

    return {task: explain(task) for task in TASKS}


class Answering:
    """An estimator of nothing but functions, to explain what no library would give."""

    def __init__(
        self,
        predict: Callable[[pd.DataFrame], NDArray[np.float64]],
        explain: Callable[[pd.DataFrame], Explanation],
    ) -> None:
        self.predict, self.explain = predict, explain


# SHAP values


@pytest.mark.parametrize("task", TASKS)
def test_the_features_that_matter_come_first_and_the_constant_last(
    task: str, explained: Mapping[str, ModelExplanation]
):
    found = explained[task].attribution.importance
    assert found[0].feature == "recent_delay"
    assert (found[-1].feature, found[-1].size.value, found[-1].direction) == ("constant", 0.0, None)
    assert sum(one.share for one in found) == pytest.approx(1)
    for one in found[:-1]:
        assert one.size.value is not None
        assert one.size.low is not None
        assert one.size.high is not None
        assert one.size.low < one.size.value < one.size.high


def test_sizes_and_directions_are_those_of_the_contributions(
    models: dict[str, Estimator], parts_of: PartsOf, explained: Mapping[str, ModelExplanation]
):
    test = parts_of["binary"]["test"]
    rows = np.sort(np.random.default_rng(3).permutation(len(test))[:400])
    by_hand = models["binary"].explain(test.features.iloc[rows])
    for one in explained["binary"].attribution.importance:
        column = by_hand.contributions[:, by_hand.features.index(one.feature)]
        assert one.size.value == pytest.approx(np.abs(column).mean())
        if one.direction is not None:
            values = test.features[one.feature].iloc[rows].to_numpy()
            known = ~np.isnan(values)
            expected = spearmanr(values[known], column[known]).statistic
            assert one.direction == pytest.approx(expected)
    directions = {one.feature: one.direction for one in explained["binary"].attribution.importance}
    assert directions["recent_delay"] is not None
    assert directions["recent_delay"] > 0.8
    assert directions["carrier"] is None


def test_a_class_that_changes_from_row_to_row_has_no_direction(
    explained: Mapping[str, ModelExplanation],
):
    assert {one.direction for one in explained["multiclass"].attribution.importance} == {None}


@pytest.mark.parametrize("task", TASKS)
def test_kept_rows_add_up_and_can_be_found_again(
    task: str,
    explained: Mapping[str, ModelExplanation],
    models: dict[str, Estimator],
    parts_of: PartsOf,
):
    rows, test = explained[task].attribution.rows, parts_of[task]["test"]
    assert len(rows) == 60
    total = rows.expected + rows.contributions.sum(axis=1)
    assert total == pytest.approx(rows.score, abs=1e-6)
    place = [
        test.context["flight_id"].tolist().index(entity["flight_id"]) for entity in rows.entities
    ]
    assert rows.label.tolist() == test.label[place].tolist()
    answers = models[task].predict(test.features.iloc[place])
    assert rows.answer == pytest.approx(test.task.point(answers))


@pytest.mark.parametrize("spoilt", [0.01, np.nan])
def test_contributions_that_do_not_add_up_name_row_and_gap(
    spoilt: float,
    models: dict[str, Estimator],
    parts_of: PartsOf,
    families: dict[str, ModelFamily],
):
    model, test = models["binary"], parts_of["binary"]["test"]

    def explain(features: pd.DataFrame) -> Explanation:
        honest = model.explain(features)
        contributions = honest.contributions.copy()
        contributions[7, 0] += spoilt
        return replace(honest, contributions=contributions)

    rows = np.arange(20)
    wrong: Any = Answering(model.predict, explain)
    flight = test.context["flight_id"].iloc[7]
    with pytest.raises(AdditivityError, match=rf"row flight_id={flight}: .*in 1 of 20 rows") as e:
        attribute(wrong, test, families["binary"], rows, rows, RESAMPLING)
    assert f"a gap of {spoilt:.3g} where 1e-04" in str(e.value)
    if np.isfinite(spoilt):
        attribute(wrong, test, families["binary"], rows, rows, RESAMPLING, tolerance=0.02)


# Permutation


@pytest.mark.parametrize("task", TASKS)
def test_shuffling_what_matters_costs_and_shuffling_a_constant_does_not(
    task: str,
    models: dict[str, Estimator],
    parts_of: PartsOf,
    families: dict[str, ModelFamily],
):
    test = parts_of[task]["test"]
    metric = test.task.metric(families[task].primary_metric)
    groups = {"constant": ["constant"], "delay": ["recent_delay"], "all": test.schema.names}
    found = permutation_importance(
        models[task], test, metric, groups, rows=600, repeats=4, confidence=0.95, seed=1
    )
    assert [one.name for one in found] == ["all", "delay", "constant"]
    everything, delay, constant = (one.loss for one in found)
    assert (constant.value, constant.low, constant.high) == (0, 0, 0)
    assert delay.low is not None
    assert delay.low > 0
    assert everything.value is not None
    assert delay.value is not None
    assert everything.value > delay.value


def test_shuffling_agrees_with_shuffling_by_hand(
    models: dict[str, Estimator], parts_of: PartsOf, families: dict[str, ModelFamily]
):
    model, test = models["binary"], parts_of["binary"]["test"]
    metric = test.task.metric("roc_auc")
    found = permutation_importance(
        model,
        test,
        metric,
        {"wind": ["wind"], "carrier": ["carrier"]},
        rows=len(test),
        repeats=1,
        confidence=0.95,
        seed=9,
    )
    generator = np.random.default_rng(9)
    rows = np.sort(generator.permutation(len(test)))
    whole = metric.value(_scored(test, model.predict(test.features.iloc[rows])))
    for name in ("wind", "carrier"):
        order = generator.permutation(len(test))
        shuffled = test.features.assign(**{name: test.features[name].array.take(order)})
        expected = whole - metric.value(_scored(test, model.predict(shuffled)))
        loss = next(one.loss for one in found if one.name == name)
        assert loss.value == pytest.approx(expected)
        assert (loss.low, loss.reason) == (None, "one repeat; two are needed for an interval")


def test_a_metric_that_cannot_be_computed_has_a_reason_and_no_number(
    models: dict[str, Estimator], parts_of: PartsOf
):
    test = parts_of["binary"]["test"]
    one_class = replace(test, label=np.zeros(len(test)))
    (found,) = permutation_importance(
        models["binary"], one_class, test.task.metric("roc_auc"), {"wind": ["wind"]},
        rows=100, repeats=2, confidence=0.95, seed=1,
    )  # fmt: skip
    assert found.loss.value is None
    assert "both classes are needed" in found.loss.reason
    with pytest.raises(MetricError, match="has no direction"):
        permutation_importance(
            models["binary"], test, test.task.metric("calibration_slope"), {"wind": ["wind"]},
            rows=100, repeats=2, confidence=0.95, seed=1,
        )  # fmt: skip


def test_views_are_shuffled_as_a_whole(explained: Mapping[str, ModelExplanation]):
    (view,) = explained["binary"].permuted_views
    assert (view.name, view.features) == ("delays", ("recent_delay", "wind", "carrier", "constant"))
    assert len(explained["binary"].permuted) == 3


# Partial dependence


def test_dependence_agrees_with_setting_the_feature_by_hand(
    models: dict[str, Estimator], parts_of: PartsOf, explained: Mapping[str, ModelExplanation]
):
    model, test = models["binary"], parts_of["binary"]["test"]
    generator = np.random.default_rng(3)
    generator.permutation(len(test))
    generator.permutation(400)
    rows = np.sort(generator.permutation(len(test))[:80])
    for found in explained["binary"].dependence:
        for i, value in enumerate(found.values):
            frame = test.features.iloc[rows].copy()
            column: Any = (
                np.float32(np.nan if value is None else value)
                if not found.categorical
                else pd.Categorical([value] * 80, categories=frame[found.feature].cat.categories)
            )
            frame[found.feature] = column
            answers = model.predict(frame)
            assert found.mean[i] == pytest.approx(answers.mean())
            assert found.ice[i] == pytest.approx(np.quantile(answers, [0.1, 0.25, 0.75, 0.9]))


def test_dependence_is_on_values_that_were_seen(
    parts_of: PartsOf, explained: Mapping[str, ModelExplanation]
):
    features = parts_of["binary"]["test"].features
    by_name = {one.feature: one for one in explained["binary"].dependence}
    delay, carrier = by_name["recent_delay"], by_name["carrier"]
    assert delay.values[-1] is None  # one in twenty is missing
    assert 0.02 < delay.share[-1] < 0.09
    numbers = [value for value in delay.values if value is not None]
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(features["recent_delay"].astype(float))
    assert delay.mean[len(numbers) - 1] > delay.mean[0] + 0.2
    assert set(carrier.values) == set(features["carrier"].unique())
    assert delay.share.sum() == pytest.approx(1)
    assert carrier.share.sum() == pytest.approx(1)


def test_each_class_has_its_own_dependence(explained: Mapping[str, ModelExplanation]):
    found = explained["multiclass"].dependence
    delay = {one.output: one for one in found if one.feature == "recent_delay"}
    assert set(delay) == {"early", "late", "on time"}
    total = np.sum([one.mean for one in delay.values()], axis=0)
    assert total == pytest.approx(np.ones(len(total)))


# Fairness


def test_binary_figures_are_the_rates_of_each_group(
    parts_of: PartsOf, models: dict[str, Estimator]
):
    test = parts_of["binary"]["test"]
    answers = models["binary"].predict(test.features)
    found = fairness(test, answers, ["carrier"], RESAMPLING, 0.3)
    truth, called = test.label == 1, answers >= 0.3
    for name in ("AA", "B6", "UA"):
        group = (test.features["carrier"] == name).to_numpy()
        here = {one.figure: one for one in found.groups if one.group == name}
        expected = {
            "selection_rate": called[group].mean(),
            "true_positive_rate": called[group & truth].mean(),
            "false_positive_rate": called[group & ~truth].mean(),
            "precision": truth[group & called].mean(),
            "calibration_gap": (answers - test.label)[group].mean(),
        }
        for figure, value in expected.items():
            assert here[figure].estimate.value == pytest.approx(value)
            assert here[figure].estimate.low is not None
        assert here["true_positive_rate"].rows == (group & truth).sum()
    assert found.overall["selection_rate"].value == pytest.approx(called.mean())


def test_the_largest_gap_is_between_large_groups(parts_of: PartsOf):
    test = parts_of["binary"]["test"]
    carrier = test.features["carrier"].astype(str).to_numpy()
    answers = np.where(carrier == "B6", 0.9, np.where(carrier == "AA", 0.1, 0.2))
    (gap,) = [
        one
        for one in fairness(test, answers, ["carrier"], RESAMPLING, 0.5).gaps
        if one.figure == "selection_rate"
    ]
    assert (gap.highest, gap.lowest, gap.gap.value) == ("B6", "AA", 1.0)
    few = np.flatnonzero(carrier == "B6")[150:]
    kept = np.setdiff1d(np.arange(len(test)), few)
    smaller = replace(
        test,
        features=test.features.iloc[kept].reset_index(drop=True),
        context=test.context.iloc[kept].reset_index(drop=True),
        label=test.label[kept],
        days=test.days[kept],
    )
    found = fairness(smaller, answers[kept], ["carrier"], RESAMPLING, 0.5)
    assert {one.group for one in found.groups if one.small} >= {"B6"}
    assert all("B6" not in {one.highest, one.lowest} for one in found.gaps)


def test_a_figure_without_rows_has_a_reason(parts_of: PartsOf):
    test = parts_of["binary"]["test"]
    found = fairness(test, np.zeros(len(test)), ["carrier"], RESAMPLING, 0.5)
    precision = [one for one in found.groups if one.figure == "precision"]
    assert {(one.estimate.value, one.estimate.reason, one.rows) for one in precision} == {
        (None, "no row is called yes", 0)
    }
    with pytest.raises(MetricError, match="needs the threshold"):
        fairness(test, np.zeros(len(test)), ["carrier"], RESAMPLING)


def test_the_figures_follow_the_task(
    parts_of: PartsOf, models: dict[str, Estimator], explained: Mapping[str, ModelExplanation]
):
    names = {task: [one.name for one in explained[task].fairness.figures] for task in TASKS}
    assert names["regression"] == ["mean_error", "mae", "coverage"]
    assert names["multiclass"] == ["accuracy", "confidence_gap"]
    test = parts_of["regression"]["test"]
    answers = models["regression"].predict(test.features)
    overall = explained["regression"].fairness.overall
    assert overall["mae"].value == pytest.approx(np.abs(answers[:, 1] - test.label).mean())
    inside = (answers[:, 0] <= test.label) & (test.label <= answers[:, 2])
    assert overall["coverage"].value == pytest.approx(inside.mean())
    test = parts_of["multiclass"]["test"]
    right = models["multiclass"].predict(test.features).argmax(axis=1) == test.label
    assert explained["multiclass"].fairness.overall["accuracy"].value == pytest.approx(right.mean())


# Altogether


def test_the_same_seed_gives_the_same_explanation(
    models: dict[str, Estimator],
    parts_of: PartsOf,
    families: dict[str, ModelFamily],
    explained: Mapping[str, ModelExplanation],
):
    test = parts_of["regression"]["test"]
    model, family = models["regression"], families["regression"]
    evaluation = evaluate(test, model.predict(test.features), family, RESAMPLING)
    again = explain_model(model, test, family, evaluation, effort=EFFORT)
    before = explained["regression"]
    assert again.attribution.importance == before.attribution.importance
    assert again.permuted == before.permuted
    assert again.fairness.groups == before.fairness.groups
    assert again.permuted_views == ()


def test_an_evaluation_of_another_part_is_refused(
    models: dict[str, Estimator], parts_of: PartsOf, families: dict[str, ModelFamily]
):
    model, family, parts = models["regression"], families["regression"], parts_of["regression"]
    validation = parts["validation"]
    evaluation = evaluate(validation, model.predict(validation.features), family, RESAMPLING)
    with pytest.raises(MetricError, match=r"rows of validation, but \d+ rows of test"):
        explain_model(model, parts["test"], family, evaluation)


@pytest.mark.parametrize("task", TASKS)
def test_an_explanation_is_written_once_for_a_run(
    task: str,
    make_lake: Callable[..., Lake],
    training_sets: dict[str, TrainingSet],
    explained: Mapping[str, ModelExplanation],
):
    lake = make_lake()
    told = {"candidate": "catboost", "training_set": training_sets[task].version}
    first = write_explanation(lake, explained[task], run_id="run-1", **told)
    assert first == tuple(table.name for table in TABLES)
    counts = {name: lake.describe(name).rows for name in first}
    assert write_explanation(lake, explained[task], run_id="run-1", **told) == ()
    assert {name: lake.describe(name).rows for name in first} == counts
    write_explanation(lake, explained[task], run_id="run-2", **told)
    assert {name: lake.describe(name).rows for name in first} == {
        name: 2 * rows for name, rows in counts.items()
    }
    with lake.connect() as con:
        worst = con.sql(
            """
            SELECT max(abs(total)) FROM (
                SELECT any_value(expected) + sum(contribution) - any_value(score) AS total
                FROM explanations.rows WHERE run_id = 'run-1' GROUP BY "row")
            """
        ).fetchall()[0][0]
    assert worst < 1e-6


def test_a_write_that_was_cut_short_is_finished_by_the_next(
    make_lake: Callable[..., Lake],
    training_sets: dict[str, TrainingSet],
    explained: Mapping[str, ModelExplanation],
):
    lake, it = make_lake(), explained["binary"]
    told = {
        "run_id": "run-1",
        "candidate": "catboost",
        "training_set": training_sets["binary"].version,
    }
    done, *waiting = explanation_tables(it, **told).items()
    lake.append(*done, transaction=("explanation-run-1", 1))
    assert write_explanation(lake, it, **told) == tuple(name for name, _ in waiting)


def test_every_column_of_every_table_is_described(
    training_sets: dict[str, TrainingSet], explained: Mapping[str, ModelExplanation]
):
    tables = explanation_tables(
        explained["binary"],
        run_id="run-1",
        candidate="catboost",
        training_set=training_sets["binary"].version,
    )
    assert set(tables) == {table.name for table in TABLES}
    for name, table in tables.items():
        assert isinstance(name, TableName)
        assert len(table) > 0
        for field in table.schema:
            assert field.metadata[b"comment"].endswith(b"."), (name, field.name)


@pytest.mark.parametrize("task", TASKS)
def test_pictures_are_small_and_show_something(
    task: str, explained: Mapping[str, ModelExplanation]
):
    drawn = pictures_of(explained[task])
    assert set(drawn) == {
        "shap_importance", "shap_beeswarm", "partial_dependence", "permutation",
        "fairness_carrier",
    }  # fmt: skip
    for name, data in drawn.items():
        assert len(data) < 40_000, name
        with Image.open(io.BytesIO(data)) as image:
            assert len(image.convert("RGB").getcolors(10_000) or []) > 5, name


def _scored(part: Part, answers: NDArray[np.float64]) -> Any:
    from mlops_assets.training.metrics import Scored

    return Scored.of(part.task, part.label, answers, part.days)
