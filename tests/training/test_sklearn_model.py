"""Any scikit-learn class keeps an estimator's promises, and what does not fit is named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_assets.training.dataset import MISSING, FeatureSchema, Part, join_parts
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    FitOptions,
    estimator_class,
    load_estimator,
)
from mlops_assets.training.estimators.permutation_shap import permutation_shap
from mlops_assets.training.tasks import Binary

OPTIONS = FitOptions(seed=1, threads=1)
BOOSTING = "sklearn.ensemble:HistGradientBoosting"
CASES = {
    "native categories": ("binary", f"{BOOSTING}Classifier", {"max_iter": 20}),
    "one-hot": ("binary", "sklearn.tree:DecisionTreeClassifier", {"max_depth": 4}),
    "classes": ("multiclass", "sklearn.naive_bayes:GaussianNB", {}),
    "number": ("regression", "sklearn.neighbors:KNeighborsRegressor", {"n_neighbors": 40}),
    "native number": ("regression", f"{BOOSTING}Regressor", {"max_iter": 20}),
}


@pytest.fixture(scope="module")
def fitted(parts_of: dict[str, dict[str, Part]]) -> dict[str, Estimator]:
    return {
        name: estimator_class(path).fit(
            parts_of[task]["train"], parts_of[task]["validation"], chosen, OPTIONS
        )
        for name, (task, path, chosen) in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_it_answers_as_the_task_says(
    name: str, fitted: dict[str, Estimator], parts_of: dict[str, dict[str, Part]]
):
    test = parts_of[CASES[name][0]]["test"]
    assert isinstance(fitted[name], Estimator)
    answers = fitted[name].predict(test.features)
    test.task.check_answers(answers, len(test))
    loss = test.task.metric(test.task.loss)
    from mlops_assets.training.metrics import Scored

    turned = np.roll(answers, 1, axis=0)  # each row gets its neighbour's answer
    own, other = (
        loss.value(Scored.of(test.task, test.label, given, test.days))
        for given in (answers, turned)
    )
    assert own < 0.95 * other


@pytest.mark.parametrize("name", CASES)
def test_what_is_saved_answers_the_same_to_the_last_bit(
    name: str, fitted: dict[str, Estimator], parts_of: dict[str, dict[str, Part]], tmp_path: Path
):
    rows = parts_of[CASES[name][0]]["test"].features.head(200)
    fitted[name].save(tmp_path)
    loaded = load_estimator(tmp_path)
    assert type(loaded) is type(fitted[name]) is estimator_class(CASES[name][1])
    assert loaded.parameters == fitted[name].parameters
    np.testing.assert_array_equal(loaded.predict(rows), fitted[name].predict(rows))
    few = rows.head(3)
    np.testing.assert_array_equal(
        loaded.explain(few).contributions, fitted[name].explain(few).contributions
    )


@pytest.mark.parametrize("name", CASES)
def test_an_explanation_adds_up_exactly_and_finds_what_matters(
    name: str, fitted: dict[str, Estimator], parts_of: dict[str, dict[str, Part]]
):
    explained = fitted[name].explain(parts_of[CASES[name][0]]["test"].features.head(60))
    assert explained.additivity_error < 1e-9
    assert next(iter(explained.importance)) == "recent_delay"
    assert explained.importance["constant"] == 0


def test_refitting_learns_from_both_parts_and_keeps_the_residuals(
    fitted: dict[str, Estimator], parts_of: dict[str, dict[str, Part]]
):
    parts, first = parts_of["regression"], fitted["number"]
    both = join_parts(parts["train"], parts["validation"])
    again = first.refit(both, OPTIONS)
    rows = parts["test"].features
    answers = again.predict(rows)
    assert not np.array_equal(answers, first.predict(rows))
    widths = [np.diff(model.predict(rows), axis=1) for model in (first, again)]
    np.testing.assert_allclose(widths[0], widths[1])
    np.testing.assert_array_equal(first.refit(both, OPTIONS).predict(rows), answers)


def test_the_platform_sets_seed_and_threads(parts: dict[str, Part]):
    forest = estimator_class("sklearn.ensemble:RandomForestClassifier")
    chosen = {"n_estimators": 3, "max_depth": 3}
    model = forest.fit(parts["train"], parts["validation"], chosen, FitOptions(seed=5, threads=2))
    assert (model.native[-1].random_state, model.native[-1].n_jobs) == (5, 2)
    with pytest.raises(EstimatorError, match=r"\['random_state'\] are set by the platform"):
        forest.fit(parts["train"], parts["validation"], {"random_state": 3}, OPTIONS)


@pytest.mark.parametrize(
    ("task", "path", "parameters", "message"),
    [
        ("binary", "sklearn.neighbors:KNeighborsRegressor", {}, "is no classifier, which a binary"),
        ("regression", "sklearn.naive_bayes:GaussianNB", {}, "is no regressor, which a regression"),
        ("binary", "sklearn.svm:LinearSVC", {}, "has no predict_proba"),
        ("binary", "sklearn.svm:SVC", {"kernl": "rbf"}, r"'kernl'; did you mean 'kernel'\?"),
        ("binary", "sklearn.tree:DecisionTreeClassifier", {"max_depth": -2}, "refused to fit .*-2"),
        ("binary", "sklearn.multiclass:OneVsRestClassifier", {}, "cannot be made with {}: .*estim"),
    ],
)
def test_what_does_not_fit_is_named(
    task: str,
    path: str,
    parameters: dict[str, object],
    message: str,
    parts_of: dict[str, dict[str, Part]],
):
    parts = parts_of[task]
    with pytest.raises(EstimatorError, match=message):
        estimator_class(path).fit(parts["train"], parts["validation"], parameters, OPTIONS)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("catbost", "there is none of that name; did you mean 'catboost'?"),
        ("sklearn.ensembl:RandomForestClassifier", "cannot import it (No module named"),
        (
            "sklearn.ensemble:RandomForrestClassifier",
            "did you mean 'sklearn.ensemble:RandomForestClassifier'?",
        ),
        ("pathlib:Path", "is no estimator: it lacks fit, refit"),
    ],
)
def test_an_algorithm_that_is_none_is_refused_with_the_nearest_name(algorithm: str, message: str):
    with pytest.raises(EstimatorError) as refused:
        estimator_class(algorithm)
    assert message in str(refused.value)


OTHER_LIBRARY = """
from sklearn.base import BaseEstimator, ClassifierMixin
import numpy as np

