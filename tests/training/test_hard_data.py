"""Data that is hardly data: every estimator gives a clear error or a sane model, for each task."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.training.dataset import FeatureSchema, Part, join_parts
from mlops_assets.training.estimators import EstimatorError, FitOptions, estimator_class
from mlops_assets.training.tasks import Binary, Multiclass, Regression, Task

OPTIONS = FitOptions(seed=1, threads=1)
TASKS: tuple[Task, ...] = (Binary(), Multiclass(("a", "b", "c")), Regression())
ESTIMATORS = ("linear", "catboost", "baseline")
PARAMETERS: dict[str, dict[str, Any]] = {
    "linear": {},
    "catboost": {"iterations": 20},
    "baseline": {"by": ["kind"]},
}
EVERY = [(task, name) for task in TASKS for name in ESTIMATORS]
each = pytest.mark.parametrize(("task", "name"), EVERY, ids=lambda it: getattr(it, "name", it))


def part(task: Task, rows: int = 200, seed: int = 0, **features: Any) -> Part:
    """Make a part whose label depends on the feature `number`."""
    random = np.random.default_rng(seed)
    number = random.normal(size=rows).astype(np.float32)
    kind = pd.Categorical(random.choice(["x", "y"], rows), categories=["x", "y"])
    frame = pd.DataFrame({"number": number, "kind": kind, **features})
    score = number + 0.3 * random.normal(size=rows)
    if isinstance(task, Regression):
        label = score * 10
    elif isinstance(task, Multiclass):
        label = np.digitize(score, [-0.5, 0.5]).astype(float)
        label[:3] = [0, 1, 2]
    else:
        label = (score > 0).astype(float)
        label[:2] = [0, 1]
    days = np.arange(rows).astype("datetime64[D]")
    text = tuple(name for name in frame if frame[name].dtype == "category")
    schema = FeatureSchema(tuple(frame.columns), text)
    return Part("train", schema, task, frame, np.asarray(label, dtype=float), days, frame)


def fit_and_answer(task: Task, name: str, train: Part, validation: Part, test: Part) -> Any:
    """Fit, answer and explain, then the same after learning again from both parts."""
    fitted = estimator_class(name).fit(train, validation, PARAMETERS[name], OPTIONS)
    for model in (fitted, fitted.refit(join_parts(train, validation), OPTIONS)):
        answers = model.predict(test.features)
        task.check_answers(answers, len(test))
        if name != "baseline":
            explained = model.explain(test.features)
            assert np.isfinite(explained.contributions).all()
            assert explained.additivity_error < 1e-9
    return answers


@each
def test_constant_features_and_columns_of_nulls_do_no_harm(task: Task, name: str):
    useless = {
        "constant": np.float32(3.5),
        "nothing": np.full(200, np.nan, dtype=np.float32),
        "one_kind": pd.Categorical(["z"] * 200),
        "no_kind": pd.Categorical(["(missing)"] * 200),
    }
    train, validation, test = (part(task, seed=s, **useless) for s in range(3))
    plain = [part(task, seed=s) for s in range(3)]
    answers = fit_and_answer(task, name, train, validation, test)
    without = fit_and_answer(task, name, *plain)
    point, expected = task.point(answers), task.point(without)
    assert np.corrcoef(point, expected)[0, 1] > 0.95


@each
def test_nothing_but_constant_features_is_an_error_or_the_rate(task: Task, name: str):
    def flat(seed: int) -> Part:
        made = part(task, seed=seed)
        frame = pd.DataFrame({"number": np.ones(200, np.float32), "kind": ["x"] * 200})
        return replace(made, features=frame.astype({"kind": "category"}))

    train, validation, test = (flat(seed) for seed in range(3))
    if name == "catboost":
        with pytest.raises(EstimatorError, match=r"200 rows of train.*features are.*constant"):
            fit_and_answer(task, name, train, validation, test)
    else:
        answers = fit_and_answer(task, name, train, validation, test)
        assert np.ptp(task.table(answers), axis=0).max() < 1e-9


@each
def test_ten_rows_are_enough_for_an_answer(task: Task, name: str):
    train, validation = part(task, 10, seed=1), part(task, 10, seed=2)
    answers = fit_and_answer(task, name, train, validation, part(task, 50, seed=3))
    if isinstance(task, Regression):
        assert np.abs(answers).max() < 200  # labels lie within 40


@each
def test_unseen_categories_and_nulls_get_an_answer(task: Task, name: str):
    train, validation, test = (part(task, seed=s) for s in range(3))
    strange = test.features.assign(
        kind=pd.Categorical(["never seen"] * 200), number=np.full(200, np.nan, np.float32)
    )
    answers = fit_and_answer(task, name, train, validation, replace(test, features=strange))
    assert np.ptp(task.table(answers), axis=0).max() == 0


@each
def test_a_class_without_rows_is_named_and_a_constant_number_is_learnt_or_refused(
    task: Task, name: str
):
    train, validation = part(task), part(task, seed=1)
    alone = replace(train, label=np.zeros(200))
    fit = estimator_class(name).fit
    if name == "baseline":
        task.check_answers(
            fit(alone, validation, PARAMETERS[name], OPTIONS).predict(validation.features), 200
        )
    elif isinstance(task, Regression):
        if name == "catboost":
            with pytest.raises(EstimatorError, match="catboost refused to fit 200 rows of train"):
                fit(alone, validation, PARAMETERS[name], OPTIONS)
        else:
            model = fit(alone, validation, PARAMETERS[name], OPTIONS)
            task.check_answers(model.predict(validation.features), 200)
    else:
        absent = "yes" if isinstance(task, Binary) else "b, c"
        with pytest.raises(EstimatorError, match=f"train: none of its 200 rows has label {absent}"):
            fit(alone, validation, PARAMETERS[name], OPTIONS)


def test_columns_that_say_the_same_are_shared_and_do_not_break_the_fit():
    for task in TASKS:
        train, validation, test = (part(task, seed=s) for s in range(3))
        twice = [
            replace(
                one,
                features=one.features.assign(copy=one.features["number"]),
                schema=FeatureSchema(("number", "kind", "copy"), ("kind",)),
            )
            for one in (train, validation, test)
        ]
        answers = fit_and_answer(task, "linear", *twice)
        assert np.corrcoef(task.point(answers), task.point(
            fit_and_answer(task, "linear", train, validation, test)
        ))[0, 1] > 0.99  # fmt: skip
