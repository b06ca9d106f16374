"""A raw table as an asset: what Dagster shows when data are good, bad and unreadable."""

import gzip
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster import AssetKey

from mlops_assets.lake import TableName
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.orchestration.raw_table import RawTable, RawTableDeclaration
from mlops_assets.settings import load_settings

TABLE = TableName("raw", "orders")
KEY = AssetKey(["raw", "orders"])
HEADER = "order_id,order_date,amount\n"
GOOD = HEADER + "1,2013-01-01,10.5\n2,2013-01-02,20\n3,2013-01-03,30\n"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=2))


def raw_table(tmp_path: Path, **attributes) -> dg.Definitions:
    declaration = RawTableDeclaration.model_validate(
        {
            "table": "raw/orders",
            "description": "Orders.",
            "owners": ["team:shop"],
            "contract": "tests.orchestration.contracts:Orders",
            "source": {"kind": "file", "path": "orders.csv"},
            "load": {
                "mode": "daily",
                "column": "order_date",
                "days": {"start": "2013-01-01", "end": "2013-01-05"},
            },
            "max_refused_share": 0.5,
            **attributes,
        }
    )
    return RawTable(declaration).build_defs_at(tmp_path)


def materialise(
    platform: Platform, defs: dg.Definitions, first: str = "2013-01-01", last: str = "2013-01-04"
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        list(defs.assets),
        resources={RESOURCE_KEY: platform},
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [e for e in result.all_events if e.is_step_failure]
    return event.step_failure_data.error.to_string()


def rows(platform: Platform) -> list[tuple]:
    with platform.lake.connect() as con:
        return con.execute("select order_id, amount from raw.orders order by order_id").fetchall()


def test_good_data_are_published_with_metadata_and_checks(
    tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)

    defs = raw_table(tmp_path)
    result = materialise(platform, defs)

    assert result.success
    assert checks(result) == {"schema": True, "keys": True, "values": True, "volume": True}
    assert rows(platform) == [(1, 10.5), (2, 20.0), (3, 30.0)]
    events = result.asset_materializations_for_node("raw__orders")
    assert {e.partition for e in events} == {f"2013-01-0{day}" for day in range(1, 5)}
    metadata = events[0].metadata
    assert metadata["dagster/row_count"].value == 3
    assert metadata["rows_refused"].value == 0
    [spec] = next(iter(defs.assets)).specs
    columns = {c.name: c.description for c in spec.metadata["dagster/column_schema"].columns}
    assert columns["amount"] == "What was paid."


def test_one_day_leaves_the_others_alone(tmp_path: Path, platform: Platform) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    defs = raw_table(tmp_path)
    materialise(platform, defs)
    (tmp_path / "orders.csv").write_text(
        HEADER + "1,2013-01-01,1\n2,2013-01-02,2\n3,2013-01-03,3\n"
    )

    materialise(platform, defs, "2013-01-02", "2013-01-02")

    assert rows(platform) == [(1, 10.5), (2, 2.0), (3, 30.0)]


def test_refused_rows_are_a_warning_with_the_rows_beside_it(
    tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "orders.csv").write_text(GOOD + "4,2013-01-04,-7\n")

    result = materialise(platform, raw_table(tmp_path))

    assert result.success
    assert checks(result) == {"schema": True, "keys": True, "values": False, "volume": True}
    [values] = [e for e in result.get_asset_check_evaluations() if e.check_name == "values"]
    assert values.severity is dg.AssetCheckSeverity.WARN
    [sample] = values.metadata["samples"].records
    assert (sample.data["row"], sample.data["column"], sample.data["value"]) == (
        4,
        "amount",
        "-7.0",
    )
    assert len(rows(platform)) == 3


def test_a_refused_batch_fails_and_keeps_the_last_good_version(
    tmp_path: Path, platform: Platform
) -> None:
    defs = raw_table(tmp_path, max_refused_share=0.1)
    (tmp_path / "orders.csv").write_text(GOOD)
    materialise(platform, defs)
    (tmp_path / "orders.csv").write_text(GOOD + "4,2013-01-04,-7\n")

    result = materialise(platform, defs)

    assert not result.success
    assert checks(result)["values"] is False
    assert "orders.csv" in failure(result)
    assert "-7" in failure(result)
    assert len(rows(platform)) == 3


def test_an_unreadable_file_fails_its_schema_check(tmp_path: Path, platform: Platform) -> None:
    packed = gzip.compress(GOOD.encode())
    (tmp_path / "orders.csv.gz").write_bytes(packed[: len(packed) // 2])
    source = {"kind": "file", "path": "orders.csv.gz"}

    result = materialise(platform, raw_table(tmp_path, source=source))

    assert not result.success
    assert checks(result) == {"schema": False}
    assert "orders.csv.gz" in failure(result)
    assert not platform.lake.exists(TABLE)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"contract": "tests.orchestration.contracts:Nothing"}, "no contract at"),
        ({"contract": "tests.no_such_module:Orders"}, "no contract at"),
        ({"contract": "pathlib:Path"}, "is no subclass of"),
    ],
)
def test_a_missing_contract_is_named_at_load(
    tmp_path: Path, attributes: dict, expected: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=expected):
        raw_table(tmp_path, **attributes)


@pytest.mark.parametrize(
    ("now", "expected"),
    [("2013-01-03T06:00:00+00:00", "2013-01-02"), ("2020-01-01T06:00:00+00:00", "2013-01-04")],
)
def test_the_schedule_asks_for_the_newest_complete_day(
    tmp_path: Path, now: str, expected: str
) -> None:
    [schedule] = raw_table(tmp_path, schedule="30 6 * * *").schedules
    assert schedule.cron_schedule == "30 6 * * *"

    context = dg.build_schedule_context(scheduled_execution_time=datetime.fromisoformat(now))
    request = schedule(context)

    assert (request.partition_key, request.run_key) == (expected, expected)


def test_a_wrong_cron_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="every morning"):
        raw_table(tmp_path, schedule="every morning")
