"""Incidents in Dagster: shown as an asset, tables checked after publishing, restored by a job."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.loader import LoadingContextForTest

from mlops_assets.orchestration.incidents import IncidentsDeclaration, incident_defs
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.published_tables import changed_days
from mlops_assets.orchestration.raw_table import RawTable
from mlops_assets.production.incidents import IncidentKind, incidents
from mlops_assets.settings import load_settings
from tests.orchestration.raw_tables import GOOD, TABLE, materialise, raw_table_declaration

KEY = dg.AssetKey(["raw", "orders"])
CHECK = dg.AssetCheckKey(KEY, "published")
TOTALS = dg.AssetKey("totals")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that declares one raw table, with its source."""
    defs = tmp_path / "mlops_assets" / "defs"
    defs.mkdir(parents=True)
    declared = raw_table_declaration().model_dump(mode="json", exclude_unset=True)
    (defs / "defs.yaml").write_text(
        json.dumps({"type": f"{RawTable.__module__}.RawTable", "attributes": declared})
    )
    (tmp_path / "orders.csv").write_text(GOOD)
    return tmp_path


@pytest.fixture
def platform(root: Path) -> Platform:
    return Platform(load_settings(home=root / "home", project_root=root, threads=1))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as opened:
        yield opened


@pytest.fixture
def defs(root: Path, platform: Platform) -> dg.Definitions:
    days = raw_table_declaration().load.days.partitions()

    @dg.asset(
        key=TOTALS,
        deps=[KEY],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def totals() -> None:
        """What is made of the orders, day by day."""

    return dg.Definitions.merge(
        RawTable(raw_table_declaration()).build_defs_at(root),
        incident_defs(IncidentsDeclaration(owners=("team:shop",)), root),
        dg.Definitions(assets=[totals], resources={RESOURCE_KEY: platform}),
    )


def tick(
    defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None
) -> SensorExecutionData:
    sensor = defs.resolve_sensor_def("incidents_sensor")
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=defs, resources=defs.resources
    ) as context:
        return sensor.evaluate_tick(context)


def run(
    defs: dg.Definitions, instance: dg.DagsterInstance, job: str, **config: object
) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {f"{job}_op": {"config": config}}} if config else None,
    )


def corrupt(platform: Platform) -> None:
    """Write an order of the second of January past the audit, with a key that there is."""
    with platform.lake.connect(tables=[TABLE]) as con:
        again = con.sql(f"SELECT * FROM {TABLE.sql} WHERE order_id = 2").to_arrow_table()
    platform.lake.append(TABLE, again.cast(platform.lake.schema(TABLE)))


def stale_days(defs: dg.Definitions, instance: dg.DagsterInstance) -> list[str]:
    """Return the days that the UI shows as stale."""
    loading = LoadingContextForTest(instance)
    resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), loading)
    days = ("2013-01-01", "2013-01-02", "2013-01-03")
    return [day for day in days if resolver.get_status(TOTALS, day) is StaleStatus.STALE]


def last_check(instance: dg.DagsterInstance) -> bool:
    [record] = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK]).values()
    assert record.evaluation is not None
    return record.evaluation.passed


def test_a_corrupted_table_is_noticed_restored_and_what_was_made_of_it_is_stale(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> None:
    lake = platform.lake
    assert materialise(platform, defs, instance=instance).success
    quiet = tick(defs, instance)
    before = stale_days(defs, instance)
    corrupt(platform)

    asked = tick(defs, instance, quiet.cursor)
    checked = run(defs, instance, "check_published_tables_job")
    failed = last_check(instance)
    [corruption] = incidents(lake)
    restored = run(defs, instance, "restore_table", table="raw/orders", reason="the drill")

    assert not quiet.run_requests
    [request] = asked.run_requests or []
    assert request.asset_check_keys == [CHECK]
    assert request.tags["mlops/reason"] == "written past the audit: raw/orders@1"
    assert checked.success
    assert not failed
    assert corruption.kind is IncidentKind.data_corruption
    assert "raw/orders@1 breaks" in corruption.what
    assert restored.success
    assert before == []
    assert stale_days(defs, instance) == ["2013-01-02"]
    assert last_check(instance)
    made = instance.fetch_materializations(
        dg.AssetRecordsFilter(KEY, asset_partitions=["2013-01-02"]), limit=1
    ).records[0]
    assert made.asset_materialization is not None
    assert made.asset_materialization.metadata["restored_from"].value == 0
    assert lake.describe(TABLE).rows == 3
    assert [each.is_open for each in incidents(lake)] == [False, False]
    assert changed_days(lake, TABLE, "order_date", (1, 2)) == (date(2013, 1, 2),)
    assert not tick(defs, instance, asked.cursor).run_requests


def test_incidents_are_shown_once_as_an_asset(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> None:
    assert materialise(platform, defs, instance=instance).success
    corrupt(platform)
    run(defs, instance, "check_published_tables_job")

    first = tick(defs, instance)
    again = tick(defs, instance, first.cursor)

    [event] = first.asset_events
    assert event.asset_key == dg.AssetKey(["monitoring", "incidents"])
    assert event.metadata["open"].value == 1
    assert again.asset_events == []


def test_what_cannot_be_restored_fails_with_what_to_do(
    defs: dg.Definitions, instance: dg.DagsterInstance, platform: Platform
) -> None:
    assert materialise(platform, defs, instance=instance).success

    refused = run(defs, instance, "restore_table", table="raw/orders", reason="a hunch")

    [event] = [each for each in refused.all_events if each.is_step_failure]
    assert "keeps all its rules" in event.step_failure_data.error.to_string()
    assert platform.lake.version(TABLE) == 0
