"""The net keeps an estimator's promises for each task, on a small world with known truth."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mlops_assets.training.dataset import FeatureSchema, Part, join_parts
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    FitOptions,
    estimator_class,
    load_estimator,
)
from mlops_assets.training.estimators.net import DEFAULTS, Net
from mlops_assets.training.tasks import Binary, Multiclass, Regression

TASKS = ("binary", "multiclass", "regression")
OPTIONS = FitOptions(seed=1, threads=1)
SMALL = {"k": 2, "d_block": 32, "epochs": 5, "batch_size": 256, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def fitted(parts_of: dict[str, dict[str, Part]]) -> dict[str, Net]:
    return {
        task: Net.fit(parts["train"], parts["validation"], SMALL, OPTIONS)
        for task, parts in parts_of.items()
    }


def made(label: np.ndarray, task: object = None, **columns: object) -> Part:
    """Make a part of a few rows by hand."""
    frame = pd.DataFrame(columns)
    texts = tuple(name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype))
    return Part(
        name="train",
        schema=FeatureSchema(tuple(frame.columns), texts),
        task=task or Binary(),
        features=frame,
        label=label.astype(np.float64),
        days=np.arange(len(label)).astype("datetime64[D]"),
        context=pd.DataFrame(index=frame.index),
    )


@pytest.mark.parametrize("task", TASKS)
def test_it_answers_as_the_task_says_and_better_than_chance(
    task: str, fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]]
):
    test = parts_of[task]["test"]
    answers = fitted[task].predict(test.features)
    assert isinstance(fitted[task], Estimator)
    test.task.check_answers(answers, len(test))
    if task == "binary":
        yes = test.label == 1
        assert answers[yes].mean() > answers[~yes].mean() + 0.15
    elif task == "multiclass":
        assert (answers.argmax(axis=1) == test.label).mean() > 0.6
    else:
        error = np.abs(test.label - answers[:, 1]).mean()
        assert error < 0.75 * np.abs(test.label - np.median(test.label)).mean()
        inside = (test.label >= answers[:, 0]) & (test.label <= answers[:, 2])
        assert 0.65 < inside.mean() < 0.95  # 80 % asked for


@pytest.mark.parametrize("task", TASKS)
def test_an_explanation_adds_up_and_finds_what_matters(
    task: str, fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]]
):
    rows = parts_of[task]["test"].features.head(100)
    explained = fitted[task].explain(rows)
    assert explained.additivity_error < 1e-4
    assert next(iter(explained.importance)) == "recent_delay"
    assert explained.importance["constant"] == 0
    answers = fitted[task].predict(rows)
    if task == "binary":
        np.testing.assert_allclose(1 / (1 + np.exp(-explained.score)), answers, atol=1e-12)
    elif task == "regression":
        np.testing.assert_array_equal(explained.score, answers[:, 1])


def test_contributions_are_near_shapley_values_computed_one_order_at_a_time(
    fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]]
):
    """The reference walks eighty random orders of the four features, by Shapley's definition."""
    from mlops_assets.training.estimators.permutation_shap import permutation_shap

    net, train = fitted["binary"], parts_of["binary"]["train"]
    rows = parts_of["binary"]["test"].features.head(20)
    chosen = np.sort(np.random.default_rng(5).choice(len(train), 40, replace=False))

    def log_odds(frame: pd.DataFrame, _: np.ndarray) -> np.ndarray:
        probability = net.predict(frame)
        return np.log(probability / (1 - probability))

    sampled, _ = permutation_shap(
        log_odds, rows, train.features.iloc[chosen].reset_index(drop=True), train.schema
    )
    found = net.explain(rows).contributions
    assert np.corrcoef(sampled.ravel(), found.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("task", TASKS)
def test_what_is_saved_answers_the_same_to_the_last_bit(
    task: str, fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]], tmp_path: Path
):
    rows = parts_of[task]["test"].features
    fitted[task].save(tmp_path)
    loaded = load_estimator(tmp_path)
    assert isinstance(loaded, Net)
    assert loaded.task == fitted[task].task
    assert loaded.parameters == fitted[task].parameters
    assert loaded.learning_curve == fitted[task].learning_curve
    np.testing.assert_array_equal(loaded.predict(rows), fitted[task].predict(rows))
    few = rows.head(5)
    np.testing.assert_array_equal(
        loaded.explain(few).contributions, fitted[task].explain(few).contributions
    )


