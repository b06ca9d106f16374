"""Every estimator keeps the same promises: learns, answers, explains, and survives being saved."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.training.dataset import (
    MISSING,
    DatasetError,
    FeatureSchema,
    Part,
    feature_frame,
    join_parts,
)
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    FitOptions,
    estimator_class,
    load_estimator,
)
from mlops_assets.training.metrics import Scored
from mlops_assets.training.tasks import Multiclass, Regression

OPTIONS = FitOptions(seed=1, threads=2)
PARAMETERS: dict[str, dict[str, object]] = {
    "linear": {},
    "catboost": {"iterations": 80, "depth": 4},
    "baseline": {"by": ["carrier"]},
}
EVERY = [(task, name) for task in ("binary", "multiclass", "regression") for name in PARAMETERS]
EXPLAINED = [pair for pair in EVERY if pair[1] != "baseline"]
Fitted = dict[tuple[str, str], Estimator]
PartsOf = dict[str, dict[str, Part]]


@pytest.fixture(scope="module")
def fitted(parts_of: PartsOf) -> Fitted:
    return {
        (task, name): estimator_class(name).fit(
            parts_of[task]["train"], parts_of[task]["validation"], PARAMETERS[name], OPTIONS
        )
        for task, name in EVERY
    }


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_it_is_an_estimator_that_answers_its_task(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf
):
    model, test = fitted[task, name], parts_of[task]["test"]
    assert isinstance(model, Estimator)
    assert model.task == test.task
    answers = model.predict(test.features)
    assert answers.dtype == np.float64
    test.task.check_answers(answers, len(test))


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_what_is_saved_answers_the_same_to_the_last_bit(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf, tmp_path: Path
):
    model, rows = fitted[task, name], parts_of[task]["test"].features
    model.save(tmp_path)
    loaded = load_estimator(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.schema == model.schema
    assert loaded.task == model.task
    assert loaded.parameters == model.parameters
    assert loaded.learning_curve == model.learning_curve
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


@pytest.mark.parametrize(("task", "name"), EXPLAINED)
def test_fitting_again_with_the_same_seed_gives_the_same_bits(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf
):
    parts = parts_of[task]
    again = estimator_class(name).fit(
        parts["train"], parts["validation"], PARAMETERS[name], OPTIONS
    )
    rows = parts["test"].features
    np.testing.assert_array_equal(again.predict(rows), fitted[task, name].predict(rows))


@pytest.mark.parametrize(("task", "name"), EXPLAINED)
def test_an_explanation_adds_up_to_the_score_and_finds_what_matters(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf
):
    model, rows = fitted[task, name], parts_of[task]["test"].features.head(300)
    explained = model.explain(rows)
    assert explained.contributions.shape == (300, 4)
    assert explained.expected.shape == explained.score.shape == (300,)
    assert explained.additivity_error < 1e-9
    assert next(iter(explained.importance)) == "recent_delay"
    assert explained.importance["constant"] == pytest.approx(0, abs=1e-6)
    point = model.task.point(model.predict(rows))
    if task == "binary":
        assert explained.of == "log-odds of yes"
        np.testing.assert_allclose(1 / (1 + np.exp(-explained.score)), point, atol=1e-12)
    elif task == "regression":
        assert explained.of == "the middle quantile"
        np.testing.assert_allclose(explained.score, point, rtol=1e-12)
    else:
        assert explained.of == "raw score of the predicted class"
        # The surer of its class, the higher its score.
        assert np.corrcoef(explained.score, point)[0, 1] > 0.7


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_it_learns_again_from_both_parts_with_what_validation_decided(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf, tmp_path: Path
):
    parts, model = parts_of[task], fitted[task, name]
    both = join_parts(parts["train"], parts["validation"])
    again, same = (model.refit(both, OPTIONS) for _ in range(2))
    rows = parts["test"].features
    answers = again.predict(rows)
    np.testing.assert_array_equal(answers, same.predict(rows))
    assert not np.array_equal(answers, model.predict(rows))
    parts["test"].task.check_answers(answers, len(rows))
    assert again.parameters == model.parameters
    assert again.learning_curve == model.learning_curve
    if name == "catboost":
        assert again.native.tree_count_ == model.learning_curve.best_iteration + 1
    if name == "linear" and task == "regression":
        assert again.conformal == model.conformal
    again.save(tmp_path)
    np.testing.assert_array_equal(load_estimator(tmp_path).predict(rows), answers)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_unseen_and_missing_values_get_an_answer(task: str, name: str, fitted: Fitted):
    model = fitted[task, name]
    rows = pa.table(
        {
            "recent_delay": pa.array([None, 1.0]),
            "wind": pa.array([1, None], pa.int32()),
            "carrier": pa.array(["never seen", None]),
            "constant": pa.array([True, False]),
        }
    )
    model.task.check_answers(model.predict(feature_frame(rows, model.schema)), 2)


@pytest.mark.parametrize(("task", "name"), EXPLAINED)
def test_the_order_of_columns_does_not_matter(
    task: str, name: str, fitted: Fitted, parts_of: PartsOf
):
    rows = parts_of[task]["test"].features.head(50)
    turned = rows[rows.columns[::-1]]
    model = fitted[task, name]
    np.testing.assert_array_equal(model.predict(turned), model.predict(rows))
    np.testing.assert_array_equal(
        model.explain(turned).contributions, model.explain(rows).contributions
    )


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_model_is_far_better_than_the_baseline(task: str, fitted: Fitted, parts_of: PartsOf):
    test = parts_of[task]["test"]
    metric = test.task.metric(test.task.loss)
    losses = {
        name: metric.value(
            Scored.of(test.task, test.label, fitted[task, name].predict(test.features), test.days)
        )
        for name in PARAMETERS
    }
    assert losses["linear"] < 0.8 * losses["baseline"]
    assert losses["catboost"] < 0.8 * losses["baseline"]


def test_two_classes_by_name_are_a_multiclass_task_as_well(parts_of: PartsOf):
    parts = {
        name: replace(part, task=Multiclass(("no", "yes")))
        for name, part in parts_of["binary"].items()
    }
    for name in ("linear", "catboost"):
        model = estimator_class(name).fit(
            parts["train"], parts["validation"], PARAMETERS[name], OPTIONS
        )
        rows = parts["test"].features
        answers = model.predict(rows)
        parts["test"].task.check_answers(answers, len(rows))
        explained = model.explain(rows)
        assert explained.additivity_error < 1e-9
        assert (explained.score >= 0).all()  # of the predicted class, so it is the larger one


def test_quantiles_of_catboost_never_cross_and_their_explanation_still_adds_up(parts_of: PartsOf):
    parts = {
        name: replace(part, task=Regression((0.45, 0.5, 0.55)))
        for name, part in parts_of["regression"].items()
    }
    model = estimator_class("catboost").fit(
        parts["train"],
        parts["validation"],
        {"iterations": 200, "depth": 6, "learning_rate": 0.3},
        OPTIONS,
    )
    rows = parts["test"].features
    raw = model.native.predict(rows[list(model.schema.names)])
    assert (np.diff(raw, axis=1) < 0).any()  # or this test would show nothing
    answers = model.predict(rows)
    parts["test"].task.check_answers(answers, len(rows))
    explained = model.explain(rows)
    assert explained.additivity_error < 1e-9
    np.testing.assert_array_equal(explained.score, answers[:, 1])


def test_one_quantile_alone_is_a_point(parts_of: PartsOf):
    parts = {
        name: replace(part, task=Regression((0.5,)))
        for name, part in parts_of["regression"].items()
    }
    for name, parameters in PARAMETERS.items():
        model = estimator_class(name).fit(parts["train"], parts["validation"], parameters, OPTIONS)
        answers = model.predict(parts["test"].features)
        assert answers.shape == (len(parts["test"]),)
        if name != "baseline":
            assert model.explain(parts["test"].features).additivity_error < 1e-9


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_progress_that_says_no_stops_the_fit_and_keeps_the_model(task: str, parts_of: PartsOf):
    parts, seen = parts_of[task], []

    def progress(iteration: int, total: int, losses: Mapping[str, float]) -> bool | None:
        seen.append((iteration, losses["validation"]))
        return False if iteration == 9 else None

    model = estimator_class("catboost").fit(
        parts["train"], parts["validation"], {"iterations": 500}, FitOptions(1, 2, progress)
    )
    assert [iteration for iteration, _ in seen] == list(range(1, 10))
    assert model.learning_curve.validation == tuple(loss for _, loss in seen)
    assert model.native.tree_count_ == model.learning_curve.best_iteration + 1 <= 9
    rows = parts["test"].features
    parts["test"].task.check_answers(model.predict(rows), len(rows))


def test_the_loss_of_the_learning_curve_is_the_tasks(fitted: Fitted, parts_of: PartsOf):
    for task, parts in parts_of.items():
        model, part = fitted[task, "catboost"], parts["validation"]
        curve = model.learning_curve
        measured = part.task.metric(part.task.loss).value(
            Scored.of(part.task, part.label, model.predict(part.features), part.days)
        )
        # Where quantiles cross, sorting them makes the loss a little smaller.
        assert curve.validation[curve.best_iteration] == pytest.approx(measured, rel=1e-3)


def test_catboost_stops_early_reports_progress_and_keeps_the_best(parts: dict[str, Part]):
    seen: list[int] = []

    def progress(iteration: int, total: int, losses: Mapping[str, float]) -> None:
        assert total == 2000
        assert losses["validation"] > 0
        seen.append(iteration)

    options = FitOptions(1, 2, progress)
    parameters = {"iterations": 2000, "learning_rate": 0.5, "early_stopping_rounds": 10}
    model = estimator_class("catboost").fit(
        parts["train"], parts["validation"], parameters, options
    )
    curve = model.learning_curve
    assert len(seen) == len(curve.validation) < 2000
    assert curve.best_iteration == int(np.argmin(curve.validation))
    assert model.native.tree_count_ == curve.best_iteration + 1


def test_the_baseline_answers_each_groups_smoothed_rate(parts: dict[str, Part]):
    train = parts["train"]
    model = estimator_class("baseline").fit(
        train, parts["validation"], {"by": ["carrier"], "smoothing": 0}, OPTIONS
    )
    b6 = (train.features["carrier"] == "B6").to_numpy()
    answers = model.predict(train.features)
    assert answers[b6] == pytest.approx(train.label[b6].mean())
    plain = estimator_class("baseline").fit(train, train, {}, OPTIONS)
    assert plain.predict(train.features) == pytest.approx(train.label.mean())


def test_the_baseline_of_classes_and_numbers_answers_what_a_group_was(parts_of: PartsOf):
    for task in ("multiclass", "regression"):
        train = parts_of[task]["train"]
        model = estimator_class("baseline").fit(
            train, train, {"by": ["carrier"], "smoothing": 0}, OPTIONS
        )
        b6 = (train.features["carrier"] == "B6").to_numpy()
        answer = model.predict(train.features)[b6][0]
        if task == "regression":
            np.testing.assert_allclose(answer, np.quantile(train.label[b6], [0.1, 0.5, 0.9]))
        else:
            np.testing.assert_allclose(answer, [(train.label[b6] == k).mean() for k in range(3)])


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("linear", {"depth": 3}, r"linear takes no \['depth'\]; it takes C"),
        ("catboost", {"random_seed": 3}, r"\['random_seed'\]"),
        ("catboost", {"dept": 3}, r"catboost refused to fit.*dept"),
        ("catboost", {"n_estimators": 3}, r"name the number of trees 'iterations', not"),
        ("baseline", {"by": ["carier"]}, r"no features \['carier'\]"),
    ],
)
def test_a_wrong_parameter_is_named(
    name: str, parameters: dict[str, object], message: str, parts: dict[str, Part]
):
    with pytest.raises(EstimatorError, match=message):
        estimator_class(name).fit(parts["train"], parts["validation"], parameters, OPTIONS)


def test_an_import_path_must_lead_to_an_estimator():
    with pytest.raises(EstimatorError, match="cannot import it"):
        estimator_class("no_such_module:Thing")
    with pytest.raises(EstimatorError, match="lacks fit, refit, predict, explain, save, load"):
        estimator_class("pathlib:Path")


def test_a_folder_without_a_model_or_with_a_broken_one_is_refused(tmp_path: Path, fitted: Fitted):
    with pytest.raises(EstimatorError, match="no saved estimator"):
        load_estimator(tmp_path)
    for name in ("catboost", "linear"):
        folder = tmp_path / name
        folder.mkdir()
        fitted["binary", name].save(folder)
        model = next(path for path in folder.iterdir() if path.suffix != ".json")
        model.write_bytes(model.read_bytes()[:100])
        with pytest.raises(EstimatorError, match=r"model\.(cb|skops)"):
            load_estimator(folder)
    (tmp_path / "estimator.json").write_text('{"estimator": 3}')
    with pytest.raises(EstimatorError, match="is no estimator manifest"):
        load_estimator(tmp_path)


def test_a_frame_is_float32_and_categories_with_null_as_one(parts: dict[str, Part]):
    frame = parts["train"].features
    assert list(frame.columns) == ["recent_delay", "wind", "carrier", "constant"]
    assert frame["wind"].dtype == np.float32
    assert isinstance(frame["carrier"].dtype, pd.CategoricalDtype)
    assert MISSING in frame["carrier"].cat.categories
    assert frame["recent_delay"].isna().any()


def test_a_frame_names_what_is_absent_or_of_the_wrong_type():
    schema = FeatureSchema(("a", "b"), ("b",))
    with pytest.raises(DatasetError, match=r"\['b'\] are absent"):
        feature_frame(pa.table({"a": [1.0]}), schema)
    with pytest.raises(DatasetError, match="'a' is string, where the model takes a number"):
        feature_frame(pa.table({"a": ["x"], "b": ["y"]}), schema)


def test_parts_are_joined_with_one_set_of_categories(parts_of: PartsOf):
    parts = parts_of["multiclass"]
    first, second = parts["train"], parts["validation"]
    renamed = second.features.assign(
        carrier=second.features["carrier"].cat.rename_categories(str.lower)
    )
    both = join_parts(first, replace(second, features=renamed))
    assert len(both) == len(first) + len(second)
    assert both.task == first.task
    assert both.name == "train+validation"
    assert {"AA", "aa"} <= set(both.features["carrier"].cat.categories)
    assert both.features["carrier"].astype(str).tolist() == [
        *first.features["carrier"].astype(str),
        *renamed["carrier"].astype(str),
    ]
    assert both.features["wind"].dtype == np.float32
    np.testing.assert_array_equal(both.label, np.r_[first.label, second.label])
    np.testing.assert_array_equal(both.days, np.r_[first.days, second.days])
    assert both.context["flight_id"].tolist() == [
        *first.context["flight_id"],
        *second.context["flight_id"],
    ]
    with pytest.raises(DatasetError, match="have different features or classes"):
        join_parts(first, parts_of["binary"]["validation"])
