"""No feature of a flight depends on anything that happened after its prediction time."""

import datetime as dt
from collections.abc import Callable

import duckdb
import pyarrow as pa
import pytest

from .conftest import FIRST, Sql

STORM = dt.datetime(2013, 3, 8, 20, 0, tzinfo=dt.UTC)  # hundreds of flights are late or cancelled
CLOCKS_CHANGE = dt.datetime(2013, 3, 10, 17, 0, tzinfo=dt.UTC)
MORNING = dt.datetime(2013, 3, 12, 11, 0, tzinfo=dt.UTC)  # the day's first arrivals are due


def _forget_the_future(
    con: duckdb.DuckDBPyConnection, now: dt.datetime, instants: pa.Table
) -> None:
    """Leave of the raw tables what was known at a moment, and the timetable.

    A flight that is to leave has no outcome yet. One that is overdue by so much that it cannot be
    cancelled any more is given the earliest departure that is still possible.
    """
    con.register("instants", instants)
    con.execute(
        """
        CREATE TABLE raw.flights_known AS
        SELECT
            raw.* REPLACE (
                CASE WHEN departed THEN dep_time WHEN held THEN 1 END AS dep_time,
                CASE
                    WHEN departed THEN dep_delay
                    WHEN held THEN date_diff('minute', scheduled_departure_at, $now) + 1
                END AS dep_delay,
                CASE WHEN arrived THEN arr_time END AS arr_time,
                CASE WHEN arrived THEN arr_delay END AS arr_delay,
                CASE WHEN arrived THEN air_time END AS air_time
            )
        FROM raw.flights AS raw
        JOIN (
            SELECT
                *,
                coalesce(departed_at <= $now, false) AS departed,
                coalesce(arrived_at <= $now, false) OR (is_diverted AND departed) AS arrived,
                scheduled_departure_at + INTERVAL 60 MINUTES <= $now
                AND departure_known_at > $now AS held
            FROM instants
        ) AS known
            ON known.flight_date = raw.flight_date
            AND known.carrier = raw.carrier
            AND known.flight_number = raw.flight
            AND known.origin = raw.origin
        """,
        {"now": now},
    )
    con.execute("CREATE OR REPLACE TABLE raw.flights AS FROM raw.flights_known")
    con.execute("DELETE FROM raw.weather WHERE time_hour + INTERVAL 1 HOUR > $now", {"now": now})


def _instants(con: duckdb.DuckDBPyConnection) -> pa.Table:
    """When each flight left and arrived, from the complete history."""
    return con.sql("FROM intermediate.int_flights").to_arrow_table()


@pytest.mark.parametrize("now", [STORM, CLOCKS_CHANGE, MORNING])
def test_truncated_history_gives_the_same_features(
    now: dt.datetime,
    sql: Sql,
    winter: duckdb.DuckDBPyConnection,
    raw_session: Callable[..., duckdb.DuckDBPyConnection],
) -> None:
    scored = "(SELECT * FROM marts.spine_flights WHERE prediction_time = $now)"
    winter.execute(f"CREATE OR REPLACE TABLE main.scored AS FROM {scored}", {"now": now})
    expected = sql.features_of_spine(winter, "main.scored")
    assert len(expected) >= 5

    with raw_session(FIRST, now.date() + dt.timedelta(days=1)) as con:
        before = con.sql("SELECT count(arr_delay) FROM raw.flights").fetchall()
        _forget_the_future(con, now, _instants(winter))
        after = con.sql("SELECT count(arr_delay) FROM raw.flights").fetchall()
        assert after < before
        sql.build(con)
        con.execute(f"CREATE TABLE main.scored AS FROM {scored}", {"now": now})
        assert sql.features_of_spine(con, "main.scored") == expected


def test_truncating_too_early_is_noticed(
    sql: Sql,
    winter: duckdb.DuckDBPyConnection,
    raw_session: Callable[..., duckdb.DuckDBPyConnection],
) -> None:
    """The comparison above can fail: an hour of the known past is missed in most features."""
    scored = "(SELECT * FROM marts.spine_flights WHERE prediction_time = $now)"
    winter.execute(f"CREATE OR REPLACE TABLE main.scored AS FROM {scored}", {"now": STORM})
    expected = sql.features_of_spine(winter, "main.scored")
    with raw_session(FIRST, STORM.date()) as con:
        _forget_the_future(con, STORM - dt.timedelta(hours=1), _instants(winter))
        sql.build(con)
        con.execute(f"CREATE TABLE main.scored AS FROM {scored}", {"now": STORM})
        found = sql.features_of_spine(con, "main.scored")
    for old, new in zip(expected, found, strict=True):
        assert sum(a != b for a, b in zip(old, new, strict=True)) > 20
