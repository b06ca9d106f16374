"""The event log with batched writes holds what Dagster's own would hold."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.running import RANGE_END, RANGE_START, run_job
from mlops_assets.orchestration.sqlite_storage import BatchedSqliteEventLogStorage
from mlops_assets.settings import Settings, load_settings

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")
KEY = dg.AssetKey("daily")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def daily() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 7}, tags={"colour": "blue"})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE", "MLOPS_HOME"):
        monkeypatch.delenv(name, raising=False)
    return load_settings(home=tmp_path)


DEFS = dg.Definitions(assets=[daily], jobs=[dg.define_asset_job("all_days", "*")])


def asset_events(instance: dg.DagsterInstance) -> list[tuple]:
    """What the index of assets says, without the ids and times that differ from run to run."""
    return sorted(
        (record.event_log_entry.dagster_event_type.value, record.partition_key or "")
        for event_type in (
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        )
        for record in instance.get_event_records(
            dg.EventRecordsFilter(event_type=event_type, asset_key=KEY)
        )
    )


def run_january(settings: Settings) -> str:
    outcome = run_job(
        DEFS,
        "all_days",
        settings,
        days=(date(2013, 1, 1), date(2013, 2, 1)),
        on_progress=lambda _: None,
    )
    assert outcome.success
    return outcome.run_id


def test_the_instance_uses_it(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)


def test_every_day_is_kept_in_the_index_and_in_the_run(settings: Settings) -> None:
    run_id = run_january(settings)

    with open_instance(settings) as instance:
        assert instance.get_materialized_partitions(KEY) == set(DAYS.get_partition_keys())
        made = instance.fetch_materializations(KEY, limit=100).records
        logged = instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        newest = instance.get_latest_materialization_event(KEY)
    assert len(made) == len(logged) == 31
    assert len({record.storage_id for record in made}) == 31
    assert {
        record.asset_materialization.metadata["dagster/row_count"].value for record in made
    } == {7}
    assert newest.asset_materialization.partition == "2013-01-31"


def test_it_holds_what_dagsters_own_storage_holds(settings: Settings, tmp_path: Path) -> None:
    run_january(settings)
    with open_instance(settings) as instance:
        ours = asset_events(instance)

    plain = tmp_path / "plain"
    plain.mkdir()
    with dg.instance_for_test(temp_dir=str(plain)) as instance:
        assert not isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        run = DEFS.resolve_job_def("all_days").execute_in_process(
            instance=instance, tags={RANGE_START: "2013-01-01", RANGE_END: "2013-01-31"}
        )
        assert run.success
        assert asset_events(instance) == ours


def test_a_second_run_replaces_what_is_newest(settings: Settings) -> None:
    run_january(settings)
    second = run_january(settings)

    with open_instance(settings) as instance:
        assert instance.get_latest_materialization_event(KEY).run_id == second
        [record] = instance.get_asset_records([KEY])
        assert record.asset_entry.last_run_id == second
