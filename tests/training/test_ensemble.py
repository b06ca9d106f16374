"""The ensemble is a model like its members: never worse where it was made, additive, repeatable."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_assets.training.dataset import Part, join_parts
from mlops_assets.training.estimators import (
    Estimator,
    EstimatorError,
    FitOptions,
    estimator_class,
    load_estimator,
)
from mlops_assets.training.estimators.ensemble import Ensemble
from mlops_assets.training.metrics import Scored

TASKS = ("binary", "multiclass", "regression")
OPTIONS = FitOptions(seed=1, threads=1)
MEMBERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {}),
    "catboost": ("catboost", {"iterations": 60, "depth": 4}),
    "net": ("net", {"k": 2, "d_block": 16, "epochs": 3, "learning_rate": 0.02}),
}
Fitted = Mapping[str, Mapping[str, Estimator]]


@pytest.fixture(scope="module")
def members(parts_of: dict[str, dict[str, Part]]) -> Fitted:
    return {
        task: {
            name: estimator_class(algorithm).fit(
                parts["train"], parts["validation"], chosen, OPTIONS
            )
            for name, (algorithm, chosen) in MEMBERS.items()
        }
        for task, parts in parts_of.items()
    }


def combined(fitted: Mapping[str, Estimator], part: Part, **parameters: Any) -> Ensemble:
    answers = {name: member.predict(part.features) for name, member in fitted.items()}
    return Ensemble.combine(fitted, part, answers, {"bags": 5, "steps": 20, **parameters}, OPTIONS)


@pytest.fixture(scope="module")
def ensembles(members: Fitted, parts_of: dict[str, dict[str, Part]]) -> dict[str, Ensemble]:
    return {task: combined(members[task], parts_of[task]["validation"]) for task in TASKS}


def loss(model: Estimator, part: Part) -> float:
    scored = Scored.of(part.task, part.label, model.predict(part.features), part.days)
    return part.task.metric(part.task.loss).value(scored)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_an_estimator_and_on_validation_not_worse_than_its_best_member(
    task: str, ensembles: dict[str, Ensemble], members: Fitted, parts_of: dict[str, dict[str, Part]]
):
    validation = parts_of[task]["validation"]
    assert isinstance(ensembles[task], Estimator)
    validation.task.check_answers(ensembles[task].predict(validation.features), len(validation))
    best = min(loss(member, validation) for member in members[task].values())
    assert loss(ensembles[task], validation) <= best + 1e-9
    assert sum(ensembles[task].weights.values()) == pytest.approx(1)
    assert min(ensembles[task].weights.values()) >= 0


@pytest.mark.parametrize("task", TASKS)
def test_an_explanation_adds_up_and_finds_what_matters(
    task: str, ensembles: dict[str, Ensemble], parts_of: dict[str, dict[str, Part]]
):
    rows = parts_of[task]["test"].features.head(60)
    explained = ensembles[task].explain(rows)
    assert explained.additivity_error < 1e-4
    assert next(iter(explained.importance)) == "recent_delay"
    answers = ensembles[task].predict(rows)
    if task == "binary":
        np.testing.assert_allclose(1 / (1 + np.exp(-explained.score)), answers, atol=1e-12)
    elif task == "regression":
        np.testing.assert_array_equal(explained.score, answers[:, 1])


def test_a_member_that_is_too_sure_still_adds_up(
    ensembles: dict[str, Ensemble], members: Fitted, parts_of: dict[str, dict[str, Part]]
):
    """The pool caps it at one in a million; its contributions shrink with it."""
    linear = members["binary"]["linear"]
    steep = replace(linear, native=deepcopy(linear.native))
    steep.native[-1].coef_ *= 20
    rows = parts_of["binary"]["test"].features.head(300)
    assert np.abs(steep.explain(rows).score).max() > 14
    pool = replace(
        ensembles["binary"],
        members={**members["binary"], "linear": steep},
        weights={"linear": 0.5, "catboost": 0.2, "net": 0.3},
    )
    assert pool.explain(rows).additivity_error < 1e-6


@pytest.mark.parametrize("task", TASKS)
def test_a_copy_of_a_member_changes_nothing(
    task: str, ensembles: dict[str, Ensemble], members: Fitted, parts_of: dict[str, dict[str, Part]]
):
    parts = parts_of[task]
    twice = {**members[task], "copy": members[task]["catboost"]}
    again = combined(twice, parts["validation"])
    assert again.weights["copy"] == 0
    assert {name: again.weights[name] for name in members[task]} == ensembles[task].weights
    rows = parts["test"].features
    np.testing.assert_array_equal(again.predict(rows), ensembles[task].predict(rows))


def test_weights_are_repeatable_and_a_useless_member_gets_little(
    members: Fitted, parts_of: dict[str, dict[str, Part]]
):
    validation = parts_of["binary"]["validation"]
    mine = members["binary"]
    answers = {name: member.predict(validation.features) for name, member in mine.items()}
    answers["net"] = np.random.default_rng(0).random(len(validation))  # knows nothing
    first, second = (
        Ensemble.combine(mine, validation, answers, {"bags": 5}, OPTIONS) for _ in range(2)
    )
    assert first.weights == second.weights
    assert first.weights["net"] < 0.05


@pytest.mark.parametrize("task", TASKS)
def test_what_is_saved_is_its_members_as_they_are(
    task: str, ensembles: dict[str, Ensemble], parts_of: dict[str, dict[str, Part]], tmp_path: Path
):
    ensembles[task].save(tmp_path)
    loaded = load_estimator(tmp_path)
    assert isinstance(loaded, Ensemble)
    assert loaded.weights == ensembles[task].weights
    assert {name: type(member) for name, member in loaded.members.items()} == {
        name: type(member) for name, member in ensembles[task].members.items()
    }
    rows = parts_of[task]["test"].features
    np.testing.assert_array_equal(loaded.predict(rows), ensembles[task].predict(rows))
    few = rows.head(4)
    np.testing.assert_array_equal(
        loaded.explain(few).contributions, ensembles[task].explain(few).contributions
    )
    (tmp_path / "member_1" / "estimator.json").unlink()
    with pytest.raises(EstimatorError, match=r"no saved estimator: .*member_1"):
        load_estimator(tmp_path)


def test_refitting_refits_the_members_and_keeps_the_weights(
    ensembles: dict[str, Ensemble], parts_of: dict[str, dict[str, Part]]
):
    parts, first = parts_of["regression"], ensembles["regression"]
    both = join_parts(parts["train"], parts["validation"])
    again = first.refit(both, OPTIONS)
    assert again.weights == first.weights
    rows = parts["test"].features
    for name, member in first.members.items():
        np.testing.assert_array_equal(
            again.members[name].predict(rows), member.refit(both, OPTIONS).predict(rows)
        )


def test_what_cannot_be_combined_is_named(members: Fitted, parts_of: dict[str, dict[str, Part]]):
    mine, parts = members["binary"], parts_of["binary"]
    validation = parts["validation"]
    with pytest.raises(EstimatorError, match="learns from the answers of fitted members"):
        estimator_class("ensemble").fit(parts["train"], validation, {}, OPTIONS)
    with pytest.raises(EstimatorError, match=r"'memberz'; did you mean 'members'\?"):
        combined(mine, validation, memberz=["linear"])
    with pytest.raises(EstimatorError, match=r"no member 'liner'; did you mean 'linear'\?"):
        combined(mine, validation, members=["liner", "net"])
    with pytest.raises(EstimatorError, match="at least two members, and has net"):
        combined(mine, validation, members=["net", "net"])
    with pytest.raises(EstimatorError, match="parameter steps: 0 is not above 0"):
        combined(mine, validation, steps=0)
    foreign = {**mine, "net": replace(mine["net"], schema=replace(validation.schema, names=("a",)))}
    answers = {name: member.predict(validation.features) for name, member in mine.items()}
    with pytest.raises(EstimatorError, match="'net' was trained for another task or other feat"):
        Ensemble.combine(foreign, validation, answers, {}, OPTIONS)