class Wheel:
    pass

class Rate(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_, self.rate_, self.part_ = np.unique(y), float(np.mean(y)), Wheel()
        return self
    def predict_proba(self, X):
        return np.tile([1 - self.rate_, self.rate_], (len(X), 1))
    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
"""


def test_a_class_of_another_library_must_be_declared_as_trusted(
    parts: dict[str, Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other_library.py").write_text(OTHER_LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    rate = estimator_class("other_library:Rate")
    with pytest.raises(EstimatorError, match=r"trusted_types: \[other_library\.Rate\]"):
        rate.fit(parts["train"], parts["validation"], {}, OPTIONS)
    half = {"trusted_types": ["other_library.Rate"]}
    model = rate.fit(parts["train"], parts["validation"], half, OPTIONS)
    with pytest.raises(EstimatorError, match=r"types \['other_library\.Wheel'\] that are not"):
        model.save(tmp_path)
    both = {"trusted_types": ["other_library.Rate", "other_library.Wheel"]}
    model = rate.fit(parts["train"], parts["validation"], both, OPTIONS)
    model.save(tmp_path)
    rows = parts["test"].features
    np.testing.assert_array_equal(load_estimator(tmp_path).predict(rows), model.predict(rows))
    manifest = json.loads((tmp_path / "estimator.json").read_text())
    manifest["parameters"]["trusted_types"] = []
    (tmp_path / "estimator.json").write_text(json.dumps(manifest))
    with pytest.raises(EstimatorError, match="that are not trusted"):
        load_estimator(tmp_path)


@pytest.mark.parametrize("name", ["native categories", "one-hot"])
def test_unseen_and_missing_values_get_an_answer(name: str, fitted: dict[str, Estimator]):
    rows = pd.DataFrame(
        {
            "recent_delay": np.array([np.nan, 1], dtype=np.float32),
            "wind": np.array([1, np.nan], dtype=np.float32),
            "carrier": pd.Categorical(["never seen", MISSING]),
            "constant": np.array([1, 0], dtype=np.float32),
        }
    )
    assert np.isfinite(fitted[name].predict(rows)).all()


@pytest.mark.parametrize("path", [f"{BOOSTING}Classifier", "sklearn.tree:DecisionTreeClassifier"])
def test_ten_rows_with_constant_and_all_null_columns_make_a_model_and_one_class_does_not(path: str):
    frame = pd.DataFrame(
        {
            "constant": np.ones(10, dtype=np.float32),
            "nothing": np.full(10, np.nan, dtype=np.float32),
            "number": np.arange(10, dtype=np.float32),
            "text": pd.Categorical(["x"] * 10),
        }
    )
    part = Part(
        name="train",
        schema=FeatureSchema(tuple(frame.columns), ("text",)),
        task=Binary(),
        features=frame,
        label=(np.arange(10) % 2).astype(np.float64),
        days=np.arange(10).astype("datetime64[D]"),
        context=pd.DataFrame(index=frame.index),
    )
    model = estimator_class(path).fit(part, part, {}, OPTIONS)
    assert np.isfinite(model.predict(frame)).all()
    assert model.explain(frame).importance["nothing"] == 0
    with pytest.raises(EstimatorError, match="none of its 10 rows has label yes"):
        estimator_class(path).fit(replace(part, label=np.zeros(10)), part, {}, OPTIONS)


def test_permutation_shap_is_exact_where_features_do_not_interact():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": random.normal(size=30),
            "b": random.normal(size=30),
            "c": pd.Categorical(random.choice(["x", "y"], 30)),
        }
    )
    background, rows = frame.head(5).reset_index(drop=True), frame.tail(25).reset_index(drop=True)

    def alone(given: pd.DataFrame) -> np.ndarray:
        return np.stack([3 * given["a"], given["b"] ** 2, 2.0 * (given["c"] == "x")], axis=1)

    found, expected = permutation_shap(
        lambda given, _: alone(given).sum(axis=1), rows, background,
        FeatureSchema(("a", "b", "c"), ("c",)),
    )  # fmt: skip
    np.testing.assert_allclose(found, alone(rows) - alone(background).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(expected, alone(background).sum(axis=1).mean())


def test_permutation_shap_shares_an_interaction_equally_and_walks_rows_in_chunks(
    monkeypatch: pytest.MonkeyPatch,
):
    from mlops_assets.training.estimators import permutation_shap as module

    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [5.0, 5.0, 5.0, 2.0]})
    background = pd.DataFrame({"a": [0.0], "b": [0.0]})
    found, expected = module.permutation_shap(
        lambda given, _: (given["a"] * given["b"]).to_numpy(), rows, background,
        FeatureSchema(("a", "b"), ()),
    )  # fmt: skip
    product = (rows["a"] * rows["b"]).to_numpy()
    np.testing.assert_allclose(found, np.stack([product, product], axis=1) / 2)
    np.testing.assert_array_equal(expected, 0)
