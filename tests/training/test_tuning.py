"""A search tries the declared parameters first, keeps its limits, and outlives its trials."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mlops_assets.lake import TableName, TableVersion
from mlops_assets.training.dataset import Part
from mlops_assets.training.search_space import share_of_days
from mlops_assets.training.tuning import (
    SearchResult,
    TrialRecord,
    TrialState,
    TuningError,
    name_study,
    search,
    trials_table,
)

TRAINING_SET = TableVersion(TableName("training", "late"), 4)
SLOPES = {"slope": {"kind": "float", "low": 0.01, "high": 10, "log": True}}
BOTH = {**SLOPES, "offset": {"kind": "float", "low": -3, "high": 3}}

Search = Callable[..., SearchResult]


@pytest.fixture(scope="module")
def world() -> Iterator[ModuleType]:
    """The module with the estimator to search, where worker processes find it too."""
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield import_module("tuning_world")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def parts(world: Any) -> dict[str, Part]:
    return {name: world.part(name, days) for name, days in (("train", 30), ("validation", 10))}


@pytest.fixture(scope="module")
def searching(world: Any, parts: Mapping[str, Part]) -> Callable[[Path], Search]:
    """Search a candidate over a space; keywords of the search's declaration, or of the call."""

    def go(
        folder: Path, space: Mapping[str, Any], algorithm: str = world.PATH, **given: Any
    ) -> SearchResult:
        call = {
            key: given.pop(key)
            for key in ("on_trial", "progress", "train", "validation", "seed", "storage")
            if key in given
        }
        family = world.family(algorithm, space, **given)
        declared = world.candidate(family)
        call = {"seed": 5, "storage": folder, **parts, **call}
        name = name_study(family, declared, TRAINING_SET, seed=call["seed"])
        train, validation = call.pop("train"), call.pop("validation")
        return search(family, declared, train, validation, study_name=name, threads=2, **call)

    return lambda folder: partial(go, folder)


@pytest.fixture
def run(searching: Callable[[Path], Search], tmp_path: Path) -> Search:
    return searching(tmp_path / "studies")


def values(found: SearchResult) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.value, t.parameters, t.iterations) for t in found.trials]


@pytest.fixture(scope="module")
def whole(
    searching: Callable[[Path], Search], tmp_path_factory: pytest.TempPathFactory
) -> SearchResult:
    """Fourteen trials in one go."""
    go = searching(tmp_path_factory.mktemp("whole"))
    return go(BOTH, trials=14, parameters={"offset": 2.0})


def test_the_first_trial_has_the_declared_parameters_and_the_best_is_better(
    whole: SearchResult,
) -> None:
    first = whole.trials[0]
    assert first.declared
    # The slope was not declared, and is what the algorithm itself takes then.
    assert dict(first.parameters) == {"offset": 2.0, "slope": 0.1}
    assert [trial.number for trial in whole.trials] == list(range(14))
    assert sum(trial.declared for trial in whole.trials) == 1
    assert whole.declared_value is not None
    assert whole.best_value < whole.declared_value
    assert whole.best_parameters == {"offset": 2.0, **whole.best.parameters}
    assert whole.best_value == min(t.value for t in whole.trials if t.value is not None)
    assert set(whole.importance) == {"slope", "offset"}
    assert sum(whole.importance.values()) == pytest.approx(1)
    assert whole.ended_by == "trials"


def test_the_value_is_the_metric_of_the_best_iteration_on_validation(
    whole: SearchResult, world: Any, parts: Mapping[str, Part]
) -> None:
    complete = [trial for trial in whole.trials if trial.value is not None]
    for trial in complete:
        assert trial.iterations is not None
        slope = trial.parameters["slope"] * (1 - 2.0 ** (-(trial.iterations - 1) / 5))
        by_hand = world.log_loss(parts["validation"], slope, trial.parameters["offset"])
        assert trial.value == pytest.approx(by_hand)


