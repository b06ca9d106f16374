"""A raw table as an asset: what Dagster shows when data are good, bad and unreadable."""

import gzip
import re
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.lake import Lake, StorageFullError
from mlops_assets.orchestration.platform import Platform
from mlops_assets.orchestration.raw_table import RawTable
from mlops_assets.orchestration.surroundings import Surroundings
from mlops_assets.settings import load_settings
from tests.orchestration.raw_tables import (
    GOOD,
    HEADER,
    TABLE,
    checks,
    failure,
    materialise,
    raw_table,
    raw_table_declaration,
    rows,
)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=2))


def reasons(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {e.check_name: e.description or "" for e in result.get_asset_check_evaluations()}


def test_good_data_are_published_with_metadata_and_checks(
    tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)

    defs = raw_table(tmp_path)
    result = materialise(platform, defs)

    assert result.success
    assert checks(result) == {
        "schema": True,
        "keys": True,
        "values": True,
        "volume": True,
        "days": True,
    }
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
    assert [name for name, passed in checks(result).items() if not passed] == ["values"]
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
    assert reasons(result)["days"] == (
        "raw/orders: 4 of 4 days not reloaded, earlier rows stay: 2013-01-01 to 2013-01-04 "
        "(refused: 25.00% of 4 rows, amount: at least 0)"
    )


def test_the_log_of_a_refusal_is_one_block_with_tables_beside_it(
    tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "orders.csv").write_text(HEADER + "4,2013-01-04,-7\n")

    result = materialise(platform, raw_table(tmp_path, max_refused_share=0.1))

    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data
    assert data.error.cause is None
    assert data.error.context is None
    told = data.user_failure_data.description
    assert told.count("\n") < 10
    for words in ("orders.csv, row 1: amount = -7.0", "raw/orders was not created", "Correct the"):
        assert words in told
    metadata = data.user_failure_data.metadata
    assert metadata["quarantine"].value == "raw/orders__quarantine"
    sample = metadata["samples"].records[0].data
    assert (sample["source"], sample["row"], sample["value"]) == ("orders.csv", 1, "-7.0")
    assert '1 row breaks "amount: at least 0"' in {
        r.data["rule"] for r in metadata["rules"].records
    }


def test_a_missing_file_turns_a_check_red(tmp_path: Path, platform: Platform) -> None:
    result = materialise(platform, raw_table(tmp_path), "2013-01-02", "2013-01-02")

    assert not result.success
    assert checks(result) == {"volume": False, "days": False}
    assert "orders.csv" in reasons(result)["volume"]
    assert "2013-01-02 (missing: no file in" in reasons(result)["days"]
    [event] = [e for e in result.all_events if e.is_step_failure]
    assert event.step_failure_data.error.context is None


def test_a_failing_source_turns_a_check_red(tmp_path: Path, platform: Platform) -> None:
    source = {"kind": "callable", "function": "tests.orchestration.raw_tables:broken_source"}
    defs = raw_table(tmp_path, source=source, load={"mode": "snapshot"})
    result = materialise(platform, defs, "")

    assert checks(result) == {"volume": False}
    assert "the exchange is closed" in reasons(result)["volume"]


def test_a_full_disk_turns_a_check_red(
    tmp_path: Path, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFullError("no space left")

    (tmp_path / "orders.csv").write_text(GOOD)
    monkeypatch.setattr(Lake, "overwrite_window", full)
    result = materialise(platform, raw_table(tmp_path))

    assert checks(result) == {"volume": False}
    assert reasons(result) == {"volume": "no space left"}


def test_a_good_day_leaves_the_days_check_red_until_the_bad_one_is_mended(
    tmp_path: Path, platform: Platform
) -> None:
    defs = raw_table(tmp_path, source={"kind": "file", "path": "orders-{date:%Y-%m-%d}.csv"})
    for day in (1, 3):
        (tmp_path / f"orders-2013-01-0{day}.csv").write_text(f"{HEADER}{day},2013-01-0{day},5\n")
    results = [materialise(platform, defs, day, day) for day in ("2013-01-02", "2013-01-01")]
    assert [result.success for result in results] == [False, True]
    assert [checks(result)["days"] for result in results] == [False, False]
    gap = materialise(platform, defs, "2013-01-03", "2013-01-03")
    assert "1 of 3 days not loaded: 2013-01-02 (missing" in reasons(gap)["days"]

    (tmp_path / "orders-2013-01-02.csv").write_text(f"{HEADER}2,2013-01-02,5\n")
    assert checks(materialise(platform, defs, "2013-01-02", "2013-01-02"))["days"] is True


def test_an_empty_day_is_refused_unless_the_declaration_allows_it(
    tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    materialise(platform, raw_table(tmp_path))
    (tmp_path / "orders.csv").write_text(HEADER)

    day = ("2013-01-02", "2013-01-02")
    refused = materialise(platform, raw_table(tmp_path), *day)
    assert checks(refused)["volume"] is False
    assert "min_rows: 0" in failure(refused)
    assert len(rows(platform)) == 3
    assert materialise(platform, raw_table(tmp_path, min_rows=0), *day).success
    assert len(rows(platform)) == 2


def test_a_key_of_another_day_fails_the_keys_check(tmp_path: Path, platform: Platform) -> None:
    (tmp_path / "orders.csv").write_text(GOOD)
    materialise(platform, raw_table(tmp_path))
    (tmp_path / "orders.csv").write_text(HEADER + "1,2013-01-04,5\n4,2013-01-04,5\n")
    result = materialise(platform, raw_table(tmp_path), "2013-01-04", "2013-01-04")
    assert [name for name, passed in checks(result).items() if not passed] == ["keys"]
    assert "unique key among the published rows" in reasons(result)["keys"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("day", "'day' is no column of the contract.*Columns of Orders.*order_date"),
        ("amount", "'amount' has type DOUBLE, which says no day.*order_date"),
    ],
)
def test_a_wrong_day_column_is_named_at_load(
    platform: Platform, column: str, expected: str
) -> None:
    load = {"mode": "daily", "column": column, "days": {"start": "2013-01-01"}}
    around = Surroundings({}, (), platform.lake)
    [problem] = RawTable.problems_of(raw_table_declaration(load=load), around)
    assert problem.keys == ("load", "column")
    assert re.search(expected, problem.text)


def test_an_unreadable_file_fails_its_schema_check(tmp_path: Path, platform: Platform) -> None:
    packed = gzip.compress(GOOD.encode())
    (tmp_path / "orders.csv.gz").write_bytes(packed[: len(packed) // 2])
    source = {"kind": "file", "path": "orders.csv.gz"}

    result = materialise(platform, raw_table(tmp_path, source=source))

    assert not result.success
    assert checks(result) == {"schema": False, "days": False}
    assert "orders.csv.gz" in failure(result)
    assert not platform.lake.exists(TABLE)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"contract": "tests.orchestration.contracts:Order"}, "no contract .*mean 'Orders'"),
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
