"""Every estimator keeps the same promises: learns, answers, explains, and survives being saved."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.training.dataset import MISSING, DatasetError, FeatureSchema, Part, feature_frame
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    FitOptions,
    estimator_class,
    load_estimator,
)

OPTIONS = FitOptions(seed=1, threads=2)
PARAMETERS = {
    "linear": {},
    "catboost": {"iterations": 80, "depth": 4},
    "baseline": {"by": ["carrier"]},
}


@pytest.fixture(scope="module")
def fitted(parts: dict[str, Part]) -> dict[str, Estimator]:
    return {
        name: estimator_class(name).fit(parts["train"], parts["validation"], chosen, OPTIONS)
        for name, chosen in PARAMETERS.items()
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_is_an_estimator_that_answers_probabilities(
    name: str, fitted: dict[str, Estimator], parts: dict[str, Part]
):
    assert isinstance(fitted[name], Estimator)
    answers = fitted[name].predict(parts["test"].features)
    assert answers.shape == (len(parts["test"]),)
    assert ((answers > 0) & (answers < 1)).all()


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_is_saved_answers_the_same_to_the_last_bit(
    name: str, fitted: dict[str, Estimator], parts: dict[str, Part], tmp_path: Path
):
    fitted[name].save(tmp_path)
    loaded = load_estimator(tmp_path)
    assert type(loaded) is type(fitted[name])
    assert loaded.schema == fitted[name].schema
    assert loaded.parameters == fitted[name].parameters
    assert loaded.learning_curve == fitted[name].learning_curve
    np.testing.assert_array_equal(
        loaded.predict(parts["test"].features), fitted[name].predict(parts["test"].features)
    )


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_fitting_again_with_the_same_seed_gives_the_same_bits(
    name: str, fitted: dict[str, Estimator], parts: dict[str, Part]
):
    again = estimator_class(name).fit(
        parts["train"], parts["validation"], PARAMETERS[name], OPTIONS
    )
    np.testing.assert_array_equal(
        again.predict(parts["test"].features), fitted[name].predict(parts["test"].features)
    )


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_an_explanation_adds_up_to_the_answer_and_finds_what_matters(
    name: str, fitted: dict[str, Estimator], parts: dict[str, Part]
):
    rows = parts["test"].features.head(300)
    explained = fitted[name].explain(rows)
    log_odds = explained.expected + explained.contributions.sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), fitted[name].predict(rows), atol=1e-5)
    assert next(iter(explained.importance)) == "recent_delay"
    assert explained.importance["constant"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", PARAMETERS)
def test_unseen_and_missing_values_get_an_answer(name: str, fitted: dict[str, Estimator]):
    schema = fitted[name].schema
    rows = pa.table(
        {
            "recent_delay": pa.array([None, 1.0]),
            "wind": pa.array([1, None], pa.int32()),
            "carrier": pa.array(["never seen", None]),
            "constant": pa.array([True, False]),
        }
    )
    answers = fitted[name].predict(feature_frame(rows, schema))
    assert np.isfinite(answers).all()


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_the_order_of_columns_does_not_matter(
    name: str, fitted: dict[str, Estimator], parts: dict[str, Part]
):
    rows = parts["test"].features.head(50)
    turned = rows[rows.columns[::-1]]
    np.testing.assert_array_equal(fitted[name].predict(turned), fitted[name].predict(rows))


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


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("linear", {"depth": 3}, r"linear takes no \['depth'\]; it takes C"),
        ("catboost", {"random_seed": 3}, r"\['random_seed'\]"),
        ("catboost", {"dept": 3}, r"catboost refused to fit.*dept"),
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
    with pytest.raises(EstimatorError, match="lacks fit, predict, explain, save, load"):
        estimator_class("pathlib:Path")


def test_a_folder_without_a_model_or_with_a_broken_one_is_refused(
    tmp_path: Path, fitted: dict[str, Estimator]
):
    with pytest.raises(EstimatorError, match="no saved estimator"):
        load_estimator(tmp_path)
    for name in ("catboost", "linear"):
        folder = tmp_path / name
        folder.mkdir()
        fitted[name].save(folder)
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