def test_a_later_search_goes_on_as_if_it_had_never_stopped(
    run: Search, whole: SearchResult
) -> None:
    """So a serial search gives the same trials again, in one go or in two."""
    told: list[int] = []

    def tell(trial: TrialRecord) -> None:
        told.append(trial.number)

    early = run(BOTH, trials=6, parameters={"offset": 2.0}, on_trial=tell)
    late = run(BOTH, trials=14, parameters={"offset": 2.0}, on_trial=tell)
    assert told == list(range(14))
    assert (early.resumed, late.resumed) == (0, 6)
    assert values(late)[:6] == values(early)
    assert values(late) == values(whole)


def test_another_seed_gives_other_trials(run: Search, whole: SearchResult) -> None:
    other = run(BOTH, trials=3, parameters={"offset": 2.0}, seed=6)
    assert values(other)[1:] != values(whole)[1:3]


def test_a_finished_search_is_not_run_again(run: Search) -> None:
    first = run(SLOPES, trials=5)
    again = run(SLOPES, trials=5, on_trial=lambda trial: pytest.fail(f"ran {trial}"))
    assert again.trials == first.trials
    assert again.best_parameters == first.best_parameters


def test_several_workers_share_one_study(run: Search) -> None:
    found = run(BOTH, trials=12, workers=2)
    assert sorted(t.number for t in found.trials) == list(range(12))
    assert len({str(dict(t.parameters)) for t in found.trials}) == 12
    assert found.threads == 1, "two threads are divided between two workers"


def test_a_study_may_be_kept_in_a_database(run: Search, tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path / 'studies.db'}"
    first = run(SLOPES, trials=2, storage=where)
    assert run(SLOPES, trials=3, storage=where).trials[:2] == first.trials
    with pytest.raises(TuningError, match="storage cannot be opened"):
        run(SLOPES, storage="no-such-database://nowhere")


def test_a_hopeless_trial_is_pruned_and_says_where(run: Search) -> None:
    space = {"offset": {"kind": "float", "low": -6, "high": 6}}
    found = run(space, trials=14)
    pruned = [trial for trial in found.trials if trial.state is TrialState.PRUNED]
    assert pruned
    assert all(trial.number >= 5 for trial in pruned), "nothing to compare with before"
    for trial in pruned:
        assert trial.value is None
        assert trial.iterations is not None
        assert 40 / 3 <= trial.iterations < 40
        assert trial.loss is not None
        assert trial.loss > found.best_value
        assert f"after iteration {trial.iterations} of at most 40" in trial.reason


def test_another_metric_may_be_optimised(run: Search) -> None:
    found = run(SLOPES, trials=3, metric="brier")
    assert (found.metric, found.greater_is_better, found.metric_is_loss) == ("brier", False, False)
    better = run({"C": {"kind": "float", "low": 1e-6, "high": 1, "log": True}}, "linear", trials=4,
                 metric="roc_auc")  # fmt: skip
    assert better.greater_is_better
    assert better.best_value == max(t.value for t in better.trials if t.value is not None)


def test_categories_and_whole_numbers_are_searched(run: Search) -> None:
    space = {
        "iterations": {"kind": "int", "low": 10, "high": 30, "step": 5},
        "misbehave": {"kind": "categorical", "choices": ["no", "never"]},
    }
    found = run(space, trials=8, parameters={"slope": 1.0})
    assert {t.parameters["iterations"] for t in found.trials[1:]} <= {10, 15, 20, 25, 30}
    assert {t.parameters["misbehave"] for t in found.trials[1:]} <= {"no", "never"}
    # 40 iterations, the algorithm's own default, lie outside of the space.
    assert dict(found.trials[0].parameters) == {"misbehave": "no"}


