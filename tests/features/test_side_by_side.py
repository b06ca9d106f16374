"""The join view by view against the join in one statement."""

from datetime import timedelta

import duckdb
import pytest

from mlops_assets.features import (
    PointInTimeJoinError,
    Spine,
    join_side_by_side,
    point_in_time_join,
)

ROWS = 200_000  # more than one DuckDB row group, so that threads could change the order


@pytest.fixture
def filled(con, feature_view):
    con.execute(
        f"""
        SELECT setseed(0.3);
        CREATE TABLE spine AS SELECT
            range AS id,
            'A' || (random() * 50)::INT AS origin,
            CASE WHEN random() > 0.01 THEN 'A' || (random() * 60)::INT END AS destination,
            TIMESTAMPTZ '2013-01-01' + INTERVAL 1 minute * (random() * 500000)::INT
                AS prediction_time
        FROM range({ROWS});
        """
    )
    for name in ("delays", "weather"):
        con.execute(
            f"""
            CREATE TABLE features.{name} AS
            SELECT 'A' || (random() * 55)::INT AS airport,
                   TIMESTAMPTZ '2013-01-01' + INTERVAL 1 minute * range AS event_time,
                   event_time + INTERVAL 1 minute * (random() * 90)::INT AS available_at,
                   random() AS first_{name}, random() AS second_{name}
            FROM range(300000)
            """
        )
    delays = feature_view("delays", "first_delays", "second_delays", ttl=timedelta(hours=6))
    weather = feature_view("weather", "first_weather")
    selections = [
        delays.select(entity={"origin": "airport"}),
        weather.select(entity={"origin": "airport"}, prefix="origin_"),
        weather.select(entity={"destination": "airport"}, prefix="destination_"),
    ]
    return Spine("spine", ("origin", "destination")), selections


def test_it_gives_what_the_single_statement_gives(con, filled):
    spine, selections = filled
    joined = join_side_by_side(con, spine, selections, order_by=("prediction_time", "id"), name="t")
    outputs = ", ".join(f'"{output}"' for s in selections for output, _ in s.outputs)
    point_in_time_join(con, spine, selections).create_view("whole")
    apart = con.execute(
        f"""
        SELECT count(*) FROM (
            (SELECT id, {outputs} FROM {joined.from_sql})
            EXCEPT ALL (SELECT id, {outputs} FROM whole)
        )
        """
    ).fetchone()
    assert apart == (0,)
    assert con.execute(f"SELECT count(*) FROM {joined.from_sql}").fetchone() == (ROWS,)
    matched = con.execute("SELECT count(origin_first_weather) FROM whole").fetchone()
    assert matched > (ROWS // 2,)


def test_rows_stand_in_the_order_asked_for(con, filled):
    spine, selections = filled
    joined = join_side_by_side(con, spine, selections, order_by=("prediction_time", "id"), name="t")
    table = con.sql(f"SELECT id, prediction_time FROM {joined.from_sql}").to_arrow_table()
    assert table.equals(table.sort_by([("prediction_time", "ascending"), ("id", "ascending")]))
    assert joined.misplaced_rows(con) == 0


def test_a_row_beside_the_wrong_one_is_seen(con, filled):
    spine, selections = filled
    joined = join_side_by_side(con, spine, selections, order_by=("id",), name="t")
    con.execute(
        f'CREATE OR REPLACE TEMP TABLE "{joined.tables[1]}" AS '
        f'SELECT * FROM "{joined.tables[1]}" ORDER BY "@row" DESC'
    )
    assert joined.misplaced_rows(con) == ROWS


def test_nothing_selected_is_refused(con):
    with pytest.raises(PointInTimeJoinError, match="no feature is selected"):
        join_side_by_side(con, Spine("spine", ()), [], order_by=("id",), name="t")


def test_a_session_that_forgets_the_order_gives_no_wrong_rows(con, filled):
    spine, selections = filled
    con.execute("SET preserve_insertion_order = false")
    try:
        joined = join_side_by_side(con, spine, selections, order_by=("id",), name="t")
    except PointInTimeJoinError as error:
        assert "preserve_insertion_order" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert joined.misplaced_rows(con) == 0


def test_the_session_is_a_plain_duckdb_one():
    with duckdb.connect() as session:
        order = session.execute("SELECT current_setting('preserve_insertion_order')").fetchone()
    assert order == (True,)
