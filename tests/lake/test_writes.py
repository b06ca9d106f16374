from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mlops_assets.lake import (
    InvalidRowsError,
    Lake,
    LakeError,
    SchemaMismatchError,
    TableExistsError,
    TableName,
    TableNotFoundError,
    UnsupportedTypeError,
    VersionNotFoundError,
    Window,
)

Rows = Callable[..., pa.Table]
Counts = Callable[[], dict[int, int]]


def day(number: int, days: int = 1) -> Window:
    start = date(2013, 1, number)
    return Window("day", start, start + timedelta(days=days))


class TestCreate:
    def test_an_empty_table_has_its_columns_and_descriptions(
        self, lake: Lake, flights: TableName
    ) -> None:
        schema = pa.schema(
            [pa.field("id", pa.int64(), nullable=False, metadata={"comment": "key"})]
        )
        commit = lake.create(flights, schema, "All flights.")
        info = lake.describe(flights)
        assert (commit.version, info.rows, info.files, info.bytes) == (0, 0, 0, 0)
        assert info.description == "All flights."
        assert info.schema.equals(schema, check_metadata=True)
        assert lake.tables() == (flights,)

    def test_creating_twice_is_refused(self, lake: Lake, flights: TableName, rows: Rows) -> None:
        lake.overwrite(flights, rows(1))
        with pytest.raises(TableExistsError, match="raw/flights"):
            lake.create(flights, rows(1).schema)
        assert lake.describe(flights).rows == 4


