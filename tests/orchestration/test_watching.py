"""New days of a spine are evaluated by one run for a range, asked for once."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from mlops_assets.monitoring.decision import Decision
from mlops_assets.monitoring.tables import MonitoringTables
from mlops_assets.orchestration.daily import Days
from mlops_assets.orchestration.model_family import watching
from mlops_assets.orchestration.model_family.component import watched
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.running import RANGE_END, RANGE_START
from mlops_assets.settings import load_settings
from mlops_assets.training import declare_family
from tests.registry.conftest import DECLARATION, make_lake, make_views

FAMILY = declare_family(DECLARATION)
CHAMPION = dg.AssetKey(["late_flights", "champion"])
PREDICTIONS = dg.AssetKey(["predictions", "late_flights"])
DAYS = Days(start=date(2013, 1, 1), end=date(2014, 1, 1))

Tick = Callable[..., SensorExecutionData]


@pytest.fixture(autouse=True)
def in_spring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_now", lambda: datetime(2013, 4, 1, 12, tzinfo=UTC))


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    platform = Platform(load_settings(home=tmp_path, threads=1))
    make_lake(tmp_path)
    return platform


@pytest.fixture
def defs(platform: Platform) -> dg.Definitions:
    made = dg.Definitions(resources={RESOURCE_KEY: platform})
    return dg.Definitions.merge(watched(FAMILY, make_views(), DAYS), made)


@pytest.fixture
def instance(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral(str(tmp_path))


@pytest.fixture
def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> Tick:
    def once(cursor: str | None = None) -> SensorExecutionData:
        sensor = defs.resolve_sensor_def("late_flights_monitoring")
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
        ) as context:
            return sensor.evaluate_tick(context)

    return once


def train(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(CHAMPION))


def evaluated(platform: Platform, first: date, last: date) -> None:
    at = datetime.now(UTC)
    no = Decision("late_flights", at, False, (), (), 1, *[None] * 7)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        MonitoringTables(platform.lake, "late_flights", day, "run", at).write_decision(no)


def test_without_a_champion_it_is_said_what_to_run(tick: Tick) -> None:
    done = tick()

    assert done.run_requests == []
    assert "run the job train_late_flights once" in (done.skip_message or "")


def test_the_newest_days_are_asked_for_by_one_run(tick: Tick, instance: dg.DagsterInstance) -> None:
    train(instance)

    (asked,) = (first := tick()).run_requests or []
    repeated = tick().run_requests or []
    after = tick(first.cursor)

    assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == ("2013-03-01", "2013-03-31")
    assert "31 days that were not evaluated" in asked.tags["mlops/reason"]
    assert [again.run_key for again in repeated] == [asked.run_key]  # a tick that was killed
    assert after.run_requests == []


def test_a_gap_is_asked_for_and_what_is_evaluated_is_not(
    tick: Tick, instance: dg.DagsterInstance, platform: Platform
) -> None:
    train(instance)
    evaluated(platform, date(2013, 3, 1), date(2013, 3, 9))
    evaluated(platform, date(2013, 3, 12), date(2013, 3, 30))

    (gap,) = (first := tick()).run_requests or []
    (newest,) = (second := tick(first.cursor)).run_requests or []
    settled = tick(second.cursor)

    assert (gap.tags[RANGE_START], gap.tags[RANGE_END]) == ("2013-03-10", "2013-03-11")
    assert (newest.tags[RANGE_START], newest.tags[RANGE_END]) == ("2013-03-31", "2013-03-31")
    assert "are not evaluated: see the last run of monitor_late_flights" in (
        settled.skip_message or ""
    )


def test_what_failed_is_asked_for_again_when_something_has_changed(
    tick: Tick, instance: dg.DagsterInstance
) -> None:
    train(instance)
    (asked,) = (first := tick()).run_requests or []
    settled = tick(first.cursor)
    quiet = tick(settled.cursor)
    train(instance)  # another gate decision

    (again,) = tick(settled.cursor).run_requests or []

    assert "nothing new" in (quiet.skip_message or "")
    assert again.run_key != asked.run_key


def test_a_run_in_progress_is_waited_for(
    defs: dg.Definitions, tick: Tick, instance: dg.DagsterInstance
) -> None:
    train(instance)
    job = defs.resolve_job_def("monitor_late_flights")
    run = instance.create_run_for_job(job, asset_selection=frozenset([PREDICTIONS]))

    assert run.run_id in (tick().skip_message or "")


def test_a_day_that_is_not_over_everywhere_waits(
    tick: Tick, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(instance)
    monkeypatch.setattr(watching, "_now", lambda: datetime(2013, 3, 20, 11, 59, tzinfo=UTC))
    (early,) = tick().run_requests or []
    monkeypatch.setattr(watching, "_now", lambda: datetime(2013, 3, 20, 12, tzinfo=UTC))
    (late,) = tick().run_requests or []

    assert early.tags[RANGE_END] == "2013-03-18"
    assert late.tags[RANGE_END] == "2013-03-19"


def test_the_job_fails_clearly_without_a_champion(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    done = defs.resolve_job_def("monitor_late_flights").execute_in_process(
        instance=instance, partition_key="2013-03-05", raise_on_error=False
    )

    assert not done.success
    failed = done.get_step_failure_events()[0]
    assert "Train it first, with the job train_late_flights" in str(failed.event_specific_data)


def test_days_of_long_ago_are_left_to_people(
    tick: Tick, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(instance)
    monkeypatch.setattr(watching, "_now", lambda: datetime(2013, 4, 21, 12, tzinfo=UTC))
    (asked,) = tick().run_requests or []
    assert (asked.tags[RANGE_START], asked.tags[RANGE_END]) == ("2013-03-21", "2013-03-31")

    monkeypatch.setattr(watching, "_now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    assert "evaluated by hand: backfill late_flights/drift" in (tick().skip_message or "")
