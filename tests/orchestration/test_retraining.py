"""When a family is trained again: asked for once, with a reason, and never without need."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.definitions import build_defs
from mlops_assets.lake import Lake
from mlops_assets.monitoring.decision import Decision
from mlops_assets.monitoring.tables import MonitoringTables
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import load_settings

CHAMPION = dg.AssetKey(["flight_delay", "champion"])
JOB = "train_flight_delay"


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(load_settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral(str(tmp_path))


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home"))


@pytest.fixture
def tick(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> Callable[[], SensorExecutionData]:
    """Evaluate the sensor once, as the daemon does."""
    sensor = defs.resolve_sensor_def("flight_delay_retraining")

    def once() -> SensorExecutionData:
        with dg.build_sensor_context(
            instance=instance, definitions=defs, resources={RESOURCE_KEY: platform}
        ) as context:
            return sensor.evaluate_tick(context)

    return once


def wanted(
    platform: Platform,
    *,
    retrain: bool = True,
    day: date = date(2013, 10, 5),
    at: datetime | None = None,
    name: str = "run-1",
) -> None:
    """Write a retraining decision, as monitoring does."""
    decision = Decision(
        "flight_delay", at or datetime.now(UTC), retrain, ("40 of 115 features drifted",), (),
        1, 3.0, 4.0, 5000, 0.3, None, None, 2.0,
    )  # fmt: skip
    tables = MonitoringTables(platform.lake, "flight_delay", day, name, decision.at)
    assert tables.write_decision(decision)


def decide(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(CHAMPION))


def judge(instance: dg.DagsterInstance, state: FreshnessState) -> None:
    """Record the daemon's judgement of the champion's freshness."""
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=CHAMPION,
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=datetime.now(UTC).timestamp(),
        )
    )


def start(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Make the run that the sensor asks for, without executing it."""
    return instance.create_run_for_job(
        defs.resolve_job_def(JOB), asset_selection=frozenset([CHAMPION])
    )


def test_a_family_that_was_never_trained_is_not_trained_again(
    instance: dg.DagsterInstance, tick: Callable[[], SensorExecutionData]
) -> None:
    done = tick()

    assert done.run_requests == []
    assert done.skip_message is not None
    assert "never materialised" in done.skip_message
    assert JOB in done.skip_message


@pytest.mark.parametrize("state", [FreshnessState.PASS, FreshnessState.UNKNOWN])
def test_a_fresh_champion_is_left_alone(
    instance: dg.DagsterInstance, tick: Callable[[], SensorExecutionData], state: FreshnessState
) -> None:
    decide(instance)
    judge(instance, state)

    done = tick()

    assert done.run_requests == []
    assert done.skip_message is not None
    assert state.value in done.skip_message


def test_a_stale_champion_is_asked_for_by_one_run_with_its_reason(
    instance: dg.DagsterInstance, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)

    (first,) = tick().run_requests or []
    (second,) = tick().run_requests or []

    assert first.run_key == second.run_key  # Dagster starts one run for one key
    assert first.tags["mlops/family"] == "flight_delay"
    assert first.tags["mlops/reason"].startswith("stale: the gate last decided on")
    assert "30 days" in first.tags["mlops/reason"]


def test_nothing_is_asked_for_while_a_run_is_to_make_the_champion(
    defs: dg.Definitions, instance: dg.DagsterInstance, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)
    run = start(defs, instance)

    done = tick()

    assert done.run_requests == []
    assert run.run_id in (done.skip_message or "")


def test_a_failed_run_is_followed_by_another_after_the_cooldown(
    defs: dg.Definitions, instance: dg.DagsterInstance, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)
    (first,) = tick().run_requests or []
    run = start(defs, instance)
    instance.report_run_failed(run)

    waiting = tick()
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{retraining_defs.__module__}._now", lambda: later)
        (second,) = tick().run_requests or []

    assert waiting.run_requests == []
    assert "the next may start at" in (waiting.skip_message or "")
    assert second.run_key != first.run_key


def test_a_decision_is_followed_by_one_run_with_its_reason(
    instance: dg.DagsterInstance, platform: Platform, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    wanted(platform)

    (first,) = tick().run_requests or []
    (second,) = tick().run_requests or []

    assert first.run_key == second.run_key
    assert "2013-10-05: retrain: 40 of 115 features drifted" in first.tags["mlops/reason"]


def test_two_reasons_for_the_same_training_give_one_run(
    instance: dg.DagsterInstance, platform: Platform, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    wanted(platform)
    (by_decision,) = tick().run_requests or []
    judge(instance, FreshnessState.FAIL)
    (by_both,) = tick().run_requests or []
    wanted(platform, day=date(2013, 10, 6), name="run-2")
    (by_another,) = tick().run_requests or []

    assert by_decision.run_key == by_both.run_key == by_another.run_key
    assert "stale" in by_both.tags["mlops/reason"]
    assert "features drifted" in by_both.tags["mlops/reason"]


def test_a_decision_that_was_followed_asks_for_nothing_more(
    instance: dg.DagsterInstance, platform: Platform, tick: Callable[[], SensorExecutionData]
) -> None:
    wanted(platform, at=datetime.now(UTC) - timedelta(seconds=1))
    decide(instance)

    done = tick()

    assert done.run_requests == []
    assert "it has followed the decision for 2013-10-05" in (done.skip_message or "")


def test_the_newest_day_decides_and_its_reasons_are_said(
    instance: dg.DagsterInstance, platform: Platform, tick: Callable[[], SensorExecutionData]
) -> None:
    decide(instance)
    wanted(platform, retrain=False, day=date(2013, 10, 6))
    wanted(platform, name="again")  # an earlier day, evaluated later

    done = tick()

    assert done.run_requests == []
    assert "2013-10-06: do not retrain" in (done.skip_message or "")


def test_a_decision_waits_for_a_run_in_progress_and_survives_its_failure(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    platform: Platform,
    tick: Callable[[], SensorExecutionData],
) -> None:
    decide(instance)
    wanted(platform)
    (asked,) = tick().run_requests or []
    run = start(defs, instance)
    during = tick()
    instance.report_run_failed(run)
    with pytest.MonkeyPatch.context() as patch:
        later = datetime.now(UTC) + timedelta(days=7, minutes=1)
        patch.setattr(f"{retraining_defs.__module__}._now", lambda: later)
        (again,) = tick().run_requests or []

    assert during.run_requests == []
    assert run.run_id in (during.skip_message or "")
    assert again.run_key != asked.run_key


def test_a_tick_that_raises_is_followed_by_one_that_works(
    instance: dg.DagsterInstance,
    platform: Platform,
    tick: Callable[[], SensorExecutionData],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decide(instance)
    wanted(platform)
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "connect", broken)
        with pytest.raises(OSError, match="storage is away"):
            tick()

    assert len(tick().run_requests or []) == 1


def broken(*args: object, **options: object) -> None:
    raise OSError("storage is away")


def test_the_job_makes_the_whole_family_and_nothing_else(defs: dg.Definitions) -> None:
    made = defs.resolve_job_def(JOB).asset_layer.selected_asset_keys

    assert dg.AssetKey(["training", "flight_delay"]) in made
    assert CHAMPION in made
    assert {key.path[0] for key in made} == {"training", "flight_delay"}