def test_the_real_algorithms_can_be_searched(run: Search) -> None:
    linear = run(
        {"C": {"kind": "float", "low": 0.001, "high": 10, "log": True}}, "linear", trials=4
    )
    assert all(trial.iterations is None for trial in linear.trials)
    space = {"depth": {"kind": "int", "low": 2, "high": 5}}
    trees = run(space, "catboost", trials=4, parameters={"iterations": 40, "learning_rate": 0.2})
    assert all(0 < (trial.iterations or 0) <= 40 for trial in trees.trials)
    assert trees.best_parameters.keys() == {"iterations", "learning_rate", "depth"} - (
        {"depth"} if trees.best.declared else set()
    )


# What goes wrong in a trial ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "EstimatorError: this one cannot be fitted"),
        ("die", "ended by SIGKILL, which is what the system does when memory runs out"),
        ("eat", "MemoryError: Unable to allocate 8.00 PiB"),
    ],
)
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(
    run: Search, how: str, reason: str
) -> None:
    space = {**SLOPES, "misbehave": {"kind": "categorical", "choices": ["no", how]}}
    found = run(space, trials=8)
    failed = [t for t in found.trials if t.state is TrialState.FAILED]
    assert failed
    assert len(failed) == sum(t.parameters["misbehave"] == how for t in found.trials)
    assert all(reason in trial.reason for trial in failed)
    assert all(trial.value is None for trial in failed)
    assert found.counts[TrialState.COMPLETE] + found.counts[TrialState.PRUNED] == 8 - len(failed)


