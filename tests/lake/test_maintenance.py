import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mlops_assets.lake import (
    PINS,
    Lake,
    LakeError,
    RetentionError,
    TableName,
    TableNotFoundError,
    TableVersion,
    VersionNotFoundError,
)

Rows = Callable[..., pa.Table]
NO_TIME = timedelta(0)


def data_files(lake: Lake, table: TableName) -> set[str]:
    return {path.name for path in Path(lake.uri(table)).glob("*.parquet")}


class TestRestore:
    def test_an_old_version_becomes_current_and_nothing_is_forgotten(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        corrupt = rows(1).set_column(3, "carrier", pa.array([None] * 4, pa.string()))
        lake.overwrite(flights, corrupt)
        commit = lake.restore(flights, 0, metadata={"why": "carriers were lost"})
        assert (commit.version, commit.operation) == (2, "RESTORE")
        assert commit.metadata == {"why": "carriers were lost"}
        assert lake.read(flights).read_all().sort_by("id") == rows(1)
        assert lake.read(flights, at=1).read_all()["carrier"].null_count == 4

    def test_it_brings_back_the_columns_too(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, pa.table({"other": [1]}), allow_schema_change=True)
        lake.restore(flights, 0)
        assert lake.schema(flights).names == rows(1).column_names
        with lake.connect() as con:
            assert con.sql("SELECT count(carrier) FROM raw.flights").fetchall() == [(4,)]

    def test_to_an_instant(self, lake: Lake, flights: TableName, rows: Rows) -> None:
        lake.overwrite(flights, rows(1, 1))
        time.sleep(0.02)
        moment = datetime.now(UTC)
        time.sleep(0.02)
        lake.overwrite(flights, rows(1, 2))
        lake.restore(flights, moment)
        assert lake.describe(flights).rows == 1

    def test_a_version_whose_files_are_gone_is_refused(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(2))
        lake.vacuum(flights, NO_TIME, dry_run=False)
        version = lake.version(flights)
        for attempt in (lambda: lake.restore(flights, 0), lambda: lake.read(flights, at=0)):
            with pytest.raises(VersionNotFoundError, match=r"raw/flights@0.*1 of its files"):
                attempt()
        assert lake.version(flights) == version
        assert lake.describe(flights, 0).rows == 4  # what the log says of it is still known


class TestCompact:
    def test_many_small_files_become_one_with_the_same_rows(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        for number in range(1, 9):
            lake.append(flights, rows(number))
        before = lake.read(flights).read_all().sort_by("at")
        commit = lake.compact(flights)
        assert commit is not None
        assert commit.operation == "OPTIMIZE"
        assert lake.describe(flights).files == 1
        assert lake.read(flights).read_all().sort_by("at") == before
        assert lake.compact(flights) is None
        assert lake.read(flights, at=3).read_all().num_rows == 16

    def test_a_missing_table(self, lake: Lake, flights: TableName) -> None:
        with pytest.raises(TableNotFoundError, match="raw/flights"):
            lake.compact(flights)


class TestVacuum:
    def test_it_reports_first_and_removes_only_what_nothing_needs(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        old = data_files(lake, flights)
        lake.overwrite(flights, rows(2))
        report = lake.vacuum(flights, NO_TIME)
        assert set(report.files) == old
        assert report.dry_run
        assert data_files(lake, flights) > old
        removed = lake.vacuum(flights, NO_TIME, dry_run=False)
        assert set(removed.files) == old
        assert not data_files(lake, flights) & old
        assert lake.read(flights).read_all().sort_by("id") == rows(2)

    def test_what_was_current_within_the_retention_stays(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(2))
        assert lake.vacuum(flights, timedelta(minutes=1), dry_run=False).files == ()
        assert lake.read(flights, at=0).read_all().num_rows == 4

    def test_files_of_a_killed_writer_go_after_a_day(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        folder = Path(lake.uri(flights))
        two_days_ago = time.time() - 2 * 86400
        for name in ("old.parquet", "young.parquet"):
            (folder / name).write_bytes(b"half a file")
        os.utime(folder / "old.parquet", (two_days_ago, two_days_ago))
        assert lake.vacuum(flights, timedelta(hours=23), dry_run=False).files == ()
        assert lake.vacuum(flights, NO_TIME, dry_run=False).files == ()
        assert lake.vacuum(flights, timedelta(days=1), dry_run=False).files == ("old.parquet",)
        assert (folder / "young.parquet").exists()

    def test_a_negative_retention_is_refused(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        with pytest.raises(RetentionError, match="negative"):
            lake.vacuum(flights, timedelta(hours=-1))


def test_the_log_is_never_cut_whatever_its_age(lake: Lake, flights: TableName, rows: Rows) -> None:
    from deltalake import write_deltalake

    plain = TableName("raw", "plain")
    for number in range(1, 4):
        lake.append(flights, rows(number))
        write_deltalake(lake.uri(plain), rows(number), mode="append")
    for table in (flights, plain):
        DeltaTable(lake.uri(table)).create_checkpoint()
        for entry in (Path(lake.uri(table)) / "_delta_log").iterdir():
            os.utime(entry, (0, 0))  # as of 1970
        lake.append(table, rows(4))
        DeltaTable(lake.uri(table)).create_checkpoint()
        DeltaTable(lake.uri(table)).cleanup_metadata()
    assert [commit.version for commit in lake.history(flights)] == [3, 2, 1, 0]
    assert lake.read(flights, at=0).read_all().num_rows == 4
    with pytest.raises(VersionNotFoundError):  # a table without our properties is cut
        lake.read(plain, at=0)


def test_a_pin_keeps_the_log_of_a_table_that_others_made(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    from deltalake import write_deltalake

    write_deltalake(lake.uri(flights), rows(1))
    lake.pin(TableVersion(flights, 0), "flight_delay/1")
    assert lake.describe(flights).properties["delta.enableExpiredLogCleanup"] == "false"
    assert lake.version(flights) == 1
    lake.pin(TableVersion(flights, 0), "flight_delay/2")
    assert lake.version(flights) == 1


class TestPins:
    def test_a_pinned_version_survives_everything_that_cleans_up(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        for number in range(1, 7):
            lake.append(flights, rows(number))
        lake.pin(TableVersion(flights, 2), "flight_delay/1")
        lake.compact(flights)
        lake.overwrite(flights, rows(9, 1))
        table = DeltaTable(lake.uri(flights))
        table.create_checkpoint()
        table.cleanup_metadata()
        report = lake.vacuum(flights, NO_TIME, dry_run=False)
        assert report.pinned_versions == (2,)
        assert len(report.files) == 4  # appends 3 to 5, and the compacted file
        assert lake.read(flights, at=2).read_all().sort_by("at") == pa.concat_tables(
            [rows(1), rows(2), rows(3)]
        )
        with lake.connect(versions={flights: 2}) as con:
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(12,)]
        assert len(lake.history(flights)) == lake.version(flights) + 1
        lake.restore(flights, 2)
        assert lake.describe(flights).rows == 12
        with pytest.raises(VersionNotFoundError):
            lake.read(flights, at=4)

    def test_a_released_version_is_vacuumed(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(2))
        lake.pin(TableVersion(flights, 0), "flight_delay/1")
        lake.pin(TableVersion(flights, 0), "flight_delay/2")
        assert len(lake.unpin("flight_delay/1")) == 1
        assert lake.vacuum(flights, NO_TIME).files == ()
        lake.unpin("flight_delay/2")
        assert len(lake.vacuum(flights, NO_TIME).files) == 1

    def test_pins_say_who_needs_what_since_when(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        planes = TableName("raw", "planes")
        lake.overwrite(flights, rows(1))
        lake.overwrite(planes, rows(1))
        assert lake.pins() == ()
        first = lake.pin(TableVersion(flights, 0), "flight_delay/1")
        second = lake.pin(TableVersion(planes, 0), "flight_delay/1")
        assert lake.pin(TableVersion(flights, 0), "flight_delay/1") == first
        assert lake.pins() == (first, second)
        assert lake.pins(planes) == (second,)
        assert first.pinned_at.utcoffset() == timedelta(0)
        assert lake.unpin("nobody") == ()
        assert lake.unpin("flight_delay/1") == (first, second)
        assert lake.pins() == ()
        assert lake.pin(TableVersion(flights, 0), "flight_delay/1") != first
        assert lake.describe(PINS).rows == 5  # three pins, two releases: all stay on record

    def test_what_cannot_be_read_cannot_be_pinned(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        with pytest.raises(TableNotFoundError):
            lake.pin(TableVersion(flights, 0), "flight_delay/1")
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(1))
        lake.vacuum(flights, NO_TIME, dry_run=False)
        for version in (0, 99):
            with pytest.raises(VersionNotFoundError):
                lake.pin(TableVersion(flights, version), "flight_delay/1")
        with pytest.raises(LakeError, match="needs an owner"):
            lake.pin(TableVersion(flights, 1), "")
        assert lake.pins() == ()
