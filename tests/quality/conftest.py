"""One small contract, and a session that holds batches for it."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandera.ibis as pa
import pytest

from mlops_assets.lake import Lake
from mlops_assets.quality import Contract, TimestampUTC
from mlops_assets.settings import DuckDBLimits


class Departures(Contract):
    """One row for each departure."""

    flight: int = pa.Field(ge=1, description="Flight number")
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"], description="Airport it left from")
    day: dt.date = pa.Field(description="Day of departure")
    tailnum: str = pa.Field(str_matches="^N[0-9]+$", nullable=True, description="Tail number")
    distance: float = pa.Field(in_range=(0, 6000), description="Miles flown")
    delay: float = pa.Field(nullable=True, ge=-100, description="Delay in minutes")
    left_at: TimestampUTC = pa.Field(nullable=True, description="When it left")

    @pa.dataframe_check
    def not_late_without_time(cls, data: pa.IbisData) -> Any:  # noqa: N805 - Pandera's convention
        """A delay is known only for a flight that left."""
        return data.table.delay.isnull() | data.table.left_at.notnull()

    class Config:
        unique = ("flight", "day")


CLEAN = """
    SELECT i::BIGINT AS flight, ['EWR', 'JFK', 'LGA'][i % 3 + 1] AS origin,
        DATE '2013-01-01' + (i % 28)::INT AS day, 'N' || i AS tailnum, (i * 10)::DOUBLE AS distance,
        CASE WHEN i % 7 = 0 THEN NULL ELSE i::DOUBLE END AS delay,
        TIMESTAMPTZ '2013-01-01 05:00:00+00' + to_minutes(i) AS left_at
    FROM range(1, 101) AS rows(i)
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    limits = DuckDBLimits(memory_limit="1GiB", threads=1, scratch=tmp_path / "scratch")
    return Lake(str(tmp_path / "lake"), limits=limits)


@pytest.fixture
def contract() -> type[Contract]:
    return Departures


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


@pytest.fixture
def batch(con: duckdb.DuckDBPyConnection) -> Callable[..., str]:
    """Make a table of a hundred clean departures, spoilt by the SQL statements given."""

    def make(*spoil: str, columns: str = "*") -> str:
        con.execute("DROP TABLE IF EXISTS departures")
        con.execute(f"CREATE TABLE departures AS SELECT {columns} FROM ({CLEAN})")
        for statement in spoil:
            con.execute(statement)
        return "departures"

    return make


@pytest.fixture
def staged(con: duckdb.DuckDBPyConnection) -> Callable[..., str]:
    """The same as staging leaves it: with provenance, and with its refusals."""

    def make(*spoil: str) -> str:
        con.execute("DROP TABLE IF EXISTS staged")
        con.execute(
            f"""
            CREATE TABLE staged AS
            SELECT *, 'departures.csv' AS _source, 'c0ffee' AS _source_hash,
                row_number() OVER () + 1 AS _source_row,
                TIMESTAMPTZ '2013-02-01 00:00:00+00' AS _loaded_at,
                []::STRUCT(column_name VARCHAR, rule VARCHAR, value VARCHAR)[] AS _refusals
            FROM ({CLEAN})
            """
        )
        for statement in spoil:
            con.execute(statement)
        return "staged"

    return make
