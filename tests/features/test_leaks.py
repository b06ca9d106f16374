"""Nothing that became known after a prediction changes that prediction's features."""

from datetime import timedelta

import pytest

from mlops_assets.features import Spine, point_in_time_join

SPINE = Spine("spine", ("airport",))


@pytest.fixture
def history(con, feature_view):
    """Ten days of hourly observations, each known 20 to 140 minutes after its hour begins."""
    con.execute(
        """
        CREATE TABLE features.weather AS
        SELECT
            airport,
            TIMESTAMPTZ '2013-01-01' + to_hours(h) AS event_time,
            event_time + to_minutes(20 + (hash(h, airport) % 121)::BIGINT) AS available_at,
            round(10 * sin(h / 7) + (hash(h) % 100) / 50, 3)::DOUBLE AS wind
        FROM range(240) AS hours (h), (VALUES ('JFK'), ('LGA'), ('SEA')) AS airports (airport);
        CREATE TABLE spine AS
        SELECT i AS id, ['JFK', 'LGA', 'SEA'][1 + i % 3] AS airport,
            TIMESTAMPTZ '2013-01-01' + to_minutes(i * 17) AS prediction_time
        FROM range(1, 800) AS predictions (i)
        """
    )
    return feature_view("weather", "wind", ttl=timedelta(hours=12))


def features(con, view):
    return point_in_time_join(con, SPINE, [view.select()]).order("id").fetchall()


def test_no_later_knowledge_changes_what_a_prediction_saw(con, history, hour):
    before = features(con, history)
    # A correction of every observation, a value from the future filed under the past, and one whose
    # event lies in the future too: each known one minute after the last prediction that it must not
    # touch, and wildly wrong so that any leak shows.
    con.execute(
        """
        CREATE TABLE late AS
        SELECT airport, event_time, TIMESTAMPTZ '2013-01-06 00:01' AS available_at, 1e9 AS wind
        FROM features.weather WHERE event_time < TIMESTAMPTZ '2013-01-06'
        UNION ALL
        SELECT 'JFK', TIMESTAMPTZ '2013-01-03 10:30', TIMESTAMPTZ '2013-01-06 00:02', 2e9
        UNION ALL
        SELECT 'SEA', TIMESTAMPTZ '2013-02-01', TIMESTAMPTZ '2013-01-06 00:03', 3e9;
        INSERT INTO features.weather FROM late
        """
    )
    after = features(con, history)

    boundary = hour(5 * 24 + 1 / 60)
    early = [row for row in before if row[2] < boundary]
    assert len(early) > 400
    assert [row for row in after if row[2] < boundary] == early
    assert all(row[3] < 1e9 for row in early if row[3] is not None)
    # The injected rows are not inert: predictions after they were known do see them.
    assert {row[3] for row in after} >= {1e9, 3e9}
    # Only the latest event's correction counts; the past one never becomes the latest known.
    assert 2e9 not in {row[3] for row in after}


def test_history_cut_at_each_prediction_gives_the_same_features(con, history):
    """The features recomputed from only what was on record at that moment are the same."""
    con.execute(
        """
        INSERT INTO features.weather
        SELECT airport, event_time, available_at + INTERVAL '30 minutes', wind + 100
        FROM features.weather WHERE hash(event_time) % 3 = 0
        """
    )
    full = {row[0]: row for row in features(con, history)}
    con.execute(
        "CREATE TABLE record AS FROM features.weather; CREATE TABLE all_spine AS FROM spine"
    )
    for number in range(20, 800, 60):
        con.execute(
            "CREATE OR REPLACE TABLE spine AS FROM all_spine WHERE id = $id", {"id": number}
        )
        con.execute(
            "CREATE OR REPLACE TABLE features.weather AS "
            "FROM record WHERE available_at <= (SELECT prediction_time FROM spine)"
        )
        assert features(con, history) == [full[number]]
    assert any(row[3] is not None and row[3] > 80 for row in full.values())


def test_a_join_by_event_time_would_leak(con, history):
    """The faults injected above are ones that the common shortcut does fall for."""
    leaking = con.sql(
        """
        SELECT count(*) FROM spine ASOF JOIN features.weather AS w
            ON spine.airport = w.airport AND spine.prediction_time >= w.event_time
        WHERE w.available_at > spine.prediction_time
        """
    )
    assert leaking.fetchall()[0][0] > 400
    result = point_in_time_join(con, SPINE, [history.select()])
    assert result.filter("weather__available_at > prediction_time").fetchall() == []
