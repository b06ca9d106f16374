"""A search is logged as one run with its trials under it, each exactly once."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.lake import TableVersion
from mlops_assets.registry import Registry
from mlops_assets.registry.search_log import log_search
from mlops_assets.training import ModelFamily
from mlops_assets.training.tuning import SearchResult, TrialRecord, TrialState

TRAINING_SET = TableVersion.parse("training/late_flights@3")
BEGUN = datetime(2026, 11, 23, 12, tzinfo=UTC)


def trial(number: int, state: TrialState, value: float | None, reason: str = "") -> TrialRecord:
    return TrialRecord(
        number=number,
        state=state,
        value=value,
        parameters={"depth": 4 + number, "kind": "a"},
        declared=number == 0,
        seconds=1.5,
        iterations=40,
        loss=0.5,
        reason=reason,
        started_at=BEGUN + timedelta(seconds=2 * number),
    )


TRIALS = (
    trial(0, TrialState.COMPLETE, 0.40),
    trial(1, TrialState.FAILED, None, "MemoryError: no message"),
    trial(2, TrialState.PRUNED, None, "worse than the median"),
    trial(3, TrialState.COMPLETE, 0.42),
    trial(4, TrialState.COMPLETE, 0.38),
)


def result(trials: tuple[TrialRecord, ...], **changes: Any) -> SearchResult:
    complete = [one for one in trials if one.value is not None]
    found = SearchResult(
        study="late_flights.catboost.3.0123456789ab",
        family="late_flights",
        candidate="catboost",
        metric="log_loss",
        metric_title="Log loss",
        greater_is_better=False,
        metric_is_loss=True,
        space={},
        trials=trials,
        resumed=0,
        best=min(complete, key=lambda one: one.value or 0.0),
        best_parameters={"depth": 8, "iterations": 40},
        importance={"depth": 0.9, "kind": 0.1},
        ended_by="trials",
        seconds=10.0,
        seed=1,
        threads=1,
        workers=1,
        train_rows=100,
        validation_rows=50,
    )
    return replace(found, **changes)


def runs(registry: Registry, family: ModelFamily) -> list[Any]:
    return list(registry.client.search_runs([registry.experiment(family)], max_results=1000))


def nested(registry: Registry, family: ModelFamily, search_run: str) -> Mapping[int, Any]:
    found = [
        run
        for run in runs(registry, family)
        if run.data.tags.get("mlflow.parentRunId") == search_run
    ]
    by_number = {int(run.data.tags["mlops.trial"]): run for run in found}
    assert len(by_number) == len(found), "a trial was logged twice"
    return by_number


def test_a_search_is_one_run_with_its_trials_under_it(
    registry: Registry, family: ModelFamily
) -> None:
    search_run = log_search(registry, family, result(TRIALS), TRAINING_SET)
    logged = nested(registry, family, search_run)
    assert {number: run.info.status for number, run in logged.items()} == {
        0: "FINISHED", 1: "FAILED", 2: "KILLED", 3: "FINISHED", 4: "FINISHED",
    }  # fmt: skip
    last = logged[4]
    assert last.data.params == {"depth": "8", "kind": "a"}
    assert last.data.metrics == {
        "validation_log_loss": 0.38, "lowest_validation_loss": 0.5, "iterations": 40.0,
        "fit_seconds": 1.5,
    }  # fmt: skip
    assert last.info.start_time == int((BEGUN + timedelta(seconds=8)).timestamp() * 1000)
    assert last.info.end_time - last.info.start_time == 1500
    assert logged[1].data.tags["mlops.trial_reason"] == "MemoryError: no message"
    assert "validation_log_loss" not in logged[1].data.metrics
    parent = registry.client.get_run(search_run)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlops.best_trial"] == "4"
    assert parent.data.tags["mlops.training_set"] == str(TRAINING_SET)
    curve = registry.client.get_metric_history(search_run, "best_validation_log_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 0.40), (4, 0.38)]
    assert parent.data.metrics["trials_failed"] == 1


def test_a_resumed_search_is_completed_and_not_repeated(
    registry: Registry, family: ModelFamily
) -> None:
    first = log_search(registry, family, result(TRIALS[:3]), TRAINING_SET)
    before = {n: run.info.run_id for n, run in nested(registry, family, first).items()}
    assert log_search(registry, family, result(TRIALS), TRAINING_SET) == first
    after = {n: run.info.run_id for n, run in nested(registry, family, first).items()}
    assert set(after) == {0, 1, 2, 3, 4}
    assert {n: after[n] for n in before} == before
    assert log_search(registry, family, result(TRIALS), TRAINING_SET) == first
    assert len(runs(registry, family)) == 1 + len(TRIALS)
    curve = registry.client.get_metric_history(first, "best_validation_log_loss")
    assert len(curve) == 2, "logged again, it says the same"


@pytest.mark.parametrize("broken", ["create_run", "log_batch", "set_terminated"])
@pytest.mark.parametrize("after", [1, 3])
def test_logging_that_was_cut_short_is_completed(
    registry: Registry,
    family: ModelFamily,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    after: int,
) -> None:
    """Cut after its so-and-so-manieth call of each kind, as a kill at that point would."""
    whole = getattr(registry.client, broken)
    calls = 0

    def cut(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        answer = whole(*arguments, **named)
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(registry.client, broken, cut)
    with pytest.raises(KeyboardInterrupt):
        log_search(registry, family, result(TRIALS), TRAINING_SET)
    monkeypatch.undo()
    search_run = log_search(registry, family, result(TRIALS), TRAINING_SET)
    logged = nested(registry, family, search_run)
    assert set(logged) == {0, 1, 2, 3, 4}
    assert len(runs(registry, family)) == 1 + len(TRIALS)
    for number, run in logged.items():
        assert run.info.status != "RUNNING"
        assert run.data.params == {"depth": str(4 + number), "kind": "a"}
        history = registry.client.get_metric_history(run.info.run_id, "fit_seconds")
        assert len(history) == 1


def test_trials_are_no_candidates(registry: Registry, family: ModelFamily) -> None:
    log_search(registry, family, result(TRIALS), TRAINING_SET)
    assert registry.candidates(family.name) == ()


def test_two_studies_are_two_searches(
    registry: Registry, family: ModelFamily, tmp_path: Path
) -> None:
    one = log_search(registry, family, result(TRIALS), TRAINING_SET)
    other = log_search(
        registry, family, result(TRIALS[:1], study="late_flights.catboost.4.ffff"), TRAINING_SET
    )
    assert one != other
    assert set(nested(registry, family, other)) == {0}
