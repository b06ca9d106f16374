"""Each prediction gets what was known when it was made: case by case."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mlops_assets.features import (
    PointInTimeJoinError,
    Spine,
    column_lineage,
    latest_sql,
    point_in_time_join,
    point_in_time_sql,
)
from mlops_assets.lake import TableName

SPINE = Spine("spine", ("airport",))


@pytest.fixture
def weather(con, hour, feature_view):
    con.execute(
        "CREATE TABLE features.weather "
        "(airport VARCHAR, event_time TIMESTAMPTZ, available_at TIMESTAMPTZ, wind DOUBLE)"
    )
    return feature_view("weather", "wind")


@pytest.fixture
def observe(con, hour):
    def insert(*rows):
        """Each row: airport, hour of the event, hour it is known, wind."""
        for airport, event, known, wind in rows:
            con.execute(
                "INSERT INTO features.weather VALUES (?, ?, ?, ?)",
                [airport, None if event is None else hour(event),
                 None if known is None else hour(known), wind],
            )  # fmt: skip

    return insert


@pytest.fixture
def ask(con, hour):
    def join(view, *predictions):
        """The wind of each prediction, given as airport and hour."""
        con.execute(
            "CREATE OR REPLACE TABLE spine "
            "(id INTEGER, airport VARCHAR, prediction_time TIMESTAMPTZ)"
        )
        for number, (airport, at) in enumerate(predictions):
            con.execute(
                "INSERT INTO spine VALUES (?, ?, ?)",
                [number, airport, None if at is None else hour(at)],
            )
        return [
            row[0]
            for row in point_in_time_join(con, SPINE, [view.select()])
            .order("id")
            .select("wind")
            .fetchall()
        ]

    return join


def test_a_value_counts_from_the_moment_it_could_be_known(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0))
    assert ask(weather, ("JFK", 10.5), ("JFK", 10.99), ("JFK", 11), ("JFK", 12)) == [
        None, None, 5.0, 5.0,
    ]  # fmt: skip


def test_a_correction_counts_from_its_own_availability(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("JFK", 10, 14, 7.0))
    assert ask(weather, ("JFK", 13), ("JFK", 14)) == [5.0, 7.0]


def test_a_correction_of_an_old_event_does_not_hide_a_newer_one(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("JFK", 12, 13, 6.0), ("JFK", 10, 14, 7.0))
    assert ask(weather, ("JFK", 12), ("JFK", 13), ("JFK", 15)) == [5.0, 6.0, 6.0]


def test_of_rows_known_at_once_the_latest_event_counts(weather, observe, ask):
    observe(("JFK", 11, 20, 11.0), ("JFK", 12, 20, 12.0), ("JFK", 10, 20, 10.0))
    assert ask(weather, ("JFK", 20)) == [12.0]


def test_a_known_missing_value_hides_the_value_before_it(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("JFK", 12, 13, None))
    assert ask(weather, ("JFK", 12), ("JFK", 14)) == [5.0, None]


def test_entities_do_not_mix(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("LGA", 11, 12, 9.0))
    assert ask(weather, ("JFK", 20), ("LGA", 20), ("EWR", 20)) == [5.0, 9.0, None]


def test_an_event_older_than_the_ttl_counts_as_missing(weather, observe, ask):
    observe(("JFK", 10, 11, 5.0))
    bounded = replace(weather, ttl=timedelta(hours=3))
    assert ask(bounded, ("JFK", 11), ("JFK", 13), ("JFK", 13.001)) == [5.0, 5.0, None]
    precise = replace(weather, ttl=timedelta(hours=3, microseconds=1))
    assert ask(precise, ("JFK", 13), ("JFK", 13.001)) == [5.0, None]


def test_a_stale_value_shows_no_availability_either(con, weather, observe, ask):
    observe(("JFK", 10, 11, 5.0))
    bounded = replace(weather, ttl=timedelta(hours=3))
    ask(bounded, ("JFK", 20))
    row = point_in_time_join(con, SPINE, [bounded.select()]).to_dicts()[0]
    assert row["weather__available_at"] is None


def test_a_null_key_or_time_matches_nothing_and_loses_no_row(weather, observe, ask):
    observe((None, 10, 11, 5.0), ("JFK", None, 11, 6.0), ("LGA", 10, None, 7.0))
    assert ask(weather, (None, 20), ("JFK", 20), ("LGA", 20), ("JFK", None)) == [None] * 4


def test_an_empty_view_and_an_empty_spine(weather, ask):
    assert ask(weather, ("JFK", 20), ("JFK", 20)) == [None, None]
    assert ask(weather) == []


def test_the_result_shows_since_when_each_value_was_known(con, hour, weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("JFK", 10, 14, 7.0))
    ask(weather, ("JFK", 13))
    result = point_in_time_join(con, SPINE, [weather.select()])
    assert result.columns == ["id", "airport", "prediction_time", "wind", "weather__available_at"]
    assert result.fetchall()[0][-1] == hour(11)


def test_one_view_in_two_roles_and_another_beside_it(con, hour, weather, observe, feature_view):
    observe(("JFK", 10, 11, 5.0), ("SEA", 10, 11, 8.0))
    con.execute(
        "CREATE TABLE features.aircraft AS SELECT 'N1' AS tailnum, 2007 AS airline_year, "
        "$moment::TIMESTAMPTZ AS event_time, event_time AS available_at, 6.0 AS age",
        {"moment": hour(0)},
    )
    con.execute(
        "CREATE TABLE flight AS SELECT 'JFK' AS origin, 'SEA' AS dest, 'N1' AS tailnum, "
        "$moment::TIMESTAMPTZ AS decided_at",
        {"moment": hour(12)},
    )
    spine = Spine("main.flight", ("origin", "dest", "tailnum"), "decided_at")
    selections = [
        weather.select(entity={"origin": "airport"}, prefix="origin_"),
        weather.select(entity={"dest": "airport"}, prefix="dest_"),
        feature_view("aircraft", "age", entity=("tailnum",)).select(),
    ]
    assert point_in_time_join(con, spine, selections).to_dicts() == [
        {
            "origin": "JFK",
            "dest": "SEA",
            "tailnum": "N1",
            "decided_at": hour(12),
            "origin_wind": 5.0,
            "origin_weather__available_at": hour(11),
            "dest_wind": 8.0,
            "dest_weather__available_at": hour(11),
            "age": 6.0,
            "aircraft__available_at": hour(0),
        }
    ]
    # One pass over a view serves all its roles.
    assert point_in_time_sql(spine, selections).count('FROM "features"."weather"') == 1


def test_one_column_may_be_both_times(con, hour, weather, observe, ask):
    observe(("JFK", 10, 11, 5.0), ("JFK", 12, 13, 6.0))
    instant = replace(weather, event_time="available_at")
    assert ask(instant, ("JFK", 12), ("JFK", 13)) == [5.0, 6.0]


def test_rows_that_contradict_each_other_stop_the_join(con, weather, observe, ask):
    import duckdb

    observe(("JFK", 10, 11, 5.0), ("JFK", 10, 11, 6.0))
    with pytest.raises(
        duckdb.InvalidInputException,
        match=r"feature view weather \(features/weather\) has several rows with one key, "
        r".*JFK.*2013-01-01 10:00:00.*2013-01-01 11:00:00.*make the model give one",
    ):
        ask(weather, ("JFK", 20))


@pytest.mark.parametrize("name", ['we"ird; DROP TABLE spine', "br{a}ce'", "Größe", "select", "%s"])
def test_no_name_is_read_as_sql(con, hour, feature_view, name):
    from mlops_assets.features.identifiers import quote

    view = feature_view("odd", name, entity=(f"key {name}",))
    spine = Spine(quote(f"spine {name}"), (f"id {name}",), f"time {name}")
    con.execute(
        f"CREATE TABLE features.odd AS SELECT 1 AS {quote(f'key {name}')}, $moment::TIMESTAMPTZ AS "
        f"event_time, event_time AS available_at, 3.0 AS {quote(name)}",
        {"moment": hour(0)},
    )
    con.execute(
        f"CREATE TABLE {spine.relation} AS SELECT 1 AS {quote(f'id {name}')}, "
        f"$moment::TIMESTAMPTZ AS {quote(f'time {name}')}",
        {"moment": hour(1)},
    )
    bounded = replace(view, ttl=timedelta(hours=2))
    selection = bounded.select(entity={f"id {name}": f"key {name}"}, prefix=f"{name} ")
    row = point_in_time_join(con, spine, [selection]).to_dicts()[0]
    assert row[f"{name} {name}"] == 3.0
    assert row[f"{name} odd__available_at"] == hour(0)


def test_the_join_streams(con, weather, observe, ask):
    observe(("JFK", 10, 11, 5.0))
    ask(weather, ("JFK", 20))
    con.execute(
        "INSERT INTO spine SELECT i, 'JFK', TIMESTAMPTZ '2013-01-02' FROM range(1, 300_000) t(i)"
    )
    batches = [
        batch.num_rows
        for batch in point_in_time_join(con, SPINE, [weather.select()]).to_arrow_reader(10_000)
    ]
    assert sum(batches) == 300_000
    assert max(batches) <= 10_240


def test_latest_is_what_a_prediction_at_that_moment_would_use(con, hour, weather, observe):
    observe(
        ("JFK", 10, 11, 5.0), ("JFK", 12, 13, 6.0), ("JFK", 10, 14, 7.0),
        ("LGA", 1, 2, 1.0), ("SEA", 15, 20, 9.0), (None, 10, 11, 3.0),
    )  # fmt: skip
    bounded = replace(weather, ttl=timedelta(hours=6))
    rows = con.sql(latest_sql(bounded, hour(15))).fetchall()
    assert rows == [("JFK", hour(12), hour(13), 6.0)]
    assert len(con.sql(latest_sql(weather, hour(15))).fetchall()) == 2


def test_latest_wants_a_time_zone(weather):
    with pytest.raises(PointInTimeJoinError, match="has no time zone"):
        latest_sql(weather, datetime(2013, 1, 1))  # noqa: DTZ001 - what is refused


def test_lineage_leads_from_each_output_to_its_column(weather):
    selections = [weather.select(prefix="origin_", entity={"airport": "airport"})]
    assert column_lineage(selections) == {
        "origin_wind": ((TableName("features", "weather"), "wind"),),
        "origin_weather__available_at": ((TableName("features", "weather"), "available_at"),),
    }


def test_what_the_session_lacks_is_named(con, weather, feature_view):
    with pytest.raises(PointInTimeJoinError, match="spine spine is not in this session"):
        point_in_time_join(con, SPINE, [weather.select()])
    con.execute("CREATE TABLE spine (aiport VARCHAR, prediction_time TIMESTAMPTZ)")
    with pytest.raises(PointInTimeJoinError, match="no column 'airport'; did you mean 'aiport'"):
        point_in_time_join(con, SPINE, [weather.select()])
    con.execute("CREATE OR REPLACE TABLE spine (airport VARCHAR, prediction_time DATE)")
    with pytest.raises(PointInTimeJoinError, match="'prediction_time' is DATE, not a timestamp"):
        point_in_time_join(con, SPINE, [weather.select()])
    con.execute("CREATE OR REPLACE TABLE spine (airport VARCHAR, prediction_time TIMESTAMPTZ)")
    with pytest.raises(
        PointInTimeJoinError, match=r"feature view sky \(features/sky\) is not in this session"
    ):
        point_in_time_join(con, SPINE, [feature_view("sky", "cover").select()])
    renewed = feature_view("weather", "wind", "gust")
    with pytest.raises(PointInTimeJoinError, match=r"columns gust\. .* build it again"):
        point_in_time_join(con, SPINE, [renewed.select()])


def test_columns_that_would_clash_are_refused(con, weather, feature_view):
    con.execute("CREATE TABLE spine (airport VARCHAR, Wind DOUBLE, prediction_time TIMESTAMPTZ)")
    with pytest.raises(PointInTimeJoinError, match=r"already has a column 'wind'.* prefix"):
        point_in_time_join(con, SPINE, [weather.select()])
    storm = feature_view("storm", "wind")
    with pytest.raises(PointInTimeJoinError, match="views weather and storm would both add"):
        point_in_time_sql(SPINE, [weather.select(), storm.select()])
    with pytest.raises(PointInTimeJoinError, match="selected twice under one name"):
        point_in_time_sql(SPINE, [weather.select(), weather.select()])
    vain = feature_view("vain", "vain__available_at")
    with pytest.raises(PointInTimeJoinError, match="views vain and vain would both add"):
        point_in_time_sql(SPINE, [vain.select()])
    with pytest.raises(PointInTimeJoinError, match="two different feature views are named"):
        point_in_time_sql(
            SPINE, [weather.select(), feature_view("weather", "wind", "x").select(prefix="b_")]
        )
    with pytest.raises(PointInTimeJoinError, match="needs a prefix"):
        point_in_time_sql(SPINE, [feature_view("spine", "x").select()])


def test_an_entity_that_the_spine_lacks_is_refused(weather):
    spine = Spine("spine", ("origin", "dest"))
    with pytest.raises(
        PointInTimeJoinError, match="no entity column of the spine spine is joined to 'airport'"
    ):
        point_in_time_sql(spine, [weather.select()])
    with pytest.raises(
        PointInTimeJoinError, match="no entity column 'orign'; did you mean 'origin'"
    ):
        point_in_time_sql(spine, [weather.select(entity={"orign": "airport"})])
    with pytest.raises(PointInTimeJoinError, match="no feature is selected"):
        point_in_time_sql(spine, [])


def test_an_underestimated_spine_does_not_make_the_join_quadratic(con, weather, observe, ask):
    ask(weather, ("JFK", 20))  # one row: what DuckDB expects when its estimate fails
    result = point_in_time_join(con, SPINE, [weather.select()])
    plan = con.sql(f"EXPLAIN {result.sql_query()}").fetchall()[0][1]
    assert "Asof" in plan or "AsOf" in plan or "ASOF" in plan
    assert "Nested Loop" not in plan