def test_the_same_seed_and_threads_give_the_same_bits_whatever_ran_before(
    fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]]
):
    parts = parts_of["binary"]
    torch.rand(7)  # other work moves PyTorch's own random state
    threads = torch.get_num_threads()
    again = Net.fit(parts["train"], parts["validation"], SMALL, OPTIONS)
    rows = parts["test"].features
    np.testing.assert_array_equal(again.predict(rows), fitted["binary"].predict(rows))
    two = {**SMALL, "epochs": 1}
    first, second = (
        Net.fit(parts["train"], parts["validation"], two, replace(OPTIONS, threads=2))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict(rows), second.predict(rows))
    other = Net.fit(parts["train"], parts["validation"], two, replace(OPTIONS, seed=2))
    assert not np.array_equal(other.predict(rows), again.predict(rows))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_stops_early_reports_progress_and_keeps_the_best(parts: dict[str, Part]):
    seen: list[tuple[int, int, float, float]] = []

    def progress(epoch: int, total: int, losses: Mapping[str, float]) -> None:
        seen.append((epoch, total, losses["train"], losses["validation"]))

    chosen = {**SMALL, "epochs": 40, "patience": 2, "learning_rate": 0.05}
    model = Net.fit(
        parts["train"], parts["validation"], chosen, replace(OPTIONS, progress=progress)
    )
    curve = model.learning_curve
    best = int(np.argmin(curve.validation))
    assert len(seen) == len(curve.validation) == best + 3 < 40
    assert seen[-1] == (len(seen), 40, curve.train[-1], curve.validation[-1])
    assert curve.best_iteration == best
    answers, label = model.predict(parts["validation"].features), parts["validation"].label
    loss = -np.log(np.where(label == 1, answers, 1 - answers)).mean()
    assert loss == pytest.approx(curve.validation[best], abs=1e-6)


def test_progress_can_stop_it(parts: dict[str, Part]):
    options = replace(OPTIONS, progress=lambda epoch, *_: epoch < 2)
    model = Net.fit(parts["train"], parts["validation"], SMALL, options)
    assert len(model.learning_curve.train) == 2


def test_refitting_takes_as_many_epochs_as_were_best_and_is_repeatable(
    fitted: dict[str, Net], parts_of: dict[str, dict[str, Part]]
):
    parts, first = parts_of["regression"], fitted["regression"]
    seen: list[int] = []

    def progress(epoch: int, total: int, losses: Mapping[str, float]) -> None:
        assert set(losses) == {"train"}
        seen.append(total)

    both = join_parts(parts["train"], parts["validation"])
    again = first.refit(both, replace(OPTIONS, progress=progress))
    assert first.learning_curve.best_iteration is not None
    epochs = first.learning_curve.best_iteration + 1
    assert seen == [epochs] * epochs
    assert again.learning_curve == first.learning_curve
    assert again.parameters == first.parameters
    rows = parts["test"].features
    answers = again.predict(rows)
    assert not np.array_equal(answers, first.predict(rows))
    np.testing.assert_array_equal(first.refit(both, OPTIONS).predict(rows), answers)


def test_a_batch_is_read_when_it_is_needed(parts: dict[str, Part]):
    """No matrix of the whole part is ever made: columns are views of the frame's own."""
    from mlops_assets.training.estimators.net.rows import Rows, Vocabulary

    part = parts["train"]
    rows = Rows(part.features, part.schema, Vocabulary.of(part.features, part.schema, 10))
    for name, column in zip(part.schema.numeric, rows._numbers, strict=True):
        assert np.shares_memory(column, part.features[name].to_numpy())
    numbers, categories = rows.take(np.array([5, 3]))
    expected = part.features[list(part.schema.numeric)].iloc[[5, 3]].to_numpy()
    np.testing.assert_array_equal(numbers.numpy(), expected)
    assert categories.shape == (2, 1)


def test_rare_and_unseen_categories_are_one_and_nulls_get_an_answer():
    random = np.random.default_rng(0)
    text = np.where(np.arange(400) < 390, random.choice(["a", "b"], 400), "rare")
    part = made(
        random.random(400) < np.where(text == "a", 0.8, 0.2),
        text=pd.Categorical(text),
        number=np.where(random.random(400) < 0.2, np.nan, random.normal(size=400)).astype("f4"),
    )
    model = Net.fit(part, part, {**SMALL, "min_category_rows": 20}, OPTIONS)
    rows = pd.DataFrame(
        {
            "text": pd.Categorical(["rare", "never seen", None, "a", "b"]),
            "number": np.array([1, 1, 1, np.nan, np.inf], dtype=np.float32),
        }
    )
    answers = model.predict(rows)
    assert np.isfinite(answers).all()
    assert answers[0] == answers[1] == answers[2]
    assert answers[3] > answers[4]


