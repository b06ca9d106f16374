"""A champion that breaks a limit is rolled back by one run, which says why."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.lake import TableName
from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.model_family.rolling_back import rollback_decision, rollback_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.production.incidents import incidents
from mlops_assets.settings import load_settings
from mlops_assets.training import declare_family
from tests.production.conftest import DECLARED, GOOD, MARCH, WEAK, House

CHAMPION = dg.AssetKey(["late_flights", "champion"])
DECISION = dg.AssetKey(["late_flights", "rollback_decision"])
JOB = "roll_back_late_flights"
LIMITS = {"metric_drop": 0.02, "min_rows": 100, "p99_seconds": 0.5, "min_requests": 50}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as opened:
        yield opened


@pytest.fixture
def defs(house: House) -> dg.Definitions:
    family = declare_family({**DECLARED, "rollback": LIMITS})
    days = Days(start=date(2013, 1, 1), end=date(2013, 4, 1))
    platform = Platform(load_settings(home=house.home, threads=1))
    return dg.Definitions.merge(
        dg.Definitions(
            assets=[rollback_decision(family, house.views, days)],
            resources={RESOURCE_KEY: platform},
        ),
        rollback_defs(family),
    )


def tick(
    defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None
) -> SensorExecutionData:
    sensor = defs.resolve_sensor_def("late_flights_rollback")
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
    ) as context:
        return sensor.evaluate_tick(context)


def run(
    defs: dg.Definitions, instance: dg.DagsterInstance, **config: object
) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(JOB).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {f"{JOB}_op": {"config": config}}},
    )


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance, day: date) -> bool:
    """Make the decision of a day, and return whether its check passed."""
    made = dg.materialize(
        [defs.resolve_assets_def(DECISION)],
        instance=instance,
        partition_key=day.isoformat(),
    )
    [check] = made.get_asset_check_evaluations()
    return check.passed


def test_the_sensor_asks_for_one_run_which_rolls_back_and_says_why(
    house: House, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    house.serve(GOOD)
    house.serve(WEAK)
    house.answer(MARCH, 7)
    nothing = tick(defs, instance)
    early = evaluate(defs, instance, MARCH + timedelta(days=2))
    quiet = tick(defs, instance)
    late = evaluate(defs, instance, MARCH + timedelta(days=6))

    asked = tick(defs, instance)
    again = tick(defs, instance, asked.cursor)
    [request] = asked.run_requests or []
    done = defs.resolve_job_def(JOB).execute_in_process(
        instance=instance, run_config=request.run_config, tags=request.tags
    )
    repeated = defs.resolve_job_def(JOB).execute_in_process(
        instance=instance, run_config=request.run_config
    )

    assert nothing.skip_message == "nothing was judged yet"
    assert (early, late) == (True, False)
    assert "90 of its predictions have a label" in (quiet.skip_message or "")
    assert not quiet.run_requests
    assert not again.run_requests
    assert "was asked for" in (again.skip_message or "")
    assert "roc_auc" in request.tags["mlops/reason"]
    assert done.success
    assert repeated.success
    assert house.champion() == GOOD
    [incident] = incidents(house.lake)
    [seen, *_] = instance.fetch_observations(CHAMPION, limit=1).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["incident"].value == incident.incident_id
    assert instance.get_latest_materialization_event(CHAMPION) is None


def test_slow_answers_are_seen_as_soon_as_they_are_shipped(
    house: House, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    house.serve(GOOD)
    house.serve(WEAK)
    cursor = tick(defs, instance).cursor
    ship(house, GOOD, 200, seconds=0.01, ago=timedelta(hours=3))
    ship(house, WEAK, 200, seconds=0.9, ago=timedelta(minutes=1))

    asked = tick(defs, instance, cursor)
    again = tick(defs, instance, asked.cursor)
    [request] = asked.run_requests or []
    done = defs.resolve_job_def(JOB).execute_in_process(
        instance=instance, run_config=request.run_config
    )

    assert "200 of 200 requests took longer than 0.5 s" in request.tags["mlops/reason"]
    assert not again.run_requests
    assert done.success
    assert house.champion() == GOOD


def ship(house: House, version: int, requests: int, *, seconds: float, ago: timedelta) -> None:
    """Add requests to the inference log's table, as the model server ships them."""
    at = datetime.now(UTC) - ago
    names = [f"v{version}r{number}" for number in range(requests)]
    rows = pa.table(
        {
            "prediction_id": [f"{name}-0" for name in names],
            "request_id": names,
            "answered_at": pa.array([at] * requests, pa.timestamp("us", "UTC")),
            "version": pa.array([version] * requests, pa.int64()),
            "role": ["champion"] * requests,
            "seconds": [seconds] * requests,
        }
    )
    house.lake.append(TableName("inference", "late_flights"), rows)


def test_by_hand_it_needs_a_reason_and_goes_where_it_is_told(
    house: House, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    house.serve(GOOD)
    house.serve(WEAK)

    silent = run(defs, instance)
    done = run(defs, instance, reason="a hunch", version=GOOD, actor="ada")

    [event] = [each for each in silent.all_events if each.is_step_failure]
    assert "say why it is to be rolled back" in event.step_failure_data.error.to_string()
    assert done.success
    assert house.champion() == GOOD
    [incident] = incidents(house.lake)
    assert incident.what == "late_flights/3 was taken back by hand: a hunch"
    assert incident.by == "ada"


def test_a_family_without_a_limit_has_the_job_and_no_sensor() -> None:
    family = declare_family({**DECLARED, "rollback": {}})

    defs = rollback_defs(family)

    assert [job.name for job in defs.jobs or []] == [JOB]
    assert not defs.sensors
