import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from mlops_assets.lake import (
    Lake,
    LakeError,
    TableName,
    TableNotFoundError,
    VersionNotFoundError,
)
from mlops_assets.settings import DuckDBLimits, load_settings

Rows = Callable[..., pa.Table]
PLANES = TableName("raw", "planes")


@pytest.fixture
def three_versions(lake: Lake, flights: TableName, rows: Rows) -> tuple[datetime, ...]:
    """Versions 0, 1, 2 with 1, 2, 3 rows; returns an instant just after each."""
    after = []
    for count in (1, 2, 3):
        lake.overwrite(flights, rows(1, count))
        time.sleep(0.02)  # commit times have a resolution of a millisecond
        after.append(datetime.now(UTC))
        time.sleep(0.02)
    return tuple(after)


def test_reading_an_old_version(
    lake: Lake, flights: TableName, three_versions: tuple[datetime, ...]
) -> None:
    assert [lake.read(flights, at=v).read_all().num_rows for v in (0, 1, 2)] == [1, 2, 3]
    assert lake.read(flights).read_all().num_rows == 3
    assert [lake.describe(flights, v).rows for v in (0, 1, 2)] == [1, 2, 3]


def test_reading_as_of_an_instant(
    lake: Lake, flights: TableName, three_versions: tuple[datetime, ...]
) -> None:
    seen = [lake.read(flights, at=moment).read_all().num_rows for moment in three_versions]
    assert seen == [1, 2, 3]
    tokyo = three_versions[1].astimezone(timezone(timedelta(hours=9)))
    assert lake.read(flights, at=tokyo).read_all().num_rows == 2
    exact = lake.history(flights)[1].timestamp
    assert lake.read(flights, at=exact).read_all().num_rows == 2
    with pytest.raises(VersionNotFoundError, match="did not exist at 2001-"):
        lake.read(flights, at=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(LakeError, match="no instant"):
        lake.read(flights, at=datetime(2001, 1, 1))  # noqa: DTZ001 - that is the point


def test_reading_some_columns_in_the_order_asked(
    lake: Lake, flights: TableName, rows: Rows
) -> None:
    lake.overwrite(flights, rows(1))
    assert lake.read(flights, columns=["carrier", "id"]).read_all().column_names == [
        "carrier",
        "id",
    ]
    with pytest.raises(LakeError, match=r"no column tail.*id, day, at, carrier"):
        lake.read(flights, columns=["id", "tail"])


def test_three_readers_agree(lake: Lake, flights: TableName, rows: Rows) -> None:
    lake.overwrite(flights, rows(1, 50))
    lake.append(
        flights, rows(2, 50).append_column("d", pa.array([1.5] * 50)), allow_schema_change=True
    )
    ours = lake.read(flights).read_all().sort_by([("day", "ascending"), ("id", "ascending")])
    by_deltalake = DeltaTable(lake.uri(flights)).to_pyarrow_table()
    by_polars = pl.read_delta(lake.uri(flights)).sort("day", "id")
    lazily = pl.scan_delta(lake.uri(flights)).filter(pl.col("d").is_not_null()).collect()
    with lake.connect() as con:
        by_duckdb = con.sql("SELECT * FROM raw.flights ORDER BY day, id").to_arrow_table()
    assert ours.num_rows == 100
    assert ours.to_pylist() == by_duckdb.to_pylist()
    assert ours.to_pylist() == by_polars.to_dicts()
    by_deltalake = by_deltalake.sort_by([("day", "ascending"), ("id", "ascending")])
    assert ours.to_pylist() == by_deltalake.to_pylist()
    assert lazily.height == 50


class TestConnect:
    def test_a_schema_for_each_schema_and_a_view_for_each_table(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(TableName("mart", "flights__quarantine"), rows(2, 2))
        with lake.connect() as con:
            joined = con.sql(
                "SELECT count(*) FROM raw.flights JOIN mart.flights__quarantine USING (id)"
            ).fetchall()
            views = con.sql("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal")
            assert sorted(views.fetchall()) == [("mart", "flights__quarantine"), ("raw", "flights")]
        assert joined == [(2,)]

    def test_an_empty_lake_and_an_empty_table(self, lake: Lake, flights: TableName) -> None:
        with lake.connect() as con:
            assert con.sql("SELECT 1").fetchall() == [(1,)]
        schema = pa.schema(
            {"id": pa.int64(), "at": pa.timestamp("us", "UTC"), "l": pa.list_(pa.int8())}
        )
        lake.create(flights, schema)
        with lake.connect() as con:
            described = con.sql("DESCRIBE raw.flights").fetchall()
            assert [(name, kind) for name, kind, *_ in described] == [
                ("id", "BIGINT"),
                ("at", "TIMESTAMP WITH TIME ZONE"),
                ("l", "TINYINT[]"),
            ]
            assert con.sql("SELECT * FROM raw.flights").fetchall() == []

    def test_pinned_versions_and_only_some_tables(
        self,
        lake: Lake,
        flights: TableName,
        rows: Rows,
    ) -> None:
        for count in (1, 2, 3):
            lake.overwrite(flights, rows(1, count))
        lake.overwrite(PLANES, rows(1))
        with lake.connect(versions={flights: 1}) as con:
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(2,)]
            assert con.sql("SELECT count(*) FROM raw.planes").fetchall() == [(4,)]
        with lake.connect(versions={flights: 0}, tables=[]) as con:
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(1,)]
            with pytest.raises(duckdb.CatalogException):
                con.sql("SELECT * FROM raw.planes")
        with pytest.raises(VersionNotFoundError), lake.connect(versions={flights: 9}):
            pass
        missing = TableName("raw", "nothing")
        with pytest.raises(TableNotFoundError, match="raw/nothing"), lake.connect(tables=[missing]):
            pass

    def test_as_of_shows_only_what_was_there(
        self, lake: Lake, rows: Rows, three_versions: tuple[datetime, ...]
    ) -> None:
        lake.overwrite(PLANES, rows(1))
        with lake.connect(as_of=three_versions[1]) as con:
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(2,)]
            with pytest.raises(duckdb.CatalogException):
                con.sql("SELECT * FROM raw.planes")
        absent = pytest.raises(VersionNotFoundError, match="raw/planes did not exist")
        with absent, lake.connect(as_of=three_versions[1], tables=[PLANES]):
            pass

    def test_a_session_keeps_the_versions_it_began_with(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1, 1))
        with lake.connect() as con:
            lake.overwrite(flights, rows(1, 2))
            lake.compact(flights)
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(1,)]
            assert con.cursor().execute("SELECT count(*) FROM raw.flights").fetchall() == [(1,)]

    def test_limits_and_zone_hold_in_cursors_too(self, lake: Lake, limits: DuckDBLimits) -> None:
        with lake.connect() as con:
            for session in (con, con.cursor()):
                assert session.execute(
                    "SELECT current_setting('TimeZone'), current_setting('threads'), "
                    "current_setting('memory_limit'), "
                    "current_setting('autoinstall_known_extensions')"
                ).fetchall() == [("UTC", 2, "512.0 MiB", False)]
            (folder,) = con.sql("SELECT current_setting('temp_directory')").fetchall()[0]
            assert Path(folder).is_relative_to(limits.scratch)

    def test_it_spills_and_leaves_nothing_behind(self, lake: Lake, limits: DuckDBLimits) -> None:
        tight = Lake(
            lake.root,
            limits=DuckDBLimits(memory_limit="60MiB", threads=1, scratch=limits.scratch),
        )
        with tight.connect() as con:
            con.execute("CREATE TABLE big AS SELECT i, hash(i) AS h FROM range(6_000_000) t(i)")
            spilled = [path for path in limits.scratch.rglob("*") if path.is_file()]
            assert len(spilled) > 1, "nothing was spilled, so this test shows nothing"
            assert con.sql("SELECT count(DISTINCT i) FROM big").fetchall() == [(6_000_000,)]
        assert list(limits.scratch.iterdir()) == []

    def test_what_a_killed_session_left_is_swept_up_but_not_what_a_live_one_uses(
        self, lake: Lake, limits: DuckDBLimits
    ) -> None:
        dead = limits.scratch / "duckdb-dead"
        dead.mkdir(parents=True)
        (dead / "lock").touch()
        with lake.connect() as outer:
            assert not dead.exists()
            outer.execute("SET memory_limit = '60MB'")
            outer.execute("CREATE TABLE big AS SELECT i, hash(i) FROM range(4_000_000) t(i)")
            with lake.connect() as inner:
                assert inner.sql("SELECT 1").fetchall() == [(1,)]
            assert outer.sql("SELECT count(*) FROM big").fetchall() == [(4_000_000,)]

    def test_what_the_session_has_under_a_table_s_name_stays(
        self, lake: Lake, flights: TableName, rows: Rows, tmp_path: Path
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(PLANES, rows(1, 1))
        database = str(tmp_path / "scratch.duckdb")
        with lake.connect(tables=[PLANES], database=database) as con:
            con.execute("CREATE TABLE raw.flights AS SELECT 42 AS answer")
        lake.overwrite(PLANES, rows(1, 2))
        with lake.connect(database=database) as con:
            assert con.sql("FROM raw.flights").fetchall() == [(42,)]
            assert con.sql("SELECT count(*) FROM raw.planes").fetchall() == [(1,)]

    def test_views_in_somebody_else_s_session(
        self, lake: Lake, flights: TableName, rows: Rows
    ) -> None:
        lake.overwrite(flights, rows(1))
        lake.overwrite(flights, rows(1, 2))
        with duckdb.connect() as con:
            assert lake.create_views(con) == {flights: 1}
            assert con.sql("SELECT count(*) FROM raw.flights").fetchall() == [(2,)]


def test_the_lake_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, threads=1, memory_limit="300MiB")
    lake = Lake.from_settings(settings)
    assert lake.root == str(tmp_path / "lake")
    assert lake.limits.scratch == tmp_path / "scratch"


def test_a_root_with_wildcards_is_refused(tmp_path: Path, limits: DuckDBLimits) -> None:
    with pytest.raises(LakeError, match=r"\[ \].*MLOPS_LAKE_URI"):
        Lake(str(tmp_path / "lake[1]"), limits=limits)


def test_a_root_with_a_space_and_an_umlaut(
    tmp_path: Path, limits: DuckDBLimits, rows: Rows
) -> None:
    lake = Lake(f"file://{tmp_path}/mein Täble 100%/", limits=limits)
    lake.overwrite(PLANES, rows(1))
    lake.overwrite(PLANES, rows(1, 2))
    assert lake.read(PLANES, at=0).read_all().num_rows == 4
    assert lake.tables() == (PLANES,)
    with lake.connect() as con:
        assert con.sql("SELECT max(day) FROM raw.planes").fetchall() == [(date(2013, 1, 1),)]
