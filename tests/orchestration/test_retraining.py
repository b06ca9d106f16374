"""When a family is trained again: asked for once, with a reason, and never without need."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.definitions import build_defs
from mlops_assets.orchestration.model_family.retraining import retraining_defs
from mlops_assets.settings import load_settings

CHAMPION = dg.AssetKey(["flight_delay", "champion"])
JOB = "train_flight_delay"


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(load_settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral(str(tmp_path))


def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> SensorExecutionData:
    sensor = defs.resolve_sensor_def("flight_delay_retraining")
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        return sensor.evaluate_tick(context)


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
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    done = tick(defs, instance)

    assert done.run_requests == []
    assert done.skip_message is not None
    assert "never materialised" in done.skip_message
    assert JOB in done.skip_message


@pytest.mark.parametrize("state", [FreshnessState.PASS, FreshnessState.UNKNOWN])
def test_a_fresh_champion_is_left_alone(
    defs: dg.Definitions, instance: dg.DagsterInstance, state: FreshnessState
) -> None:
    decide(instance)
    judge(instance, state)

    done = tick(defs, instance)

    assert done.run_requests == []
    assert done.skip_message is not None
    assert state.value in done.skip_message


def test_a_stale_champion_is_asked_for_by_one_run_with_its_reason(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)

    (first,) = tick(defs, instance).run_requests or []
    (second,) = tick(defs, instance).run_requests or []

    assert first.run_key == second.run_key  # Dagster starts one run for one key
    assert first.tags["mlops/family"] == "flight_delay"
    assert first.tags["mlops/reason"].startswith("stale: the gate last decided on")
    assert "30 days" in first.tags["mlops/reason"]


def test_nothing_is_asked_for_while_a_run_is_to_make_the_champion(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)
    run = start(defs, instance)

    done = tick(defs, instance)

    assert done.run_requests == []
    assert run.run_id in (done.skip_message or "")


def test_a_failed_run_is_followed_by_another_after_the_cooldown(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    decide(instance)
    judge(instance, FreshnessState.FAIL)
    (first,) = tick(defs, instance).run_requests or []
    run = start(defs, instance)
    instance.report_run_failed(run)

    waiting = tick(defs, instance)
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{retraining_defs.__module__}._now", lambda: later)
        (second,) = tick(defs, instance).run_requests or []

    assert waiting.run_requests == []
    assert "the next may start at" in (waiting.skip_message or "")
    assert second.run_key != first.run_key


def test_the_job_makes_the_whole_family_and_nothing_else(defs: dg.Definitions) -> None:
    made = defs.resolve_job_def(JOB).asset_layer.selected_asset_keys

    assert dg.AssetKey(["training", "flight_delay"]) in made
    assert CHAMPION in made
    assert {key.path[0] for key in made} == {"training", "flight_delay"}
