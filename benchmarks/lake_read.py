"""Read a table through ``lake.connect()`` against ``read_parquet`` on its own files.

Both sides run the same queries on the same files in private DuckDB sessions with the same limits.
"with opening" counts opening the session too: for the lake that means reading the Delta log and
making the view. A table of many small files and a lake of many tables show what opening costs.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import measure
import pyarrow as pa
from deltalake import write_deltalake

from mlops_assets.lake import Lake, TableName, private_session
from mlops_assets.settings import DuckDBLimits, load_settings

TABLE = TableName("raw", "flights")
GENERATE = """
SELECT
    i AS flight_id,
    DATE '2013-01-01' + (i // 30_000)::INTEGER AS day,
    TIMESTAMPTZ '2013-01-01 00:00:00+00' + to_seconds(i * 3) AS departed_at,
    'N' || (hash(i) % 4_000) AS tail_number,
    ['AA', 'B6', 'DL', 'EV', 'UA', 'WN'][(hash(i, 1) % 6)::INTEGER + 1] AS carrier,
    ['EWR', 'JFK', 'LGA'][(hash(i, 2) % 3)::INTEGER + 1] AS origin,
    (hash(i, 3) % 2_500)::INTEGER AS distance,
    (hash(i, 4) % 30_000 / 100.0 - 60)::DOUBLE AS arrival_delay,
    CASE WHEN hash(i, 5) % 40 = 0 THEN NULL ELSE hash(i, 6) % 1440 END::SMALLINT AS minute
FROM range({rows}) t(i)
"""
QUERIES = {
    "one aggregate": "SELECT sum(arrival_delay) FROM {source}",
    "group by text": (
        "SELECT carrier, origin, count(*), avg(arrival_delay), max(departed_at) "
        "FROM {source} GROUP BY ALL"
    ),
    "a month": (
        "SELECT count(*), avg(distance) FROM {source} "
        "WHERE day >= DATE '2013-03-01' AND day < DATE '2013-04-01'"
    ),
    "every column": (
        "SELECT count(DISTINCT tail_number), min(flight_id), max(day), max(departed_at), "
        "min(carrier), min(origin), sum(distance), sum(arrival_delay), count(minute) FROM {source}"
    ),
}


@dataclass(frozen=True)
class Place:
    """Where the tables lie, picklable for a fresh process."""

    folder: Path
    threads: int

    def limits(self) -> DuckDBLimits:
        return DuckDBLimits(
            memory_limit="4GiB", threads=self.threads, scratch=self.folder / "scratch"
        )

    def lake(self) -> Lake:
        return Lake(str(self.folder / "lake"), limits=self.limits())

    def files(self, table: TableName = TABLE) -> str:
        folder = self.lake().uri(table)
        listed = ", ".join(f"'{path}'" for path in sorted(Path(folder).glob("*.parquet")))
        return f"read_parquet([{listed}])"


def through_lake(place: Place, queries: tuple[str, ...]) -> None:
    with place.lake().connect() as con:
        for query in queries:
            con.sql(query.format(source=TABLE.sql)).fetchall()


def bare(place: Place, queries: tuple[str, ...]) -> None:
    with private_session(place.limits()) as con:
        for query in queries:
            con.sql(query.format(source=place.files())).fetchall()


def make_table(place: Place, rows: int) -> None:
    with private_session(place.limits()) as con:
        place.lake().overwrite(TABLE, con.sql(GENERATE.format(rows=rows)).to_arrow_reader())


def compare_queries(place: Place, runs: int) -> dict[str, measure.Comparison]:
    """Compare each query in two open sessions; opening is not counted."""
    compared = {}
    with place.lake().connect() as ours, private_session(place.limits()) as theirs:

        def runner(con: duckdb.DuckDBPyConnection, sql: str) -> Callable[[], Any]:
            return lambda: con.sql(sql).fetchall()

        for title, query in QUERIES.items():
            expected = theirs.sql(query.format(source=place.files())).fetchall()
            found = ours.sql(query.format(source=TABLE.sql)).fetchall()
            assert _rounded(found) == _rounded(expected), f"{title}: {found} is not {expected}"
            compared[title] = measure.side_by_side(
                {
                    "lake.connect()": runner(ours, query.format(source=TABLE.sql)),
                    "bare": runner(theirs, query.format(source=place.files())),
                },
                runs=runs,
            )
    return compared


def _rounded(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows in an order and a precision that parallel sums do not change."""
    return sorted(
        tuple(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row)
        for row in rows
    )


def make_many(place: Place, files: int, tables: int) -> None:
    """Make a table of many files, and a lake of many tables."""
    lake = place.lake()
    rows = pa.table({"x": pa.array(range(files), pa.int64()), "s": ["text"] * files})
    many = Place(place.folder / "files", place.threads).lake()
    many.create(TABLE, rows.schema)
    # Row by row would be as many commits: one commit of many partitions' files is as many files.
    parts = rows.append_column("part", pa.array(range(files), pa.int64()))
    write_deltalake(many.uri(TableName("raw", "parts")), parts, partition_by=["part"])
    for number in range(tables):
        lake = Place(place.folder / "tables", place.threads).lake()
        lake.overwrite(TableName("raw", f"table_{number}"), rows)


def open_and_close(lake: Lake) -> None:
    with lake.connect():
        pass


def count(lake: Lake, table: TableName) -> None:
    with lake.connect(tables=[table]) as con:
        con.sql(f"SELECT sum(x) FROM {table.sql}").fetchall()


def count_bare(place: Place, table: TableName) -> None:
    listed = ", ".join(
        f"'{path}'" for path in sorted(Path(place.lake().uri(table)).rglob("*.parquet"))
    )
    with private_session(place.limits()) as con:
        con.sql(f"SELECT sum(x) FROM read_parquet([{listed}])").fetchall()


def main() -> None:
    parser = measure.arguments(__doc__, rows=10_000_000)
    parser.add_argument("--files", type=int, default=2_000, help="files of the table of many files")
    parser.add_argument("--tables", type=int, default=50, help="tables of the lake of many tables")
    options = parser.parse_args()
    print(measure.machine("duckdb", "deltalake", "pyarrow"))
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), load_settings().threads)
        make_table(place, options.rows)
        info = place.lake().describe(TABLE)
        print(
            f"{info.rows:,} rows, {len(info.schema)} columns, {info.files} files, "
            f"{info.bytes:,} bytes"
        )
        compared = compare_queries(place, options.runs)
        queries = tuple(QUERIES.values())
        compared["all four, with opening, in a fresh process"] = measure.side_by_side(
            {
                "lake.connect()": partial(through_lake, place, queries),
                "bare": partial(bare, place, queries),
            },
            runs=options.runs,
            isolated=True,
        )
        make_many(place, options.files, options.tables)
        many_files = Place(place.folder / "files", place.threads)
        many_tables = Place(place.folder / "tables", place.threads).lake()
        parts = TableName("raw", "parts")
        compared[f"a table of {options.files:,} files, with opening"] = measure.side_by_side(
            {
                "lake.connect()": partial(count, many_files.lake(), parts),
                "bare": partial(count_bare, many_files, parts),
            },
            runs=options.runs,
        )
        compared[f"opening a lake of {options.tables} tables"] = measure.side_by_side(
            {
                "lake.connect()": partial(open_and_close, many_tables),
                "bare": partial(_empty_session, place),
            },
            runs=options.runs,
        )
        for title, comparison in compared.items():
            print(comparison.table(title))
        measure.write_json(options.json, compared, rows=info.rows, bytes=info.bytes)


def _empty_session(place: Place) -> None:
    with private_session(place.limits()):
        pass


if __name__ == "__main__":
    main()
