"""Federal holidays fall where the law puts them."""

import datetime as dt

import duckdb
import pytest

HOLIDAYS = {
    2013: ["01-01", "01-21", "02-18", "05-27", "07-04", "09-02", "10-14", "11-11", "11-28",
           "12-25"],
    # May 2021 and 2022 have five and May 2027 has five Mondays, 2024 has four.
    2024: ["01-01", "01-15", "02-19", "05-27", "07-04", "09-02", "10-14", "11-11", "11-28",
           "12-25"],
    2022: ["01-01", "01-17", "02-21", "05-30", "07-04", "09-05", "10-10", "11-11", "11-24",
           "12-25"],
}  # fmt: skip


@pytest.mark.parametrize("year", sorted(HOLIDAYS))
def test_holidays_of_a_year(winter: duckdb.DuckDBPyConnection, year: int) -> None:
    found = winter.sql(
        "SELECT strftime(calendar_date, '%m-%d') FROM intermediate.int_holidays "
        f"WHERE days_from_holiday = 0 AND year(calendar_date) = {year} ORDER BY calendar_date"
    ).fetchall()
    assert [day for (day,) in found] == HOLIDAYS[year]


def test_days_between_two_holidays_belong_to_the_nearer(winter: duckdb.DuckDBPyConnection) -> None:
    found = winter.sql(
        "SELECT calendar_date, holiday, days_from_holiday FROM intermediate.int_holidays "
        "WHERE calendar_date IN (DATE '2013-12-28', DATE '2013-12-29', DATE '2013-07-12') "
        "ORDER BY calendar_date"
    ).fetchall()
    assert found == [
        (dt.date(2013, 12, 28), "Christmas Day", 3),
        (dt.date(2013, 12, 29), "New Year's Day", -3),
    ]