class Clock:
    """The real clock, and what a test adds to it."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mlops_assets.training.tuning.searching.time", clock)
    return clock


def test_a_trial_that_takes_too_long_is_ended_and_the_search_goes_on(
    run: Search, world: Any, clock: Clock
) -> None:
    def progress(_: int, total: int, __: Mapping[str, float]) -> None:
        clock.ahead += 1201 if total == world.HANGING else 0

    space = {**SLOPES, "misbehave": {"kind": "categorical", "choices": ["no", "hang"]}}
    found = run(space, trials=6, trial_timeout="PT20M", timeout="PT9H", progress=progress)
    failed = [t for t in found.trials if t.state is TrialState.FAILED]
    assert failed
    assert {t.number for t in failed} == {
        t.number for t in found.trials if t.parameters["misbehave"] == "hang"
    }
    assert {t.reason for t in failed} == {
        "ran longer than its 0:20:00, after iteration 1 of at most 999"
    }
    assert found.counts[TrialState.COMPLETE] == 6 - len(failed)


def test_when_all_fail_the_first_cause_is_the_error_and_mending_it_starts_anew(
    run: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"misbehave": {"kind": "categorical", "choices": ["no", "raise"]}}
    with pytest.raises(
        TuningError,
        match=r"none of its 10 trials succeeded.*declared parameters.*it stands in the way",
    ):
        run(broken, "broken_world:Broken", trials=40)
    monkeypatch.setenv("BROKEN_MENDED", "yes")
    found = run(broken, "broken_world:Broken", trials=2)
    assert found.trials[0].declared
    assert found.trials[0].state is TrialState.COMPLETE


def test_when_time_is_up_the_search_ends_and_a_later_one_repeats_what_was_cut(
    run: Search, clock: Clock
) -> None:
    ended: list[int] = []

    def in_the_third_trial(*_: object) -> None:
        clock.ahead += 600 if len(ended) == 2 else 0

    slow = {"parameters": {"pause": 0.01, "slope": 0.2}, "trials": 5, "timeout": "PT5M"}
    first = run(
        SLOPES,
        on_trial=lambda trial: ended.append(trial.number),
        progress=in_the_third_trial,
        **slow,
    )
    assert first.ended_by == "timeout"
    assert [t.state for t in first.trials] == ["complete", "complete", "failed"]
    cut = first.trials[2]
    assert cut.reason == "the time of the search, 0:05:00, was up, after iteration 1 of at most 40"
    late = run(SLOPES, **slow)
    assert late.ended_by == "trials"
    assert late.trials[:3] == first.trials
    repeated = late.trials[3]
    assert repeated.parameters == cut.parameters
    assert [t.state is TrialState.FAILED for t in late.trials] == [False, False, True] + [False] * 3


# What is refused ---------------------------------------------------------------------------------


def test_the_test_part_is_refused(run: Search, world: Any) -> None:
    test = world.part("test", 10)
    with pytest.raises(TuningError, match="takes the validation part here, not 'test'"):
        run(SLOPES, validation=test)
    with pytest.raises(TuningError, match="takes the train part here, not 'test'"):
        run(SLOPES, train=test)


def test_a_metric_without_a_direction_and_an_unknown_one_are_refused(run: Search) -> None:
    with pytest.raises(TuningError, match=r"search.metric: .*calibration_slope has no direction"):
        run(SLOPES, metric="calibration_slope")
    with pytest.raises(TuningError, match=r"search.metric: .*no metric 'auc'"):
        run(SLOPES, metric="auc")


def test_two_searches_of_one_study_do_not_mix(run: Search) -> None:
    def meddle(_: object) -> None:
        with pytest.raises(TuningError, match="another search of this study is running"):
            run(SLOPES, trials=3)

    run(SLOPES, trials=3, on_trial=meddle)


# A study's name, and days ------------------------------------------------------------------------


def test_a_study_is_of_what_decides_a_trials_value(world: Any) -> None:
    def name(
        space: Mapping[str, Any] = SLOPES, version: int = 4, seed: int = 5, **more: Any
    ) -> str:
        family = world.family(more.pop("algorithm", world.PATH), space, **more)
        table = TableVersion(TableName("training", "late"), version)
        return name_study(family, world.candidate(family), table, seed=seed)

    one = name()
    assert one.startswith("late.tried.4.")
    assert name(trials=99, workers=3, timeout="PT9H", trial_timeout="PT9M") == one
    others = [
        name(BOTH),
        name(version=5),
        name(seed=6),
        name(metric="brier"),
        name(train_share=0.5),
        name(parameters={"slope": 1.0}),
        name(algorithm="catboost"),
    ]
    assert len({one, *others}) == 8


def test_a_share_of_days_keeps_whole_days_in_order(world: Any) -> None:
    whole = world.part("train", days=40, per_day=7)
    half = share_of_days(whole, 0.5, seed=1)
    days = np.unique(half.days)
    assert len(days) == 20
    assert len(half) == len(half.features) == len(half.context) == 140
    rows = np.isin(whole.days, days)
    assert np.array_equal(half.label, whole.label[rows])
    assert np.array_equal(half.features["x"], whole.features["x"][rows])
    assert np.array_equal(half.days, whole.days[rows])
    assert np.array_equal(half.days, share_of_days(whole, 0.5, seed=1).days)
    assert not np.array_equal(half.days, share_of_days(whole, 0.5, seed=2).days)
    assert len(np.unique(share_of_days(whole, 0.001, seed=1).days)) == 1
    assert share_of_days(whole, 1.0, seed=1) is whole


def test_trials_learn_from_the_share_and_are_scored_on_all(run: Search) -> None:
    found = run(SLOPES, trials=2, train_share=0.25)
    assert (found.train_rows, found.validation_rows) == (320, 400)


# Results -----------------------------------------------------------------------------------------


def test_trials_become_a_table_with_described_columns(run: Search) -> None:
    space = {**SLOPES, "misbehave": {"kind": "categorical", "choices": ["no", "raise"]}}
    found = run(space, trials=8)
    table = trials_table(found)
    assert all(field.metadata[b"comment"] for field in table.schema)
    rows = table.to_pylist()
    assert [row["trial"] for row in rows] == list(range(8))
    assert [row["trial"] for row in rows if row["best"]] == [found.best.number]
    assert {row["state"] for row in rows} >= {"complete", "failed"}
    assert all((row["reason"] is None) == (row["state"] == "complete") for row in rows)
    assert all(row["started_at"].tzinfo is not None for row in rows)
    assert [t.started_at.tzinfo for t in found.trials] == [UTC] * 8
    none = trials_table(replace(found, trials=()))
    assert none.schema == table.schema
