"""The contracts of the raw tables accept every published row and refuse broken ones."""

import datetime as dt
from collections.abc import Callable, Iterator

import duckdb
import pytest

from mlops_assets.defs.flights import contracts
from mlops_assets.quality import Contract, audit

CONTRACTS: dict[str, type[Contract]] = {
    "flights": contracts.Flights,
    "weather": contracts.Weather,
    "planes": contracts.Planes,
    "airports": contracts.Airports,
    "airlines": contracts.Airlines,
}


@pytest.fixture(scope="module")
def year(
    raw_session: Callable[..., duckdb.DuckDBPyConnection],
) -> Iterator[duckdb.DuckDBPyConnection]:
    """All published rows."""
    with raw_session(dt.date(2013, 1, 1), dt.date(2013, 12, 31)) as con:
        yield con


@pytest.mark.parametrize(("table", "rows"), [
    ("flights", 336_776), ("weather", 26_115), ("planes", 3_322), ("airports", 1_458),
    ("airlines", 16),
])  # fmt: skip
def test_no_rule_refuses_a_published_row(
    year: duckdb.DuckDBPyConnection, table: str, rows: int
) -> None:
    report = audit(year, f"raw.{table}", CONTRACTS[table])
    assert report.rows == rows
    assert [check for check in report.checks if check.failures] == []
    assert report.ok


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("flights", "dest = 'Chicago'"),
        ("flights", "origin = 'BOS'"),
        ("flights", "dest = origin"),
        ("flights", "month = 13"),
        ("flights", "flight_date = flight_date + 1"),
        ("flights", "sched_dep_time = 2360"),
        ("flights", "minute = (minute + 1) % 60"),
        ("flights", "dep_delay = 100000 // 10"),
        ("flights", "dep_time = NULL"),
        ("flights", "air_time = NULL"),
        ("flights", "carrier = NULL"),
        ("flights", "tailnum = '-'"),
        ("flights", "time_hour = TIMESTAMPTZ '1903-12-17 15:35:00+00'"),
        ("weather", "temp = 451"),
        ("weather", "humid = 101"),
        ("weather", "wind_dir = 361"),
        ("weather", "dewp = temp + 20"),
        ("weather", "precip = -0.01"),
        ("weather", "pressure = 'nan'::DOUBLE"),
        ("weather", "visib = 'inf'::DOUBLE"),
        ("weather", "observation_date = observation_date - 1"),
        ("planes", "year = 1899"),
        ("planes", "engines = 0"),
        ("airports", "lat = 91"),
        ("airports", "tzone = 'EST'"),
        ("airlines", "carrier = 'ABC'"),
        ("airlines", "name = ''"),
    ],
)
def test_a_broken_row_is_refused(year: duckdb.DuckDBPyConnection, table: str, change: str) -> None:
    flown = "WHERE arr_delay IS NOT NULL" if table == "flights" else ""
    year.execute(f"CREATE OR REPLACE TABLE main.batch AS FROM raw.{table} {flown} LIMIT 5")
    year.execute(f"UPDATE main.batch SET {change} WHERE rowid = 2")
    report = audit(year, "main.batch", CONTRACTS[table])
    assert report.refused_rows == 1
    assert not report.ok


@pytest.mark.parametrize("table", sorted(CONTRACTS))
def test_a_repeated_key_is_refused(year: duckdb.DuckDBPyConnection, table: str) -> None:
    year.execute(f"CREATE OR REPLACE TABLE main.batch AS FROM raw.{table} LIMIT 5")
    year.execute("INSERT INTO main.batch FROM main.batch LIMIT 1")
    assert not audit(year, "main.batch", CONTRACTS[table]).ok
