"""Local clock readings become the right instants."""

import datetime as dt
from collections.abc import Callable, Iterator

import duckdb
import pytest

from .conftest import Sql


@pytest.fixture(scope="module")
def flights(
    sql: Sql, raw_session: Callable[..., duckdb.DuckDBPyConnection]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Flights of no day but the ones that a test adds."""
    with raw_session(dt.date(1999, 1, 1), dt.date(1999, 1, 1)) as con:
        yield con


def _instants(
    con: duckdb.DuckDBPyConnection,
    sql: Sql,
    *,
    departs: dt.datetime,
    origin_clock: int,
    arrives: int,
    dest: str,
    delays: tuple[int | None, int | None] = (0, 0),
) -> dict[str, object]:
    """Give the instants of one flight that departs at an instant, when clocks read as given."""
    con.execute("DELETE FROM raw.flights")
    local = con.sql(
        "SELECT $departs AT TIME ZONE 'America/New_York'", params={"departs": departs}
    ).fetchall()[0][0]
    flown = delays[1] is not None
    con.execute(
        """
        INSERT INTO raw.flights BY NAME SELECT
            $date AS flight_date, year($date) AS year, month($date) AS month, day($date) AS day,
            'XX' AS carrier, 1 AS flight, 'N1' AS tailnum, 'JFK' AS origin, $dest AS dest,
            $clock AS sched_dep_time, $clock // 100 AS hour, $clock % 100 AS minute,
            $arrives AS sched_arr_time, date_trunc('hour', $departs) AS time_hour, 100 AS distance,
            CASE WHEN $late IS NOT NULL THEN 1 END AS dep_time, $late AS dep_delay,
            $later AS arr_delay, CASE WHEN $flown THEN 1 END AS arr_time,
            CASE WHEN $flown THEN 60 END AS air_time
        """,
        {
            "date": local.date(), "clock": origin_clock, "arrives": arrives, "dest": dest,
            "departs": departs, "late": delays[0], "later": delays[1], "flown": flown,
        },
    )  # fmt: skip
    sql.build(con)
    relation = con.sql("SELECT * FROM intermediate.int_flights")
    (row,) = relation.fetchall()
    return dict(zip(relation.columns, row, strict=True))


def _utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]  # year … minute


@pytest.mark.parametrize(
    ("departs", "clock", "arrives", "dest", "arrival"),
    [
        pytest.param(_utc(2013, 1, 1, 10, 45), 545, 1022, "BQN", _utc(2013, 1, 1, 14, 22),
                     id="a destination the source lacks, an hour ahead"),
        pytest.param(_utc(2013, 7, 1, 9, 45), 545, 922, "BQN", _utc(2013, 7, 1, 13, 22),
                     id="the same in summer, when New York has caught up"),
        pytest.param(_utc(2013, 1, 2, 1, 30), 2030, 2359, "LAX", _utc(2013, 1, 2, 7, 59),
                     id="arrives before midnight there, after midnight here"),
        pytest.param(_utc(2013, 1, 2, 4, 59), 2359, 442, "SJU", _utc(2013, 1, 2, 8, 42),
                     id="a red-eye arrives on the next day"),
        pytest.param(_utc(2013, 1, 2, 1, 0), 2000, 2400, "LAX", _utc(2013, 1, 2, 8, 0),
                     id="2400 is the midnight that ends the day"),
        pytest.param(_utc(2013, 3, 10, 6, 0), 100, 340, "MCO", _utc(2013, 3, 10, 7, 40),
                     id="flies through the hour that clocks skip"),
        pytest.param(_utc(2013, 11, 3, 3, 0), 2300, 130, "ORD", _utc(2013, 11, 3, 6, 30),
                     id="lands in the first of two hours of one name"),
        pytest.param(_utc(2013, 6, 1, 14, 0), 1000, 1430, "HNL", _utc(2013, 6, 2, 0, 30),
                     id="ten hours that look like four"),
        pytest.param(_utc(2013, 6, 1, 14, 0), 1000, 1010, "ORD", _utc(2013, 6, 1, 15, 10),
                     id="an hour and ten minutes that look like ten minutes"),
    ],
)  # fmt: skip
def test_scheduled_arrival_is_read_at_the_destination(
    flights: duckdb.DuckDBPyConnection,
    sql: Sql,
    departs: dt.datetime,
    clock: int,
    arrives: int,
    dest: str,
    arrival: dt.datetime,
) -> None:
    found = _instants(flights, sql, departs=departs, origin_clock=clock, arrives=arrives, dest=dest)
    assert found["scheduled_departure_at"] == departs
    assert found["scheduled_arrival_at"] == arrival
    assert found["outcome_known_at"] == arrival


@pytest.mark.parametrize(
    ("delays", "outcome", "departure_known", "outcome_known"),
    [
        ((10, 20), (False, False), _utc(2013, 6, 1, 14, 10), _utc(2013, 6, 1, 16, 20)),
        ((-5, -9), (False, False), _utc(2013, 6, 1, 13, 55), _utc(2013, 6, 1, 15, 51)),
        ((None, None), (True, False), _utc(2013, 6, 1, 15, 0), _utc(2013, 6, 1, 15, 0)),
        ((30, None), (False, True), _utc(2013, 6, 1, 14, 30), _utc(2013, 6, 1, 19, 30)),
    ],
    ids=["late", "early", "cancelled", "diverted"],
)
def test_an_outcome_is_known_when_it_happened(
    flights: duckdb.DuckDBPyConnection,
    sql: Sql,
    delays: tuple[int | None, int | None],
    outcome: tuple[bool, bool],
    departure_known: dt.datetime,
    outcome_known: dt.datetime,
) -> None:
    found = _instants(
        flights, sql, departs=_utc(2013, 6, 1, 14, 0), origin_clock=1000, arrives=1200,
        dest="MCO", delays=delays,
    )  # fmt: skip
    assert (found["is_cancelled"], found["is_diverted"]) == outcome
    assert found["departure_known_at"] == departure_known
    assert found["outcome_known_at"] == outcome_known
    (label,) = flights.sql("SELECT arrived_late_30 FROM marts.fct_flights").fetchall()[0]
    assert label is (None if any(outcome) else False)
