"""Rolling features equal their definition, worked out row by row without window functions."""

import duckdb

SAMPLE = 400


def _assert_equal(con: duckdb.DuckDBPyConnection, statement: str) -> None:
    """The statement gives pairs of a published and a recomputed value."""
    rows = con.sql(statement).fetchall()
    assert len(rows) == SAMPLE
    for published, recomputed in rows:
        if recomputed is None:
            assert published is None
        else:
            assert abs(published - recomputed) < 1e-4 * max(1, abs(recomputed))
    assert len({published for published, _ in rows}) > 10


def test_delay_of_the_last_three_hours(winter: duckdb.DuckDBPyConnection) -> None:
    _assert_equal(
        winter,
        f"""
        SELECT origin_departure_delay_3h, (
            SELECT avg(least(departure_delay, 240))
            FROM intermediate.int_flights AS flights
            WHERE flights.origin = views.origin
            AND departed_at > available_at - INTERVAL 3 HOURS AND departed_at <= available_at
        )
        FROM features.fv_origin AS views
        ORDER BY hash(available_at, origin) LIMIT {SAMPLE}
        """,
    )


def test_flights_that_are_overdue(winter: duckdb.DuckDBPyConnection) -> None:
    for view, column, entity, ticks in (
        ("fv_origin", "origin_overdue", "origin", 10),
        ("fv_metro", "metro_overdue", "metro", 10),
        ("fv_carrier", "carrier_overdue", "carrier", 30),
        ("fv_destination", "dest_overdue", "dest", 60),
        ("fv_destination_region", "region_overdue", "dest_region", 30),
    ):
        rows = winter.sql(
            f"""
            SELECT {column}, (
                SELECT count(*)
                FROM intermediate.int_flights AS flights
                WHERE flights.{entity} = views.{entity}
                AND scheduled_departure_at <= available_at AND departure_known_at > available_at
            ), epoch(available_at) % {ticks * 60}
            FROM features.{view} AS views
            ORDER BY hash(available_at, {entity}) LIMIT {SAMPLE}
            """
        ).fetchall()
        assert all(published == counted for published, counted, _ in rows), view
        assert {second for *_, second in rows} == {0}, view
        assert len({published for published, *_ in rows}) > 3, view


def test_lateness_of_the_flights_that_are_overdue(winter: duckdb.DuckDBPyConnection) -> None:
    _assert_equal(
        winter,
        f"""
        SELECT origin_overdue_minutes, (
            SELECT coalesce(sum(date_diff('minute', scheduled_departure_at, available_at)), 0)
            FROM intermediate.int_flights AS flights
            WHERE flights.origin = views.origin
            AND scheduled_departure_at <= available_at AND departure_known_at > available_at
        )
        FROM features.fv_origin AS views
        ORDER BY hash(available_at, origin) LIMIT {SAMPLE}
        """,
    )


def test_history_of_a_flight_number(winter: duckdb.DuckDBPyConnection) -> None:
    _assert_equal(
        winter,
        f"""
        SELECT number_arrival_delay_30d, (
            SELECT avg(least(arrival_delay, 240))
            FROM intermediate.int_flights AS flights
            WHERE flights.carrier = views.carrier AND flights.origin = views.origin
            AND flights.flight_number = views.flight_number
            AND arrived_at > available_at - INTERVAL 30 DAYS AND arrived_at <= available_at
        )
        FROM features.fv_flight_number AS views
        ORDER BY hash(available_at, carrier, flight_number) LIMIT {SAMPLE}
        """,
    )


def test_flights_scheduled_near(winter: duckdb.DuckDBPyConnection) -> None:
    _assert_equal(
        winter,
        f"""
        SELECT origin_departures_near, (
            SELECT count(*)
            FROM intermediate.int_flights AS flights
            WHERE flights.origin = views.departure_airport
            AND flights.flight_date = views.flight_date
            AND abs(date_diff(
                'minute', flights.scheduled_departure_at, views.scheduled_departure_at
            )) <= 30
        )
        FROM features.fv_schedule AS views
        ORDER BY hash(flight_id) LIMIT {SAMPLE}
        """,
    )


def test_inbound_aircraft_is_the_previous_flight_of_the_tail(
    winter: duckdb.DuckDBPyConnection,
) -> None:
    """At the prediction time the state is that of the aircraft's last scheduled leg before."""
    rows = winter.sql(
        """
        SELECT inbound_state, inbound_departure_delay, previous.* FROM (
            SELECT spine.*, views.* EXCLUDE (flight_id, flight_date)
            FROM (
                SELECT * FROM marts.spine_flights ORDER BY hash(flight_id) LIMIT 2000
            ) AS spine
            ASOF JOIN features.fv_inbound_aircraft AS views
                ON spine.flight_id = views.flight_id
                AND spine.prediction_time >= views.available_at
        ) AS scored,
        LATERAL (
            SELECT
                departed_at <= scored.prediction_time AS departed,
                arrived_at <= scored.prediction_time AS arrived,
                departure_delay
            FROM intermediate.int_flights AS flights
            WHERE flights.tailnum = scored.tailnum
            AND (flights.scheduled_departure_at, flights.flight_id)
            < (scored.scheduled_departure_at, scored.flight_id)
            ORDER BY flights.scheduled_departure_at DESC, flights.flight_id DESC LIMIT 1
        ) AS previous
        """
    ).fetchall()
    assert len(rows) > 1000
    assert {state for state, *_ in rows} >= {"planned", "overdue", "departed", "arrived"}
    for state, known_delay, departed, arrived, delay in rows:
        assert (state == "arrived") == bool(arrived)
        assert (state in ("departed", "arrived")) == bool(departed)
        if departed:
            assert known_delay == delay
        elif state == "overdue" and delay is not None:
            assert known_delay < delay