def test_ten_rows_with_constant_and_all_null_columns_make_a_model():
    nothing = np.full(10, np.nan, dtype=np.float32)
    part = made(
        np.arange(10) % 2,
        constant=np.ones(10, dtype=np.float32),
        nothing=nothing,
        text=pd.Categorical(["x"] * 10),
    )
    model = Net.fit(part, part, SMALL, OPTIONS)
    answers = model.predict(part.features)
    assert ((answers > 0) & (answers < 1)).all()
    assert np.ptp(answers) < 1e-6  # rows differ by rounding at most
    assert model.explain(part.features).importance["constant"] == 0
    surprise = part.features.assign(nothing=np.arange(10, dtype=np.float32))
    assert np.isfinite(model.predict(surprise)).all()


def test_only_numbers_only_texts_no_rows_and_a_constant_number_to_predict():
    random = np.random.default_rng(0)
    numbers = made(np.full(50, 3.0), Regression(), number=random.normal(size=50).astype("f4"))
    model = Net.fit(numbers, numbers, SMALL, OPTIONS)
    assert model.predict(numbers.features)[:, 1] == pytest.approx(3, abs=1)
    texts = made(np.arange(50) % 2, text=pd.Categorical(random.choice(["a", "b"], 50)))
    answers = Net.fit(texts, texts, SMALL, OPTIONS)
    assert answers.predict(texts.features.head(0)).shape == (0,)
    assert answers.explain(texts.features.head(0)).contributions.shape == (0, 1)


def test_one_quantile_is_one_column(parts_of: dict[str, dict[str, Part]]):
    parts = {
        name: replace(p, task=Regression((0.5,))) for name, p in parts_of["regression"].items()
    }
    model = Net.fit(parts["train"], parts["validation"], {**SMALL, "epochs": 1}, OPTIONS)
    assert model.predict(parts["test"].features).shape == (len(parts["test"]),)


def test_one_class_is_refused_by_name():
    part = made(np.ones(20), number=np.arange(20, dtype=np.float32))
    with pytest.raises(EstimatorError, match="none of its 20 rows has label no"):
        Net.fit(part, part, {}, OPTIONS)
    several = replace(part, task=Multiclass(("a", "b", "c")))
    with pytest.raises(EstimatorError, match="label a, c"):
        Net.fit(several, several, {}, OPTIONS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"d_blok": 8}, r"net takes no parameter 'd_blok'; did you mean 'd_block'\?"),
        ({"dropout": 1.5}, r"net parameter dropout: 1\.5 is wrong: .*less than 1"),
        ({"k": "many"}, "net parameter k: 'many' is wrong"),
        ({"device": "tpu"}, "net parameter device: 'tpu' is wrong"),
    ],
)
def test_a_wrong_parameter_is_named(
    parameters: dict[str, object], message: str, parts: dict[str, Part]
):
    with pytest.raises(EstimatorError, match=message):
        Net.fit(parts["train"], parts["validation"], parameters, OPTIONS)


def test_a_device_that_is_not_there_is_named(parts: dict[str, Part]):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(EstimatorError, match="this machine has no 'cuda'; use 'auto'"):
        Net.fit(parts["train"], parts["validation"], {**SMALL, "device": "cuda"}, OPTIONS)


def test_a_loss_that_is_no_number_says_what_to_change(parts: dict[str, Part]):
    # A label that is no number is the one sure way there, on any machine.
    broken = replace(parts["validation"], label=np.full(len(parts["validation"]), np.nan))
    with pytest.raises(EstimatorError, match=r"loss became .* lower it"):
        Net.fit(parts["train"], broken, SMALL, OPTIONS)


def test_a_file_that_is_no_network_or_would_run_code_is_refused(
    fitted: dict[str, Net], tmp_path: Path
):
    fitted["binary"].save(tmp_path)
    path = tmp_path / Net.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(EstimatorError, match=r"network\.pt: PyTorch cannot read the network"):
        load_estimator(tmp_path)
    torch.save({"weights": Path}, path)  # a pickled reference to code
    with pytest.raises(EstimatorError, match=r"network\.pt: PyTorch cannot read the network"):
        load_estimator(tmp_path)
    path.write_bytes(whole)
    manifest = json.loads((tmp_path / "estimator.json").read_text())
    manifest["parameters"]["d_block"] = 8
    (tmp_path / "estimator.json").write_text(json.dumps(manifest))
    with pytest.raises(EstimatorError, match="size mismatch"):
        load_estimator(tmp_path)


def test_the_package_of_estimators_imports_no_learning_library():
    heavy = "torch sklearn catboost scipy pandas"
    code = (
        "import sys, mlops_assets.training.estimators as e; "
        f"print([m for m in '{heavy}'.split() if m in sys.modules]); "
        "e.estimator_class('net'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "True"]


def test_the_short_name_and_the_defaults_are_there():
    assert estimator_class("net") is Net
    assert {"k", "d_block", "learning_rate", "epochs", "patience"} <= set(DEFAULTS)
