from datetime import UTC, date, datetime, timedelta, timezone

import duckdb
import pyarrow as pa
import pytest

from mlops_assets.lake import Window, WindowError

SCHEMA = pa.schema(
    {"day": pa.date32(), "at": pa.timestamp("us", "UTC"), "local": pa.timestamp("us"), "n": "int64"}
)
JAN_1, JAN_2 = date(2013, 1, 1), date(2013, 1, 2)


def instant(day: int, hour: int = 0) -> datetime:
    return datetime(2013, 1, day, hour, tzinfo=UTC)


def test_the_end_is_exclusive_and_null_is_outside() -> None:
    window = Window("at", instant(1), instant(2)).fitted_to(SCHEMA)
    last = instant(2) - timedelta(microseconds=1)
    values = pa.array([instant(1), last, instant(2), None], pa.timestamp("us", "UTC"))
    assert window.contains(values).to_pylist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (Window("day", JAN_1, JAN_2), "DATE '2013-01-01'", "DATE '2013-01-02'"),
        (
            Window("day", instant(1), instant(2)).fitted_to(SCHEMA),
            "DATE '2013-01-01'",
            "DATE '2013-01-02'",
        ),
        (
            Window("day", instant(1), instant(2)),
            "TIMESTAMPTZ '2013-01-01 23:59:59.999999+00'",
            "TIMESTAMPTZ '2013-01-02 00:00:00+00'",
        ),
        (
            Window("day", datetime(2013, 1, 1), datetime(2013, 1, 2)),  # noqa: DTZ001 - local times
            "TIMESTAMP '2013-01-01 23:59:59.999999'",
            "TIMESTAMP '2012-12-31 23:59:59.999999'",
        ),
    ],
)
def test_duckdb_reads_the_predicate(window: Window, inside: str, outside: str) -> None:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        kept = con.sql(
            f"SELECT which FROM (VALUES ('in', {inside}), ('out', {outside})) t(which, day) "
            f"WHERE {window.sql}"
        ).fetchall()
    assert kept == [("in",)]


def test_instants_are_kept_in_utc() -> None:
    east = timezone(timedelta(hours=9))
    window = Window(
        "at", datetime(2013, 1, 1, 9, tzinfo=east), datetime(2013, 1, 2, 9, tzinfo=east)
    )
    assert window == Window("at", instant(1), instant(2))
    assert "2013-01-01T00:00:00.000000Z" in window.sql


def test_bounds_take_the_type_of_the_column() -> None:
    assert Window("at", JAN_1, JAN_2).fitted_to(SCHEMA) == Window("at", instant(1), instant(2))
    assert Window("day", instant(1), instant(2)).fitted_to(SCHEMA) == Window("day", JAN_1, JAN_2)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (JAN_2, JAN_1),
        (JAN_1, JAN_1),
        (JAN_1, instant(2)),
        (instant(1), datetime(2013, 1, 2)),  # noqa: DTZ001 - one without a zone is the point
    ],
)
def test_bounds_must_be_alike_and_in_order(start: date, end: date) -> None:
    with pytest.raises(WindowError):
        Window("day", start, end)


@pytest.mark.parametrize(
    "window",
    [
        Window("day", instant(1, 6), instant(2, 6)),
        Window("n", JAN_1, JAN_2),
        Window("nowhere", JAN_1, JAN_2),
        Window("local", instant(1), instant(2)),
    ],
)
def test_a_window_that_does_not_fit_its_column_is_refused(window: Window) -> None:
    with pytest.raises(WindowError, match=window.column):
        window.fitted_to(SCHEMA)


def test_a_quote_in_the_column_name_stays_inside_the_name() -> None:
    assert Window('d" OR 1=1 --', JAN_1, JAN_2).sql.startswith('"d"" OR 1=1 --" >=')