class TestOverwrite:
    def test_it_replaces_all_rows_in_one_version(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        first = lake.overwrite(flights, rows(1), description="Flights.", metadata={"run": "r1"})
        second = lake.overwrite(flights, rows(2, 7).to_reader(), metadata={"run": "r2"})
        assert (first.version, second.version) == (0, 1)
        assert (first.rows_written, second.rows_written) == (4, 7)
        assert second.metadata == {"run": "r2"}
        assert count_by_day() == {2: 7}
        assert lake.describe(flights).description == "Flights."

    def test_any_arrow_stream_will_do(self, lake: Lake, flights: TableName, rows: Rows) -> None:
        import duckdb
        import polars as pl

        table = rows(1)
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            con.register("given", table)
            for opened in (
                lambda: table,
                table.to_reader,
                lambda: table.to_batches()[0],
                lambda: table.to_reader,  # a callable that opens a stream
                lambda: con.sql("SELECT * FROM given"),
                lambda: con.sql("SELECT * FROM given").to_arrow_reader(),
                lambda: pl.from_arrow(table),
            ):
                lake.overwrite(flights, opened())
                assert lake.read(flights).read_all().sort_by("id") == table

    def test_what_is_no_stream_is_refused(self, lake: Lake, flights: TableName) -> None:
        with pytest.raises(LakeError, match=r"dict.*__arrow_c_stream__"):
            lake.overwrite(flights, {"id": [1]})  # type: ignore[arg-type] # that is the point
        assert not lake.exists(flights)

    def test_columns_are_found_by_name_not_by_place(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(2).select(["carrier", "at", "day", "id"]))
        assert lake.read(flights).read_all().sort_by("id") == rows(2)

    def test_a_schema_change_must_be_asked_for(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        changed = rows(2).append_column("delay", pa.array([1.5] * 4)).drop_columns(["carrier"])
        with pytest.raises(SchemaMismatchError, match=r"carrier .*given=absent.*delay .*double"):
            lake.overwrite(flights, changed)
        assert lake.version(flights) == 0
        lake.overwrite(flights, changed, allow_schema_change=True)
        assert lake.schema(flights).names == ["id", "day", "at", "delay"]
        assert lake.schema(flights, 0).names == ["id", "day", "at", "carrier"]
        assert lake.describe(flights).properties["delta.enableExpiredLogCleanup"] == "false"

    def test_descriptions_survive_and_may_change_without_a_schema_change(
        self, lake: Lake, flights: TableName
    ) -> None:
        def described(comment: str | None) -> pa.Table:
            metadata = None if comment is None else {"comment": comment}
            return pa.table({"id": [1]}, pa.schema([pa.field("id", pa.int64(), metadata=metadata)]))

        lake.overwrite(flights, described("old"), description="Old.")
        lake.overwrite(flights, described("new"), description="New.")
        lake.overwrite(flights, described(None))
        lake.append(flights, described("ignored"))
        assert lake.schema(flights).field("id").metadata == {b"comment": b"new"}
        assert lake.read(flights).schema.field("id").metadata == {b"comment": b"new"}
        assert lake.describe(flights).description == "New."
        lake.overwrite_window(
            TableName("raw", "days"),
            pa.table({"day": [date(2013, 1, 1)]}),
            day(1),
            description="Days.",
        )
        assert lake.describe(TableName("raw", "days")).description == "Days."

    def test_an_error_of_the_source_is_what_the_caller_sees(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        table = rows(1)

        def broken():
            yield from table.to_batches()
            raise ZeroDivisionError("the source broke")

        lake.overwrite(flights, table)
        reader = pa.RecordBatchReader.from_batches(table.schema, broken())
        with pytest.raises(ZeroDivisionError, match="the source broke"):
            lake.overwrite(flights, reader)
        assert lake.version(flights) == 0

    def test_a_value_that_loses_precision_is_refused(self, lake: Lake, flights: TableName) -> None:
        nanoseconds = pa.table({"at": pa.array([1], pa.timestamp("ns", "UTC"))})
        with pytest.raises(InvalidRowsError, match="'at' cannot be stored as timestamp"):
            lake.overwrite(flights, nanoseconds)
        assert not lake.exists(flights)

    def test_a_type_delta_has_not_is_refused(self, lake: Lake, flights: TableName) -> None:
        with pytest.raises(UnsupportedTypeError, match="clock: time64"):
            lake.overwrite(flights, pa.table({"clock": pa.array([1], pa.time64("us"))}))

    def test_a_null_where_none_may_be_is_refused(self, lake: Lake, flights: TableName) -> None:
        lake.create(flights, pa.schema([pa.field("id", pa.int64(), nullable=False)]))
        with pytest.raises(InvalidRowsError, match=r"1 rows have no 'id'.*first is row 1"):
            lake.append(flights, pa.table({"id": pa.array([1, None], pa.int64())}))
        assert lake.describe(flights).rows == 0


class TestOverwriteWindow:
    def test_only_the_window_changes(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        for number in (1, 2, 3):
            lake.overwrite_window(flights, rows(number), day(number))
        commit = lake.overwrite_window(flights, rows(2, 9).to_reader(), day(2))
        assert (commit.version, commit.rows_written) == (3, 9)
        assert count_by_day() == {1: 4, 2: 9, 3: 4}

    def test_a_window_of_instants(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        lake.overwrite(flights, pa.concat_tables([rows(1), rows(2), rows(3)]))
        midnight = datetime(2013, 1, 2, tzinfo=UTC)
        lake.overwrite_window(
            flights, rows(2, 2), Window("at", midnight, midnight + timedelta(days=1))
        )
        assert count_by_day() == {1: 4, 2: 2, 3: 4}
        one_hour = Window("at", midnight + timedelta(hours=1), midnight + timedelta(hours=2))
        lake.overwrite_window(flights, rows(2, 0), one_hour)
        assert count_by_day() == {1: 4, 2: 1, 3: 4}

    def test_a_window_of_local_times_in_an_oddly_named_column(
        self, lake: Lake, flights: TableName
    ) -> None:
        odd = 'Local "time"'
        times = [datetime(2013, 1, 1, hour) for hour in range(4)]  # noqa: DTZ001 - local times
        lake.overwrite(flights, pa.table({odd: times}))
        lake.overwrite_window(flights, pa.table({odd: times[1:2]}), Window(odd, times[1], times[3]))
        assert lake.read(flights).read_all().sort_by(odd)[odd].to_pylist() == [
            times[0],
            times[1],
            times[3],
        ]

    def test_an_empty_batch_empties_the_window(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        lake.overwrite(flights, pa.concat_tables([rows(1), rows(2)]))
        lake.overwrite_window(flights, rows(2, 0), day(2))
        assert count_by_day() == {1: 4}

    @pytest.mark.parametrize("stored", [True, False], ids=["stored", "new"])
    def test_rows_outside_the_window_change_nothing(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts, stored: bool
    ) -> None:
        if stored:
            lake.overwrite(flights, rows(1))
        strays = pa.concat_tables([rows(1, 3), rows(2, 2)])
        with pytest.raises(InvalidRowsError, match=r"2 rows lie outside.*row 3 with 2013-01-02"):
            lake.overwrite_window(flights, strays.combine_chunks().to_reader(), day(1))
        assert lake.exists(flights) == stored
        if stored:
            assert count_by_day() == {1: 4}

    def test_a_null_lies_in_no_window(self, lake: Lake, flights: TableName) -> None:
        lake.overwrite(flights, pa.table({"day": pa.array([None, date(2013, 1, 1)], pa.date32())}))
        with pytest.raises(InvalidRowsError, match="row 0 with None"):
            lake.overwrite_window(flights, pa.table({"day": pa.array([None], pa.date32())}), day(1))
        lake.overwrite_window(flights, pa.table({"day": pa.array([], pa.date32())}), day(1))
        assert lake.read(flights).read_all()["day"].to_pylist() == [None]

    def test_added_columns_are_null_in_the_rows_that_stay(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, pa.concat_tables([rows(1, 1), rows(2, 1)]))
        comment = pa.field("delay", pa.float64(), metadata={"comment": "Minutes late."})
        wider = rows(2, 1).append_column(comment, pa.array([7.0]))
        with pytest.raises(SchemaMismatchError, match=r"delay .stored=absent, given=double"):
            lake.overwrite_window(flights, wider, day(2))
        lake.overwrite_window(flights, wider, day(2), allow_schema_change=True)
        assert lake.schema(flights).field("delay").metadata == {b"comment": b"Minutes late."}
        with lake.connect() as con:
            seen = con.sql("SELECT day(day), delay FROM raw.flights ORDER BY 1").fetchall()
        assert seen == [(1, None), (2, 7.0)]

    def test_a_window_cannot_drop_or_retype_a_column(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        narrower = rows(1).drop_columns(["carrier"])
        with pytest.raises(SchemaMismatchError, match="carrier"):
            lake.overwrite_window(flights, narrower, day(1), allow_schema_change=True)


class TestMerge:
    def test_known_keys_are_updated_and_new_ones_inserted(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.merge(flights, rows(1, 3), ["id"])
        update = rows(1, 2, first=2).set_column(3, "carrier", pa.array(["new", "new"]))
        commit = lake.merge(flights, update.to_reader(), ["id"], metadata={"run": "m"})
        assert commit.rows_written == 2
        assert commit.metadata == {"run": "m"}
        carriers = lake.read(flights).read_all().sort_by("id")["carrier"].to_pylist()
        assert carriers == ["c0", "c1", "new", "new"]

    def test_oddly_named_keys(self, lake: Lake, flights: TableName) -> None:
        def keyed(value: int) -> pa.Table:
            return pa.table({'The "Key"': ["a"], "Value": [value]})

        lake.merge(flights, keyed(1), ['The "Key"'])
        lake.merge(flights, keyed(2), ['The "Key"'])
        assert lake.read(flights).read_all() == keyed(2)

    @pytest.mark.parametrize("stored", [True, False], ids=["stored", "new"])
    @pytest.mark.parametrize(
        ("ids", "message"), [([1, 1], "same key.*id=1"), ([1, None], "row 1"), ([None, 1], "row 0")]
    )
    def test_a_key_is_never_null_and_never_twice(
        self, lake: Lake, flights: TableName, ids: list[int | None], message: str, stored: bool
    ) -> None:
        if stored:
            lake.overwrite(flights, pa.table({"id": pa.array([1], pa.int64())}))
        with pytest.raises(InvalidRowsError, match=message):
            lake.merge(flights, pa.table({"id": pa.array(ids, pa.int64())}).to_reader(), ["id"])
        assert lake.exists(flights) == stored
        if stored:
            assert lake.version(flights) == 0

    def test_keys_must_be_columns(self, lake: Lake, flights: TableName, rows: Rows) -> None:
        with pytest.raises(LakeError, match=r"no key column tail.*id, day, at, carrier"):
            lake.merge(flights, rows(1), ["tail"])
        with pytest.raises(LakeError, match="at least one key"):
            lake.merge(flights, rows(1), [])


class TestAppend:
    def test_a_transaction_is_applied_once(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        assert lake.append(flights, rows(1), transaction=("ingest", 1)) is not None
        assert lake.append(flights, rows(1), transaction=("ingest", 1)) is None
        assert lake.append(flights, rows(2), transaction=("ingest", 2)) is not None
        assert lake.append(flights, rows(1), transaction=("ingest", 1)) is None
        assert lake.append(flights, rows(3), transaction=("other", 1)) is not None
        assert count_by_day() == {1: 4, 2: 4, 3: 4}

    def test_an_applied_transaction_is_known_from_a_checkpoint(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.append(flights, rows(1), transaction=("ingest", 1))
        lake.append(flights, rows(1))
        DeltaTable(lake.uri(flights)).create_checkpoint()
        lake.append(flights, rows(1))
        assert lake.append(flights, rows(1), transaction=("ingest", 1)) is None

    def test_a_restore_to_before_it_lets_it_be_applied_again(
        self, lake: Lake, flights: TableName, rows: Rows, count_by_day: Counts
    ) -> None:
        lake.append(flights, rows(1), transaction=("ingest", 1))
        lake.append(flights, rows(2), transaction=("ingest", 2))
        lake.restore(flights, 0)
        assert lake.append(flights, rows(1), transaction=("ingest", 1)) is None
        assert lake.append(flights, rows(2), transaction=("ingest", 2)) is not None
        assert lake.append(flights, rows(2), transaction=("ingest", 2)) is None
        assert count_by_day() == {1: 4, 2: 4}

    def test_other_columns_are_refused_or_added(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.append(flights, rows(1, 1))
        wider = rows(2, 1).append_column("delay", pa.array([1.0]))
        with pytest.raises(SchemaMismatchError, match="delay"):
            lake.append(flights, wider)
        lake.append(flights, wider, allow_schema_change=True)
        assert lake.read(flights).read_all().sort_by("day")["delay"].to_pylist() == [None, 1.0]


class TestHistory:
    def test_it_says_what_happened_when_and_why(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        lake.overwrite(flights, rows(1), metadata={"run": "r1", "sources": ["a.csv"]})
        lake.overwrite_window(flights, rows(2), day(2))
        newest, oldest = lake.history(flights)
        assert (newest.version, oldest.version) == (1, 0)
        assert oldest.metadata == {"run": "r1", "sources": ["a.csv"]}
        assert newest.metadata == {}
        assert newest.operation == "WRITE"
        assert "2013-01-02" in newest.details["operationParameters"]["predicate"]
        for commit in (newest, oldest):
            assert commit.timestamp.utcoffset() == timedelta(0)
            assert before <= commit.timestamp <= datetime.now(UTC)
        assert lake.history(flights, limit=1) == (newest,)

    def test_other_readers_see_the_metadata(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1), metadata={"run": "r1"})
        assert DeltaTable(lake.uri(flights)).history()[0]["userMetadata"] == '{"run": "r1"}'

    def test_another_writer_s_free_text_is_shown_as_it_is(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        from deltalake import CommitProperties, write_deltalake

        properties = CommitProperties(custom_metadata={"userMetadata": "by hand"})
        write_deltalake(lake.uri(flights), rows(1), commit_properties=properties)
        assert lake.history(flights)[0].metadata == {"userMetadata": "by hand"}


class TestMissing:
    def test_a_missing_table_is_named_with_those_there_are(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        with pytest.raises(TableNotFoundError, match=r"raw/flights.*Tables: none"):
            lake.version(flights)
        lake.overwrite(TableName("raw", "planes"), rows(1))
        for look in (lake.version, lake.schema, lake.describe, lake.history, lake.read):
            with pytest.raises(TableNotFoundError, match=r"raw/flights.*Tables: raw/planes"):
                look(flights)  # type: ignore[operator] # five signatures, one first parameter
        assert not lake.exists(flights)

    def test_a_missing_version_is_named_with_the_latest(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        for version in (1, 99, -1):
            with pytest.raises(VersionNotFoundError, match=rf"version {version}: its latest is 0"):
                lake.read(flights, at=version)

    def test_folders_that_are_no_tables_are_not_listed(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        from pathlib import Path

        lake.overwrite(flights, rows(1))
        for folder in ("raw/Odd Name/_delta_log", "raw/empty", "lost+found", "raw/flights/x"):
            (Path(lake.root) / folder).mkdir(parents=True)
        (Path(lake.root) / "a file").touch()
        assert lake.tables() == (flights,)
