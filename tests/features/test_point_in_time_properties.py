"""The join against a reference that looks at every pair of rows."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.features import Spine, latest_sql, point_in_time_join, point_in_time_sql

SPINE = Spine("spine", ("carrier", "airport"))
INSTANT = pa.timestamp("us", "UTC")
VIEW_SCHEMA = pa.schema(
    {
        "carrier": pa.string(),
        "place": pa.string(),
        "event_time": INSTANT,
        "available_at": INSTANT,
        "x": pa.float64(),
        "y": pa.float64(),
    }
)
SPINE_SCHEMA = pa.schema(
    {"carrier": pa.string(), "airport": pa.string(), "prediction_time": INSTANT}
)

# Few values, so that ties, corrections, nulls and misses are all common.
carriers = st.sampled_from(["AA", "UA", None])
airports = st.sampled_from(["JFK", "SEA", None])
hours = st.one_of(st.integers(0, 6), st.none())
values = st.one_of(st.none(), st.integers(0, 99).map(float))
predictions = st.lists(st.tuples(carriers, airports, hours), max_size=12)
feature_rows = st.lists(
    st.tuples(carriers, airports, hours, hours, values, values),
    max_size=30,
    unique_by=lambda row: row[:4],
)
ttls = st.one_of(st.none(), st.integers(1, 5))


@pytest.fixture(scope="module")
def session():
    with duckdb.connect(config={"threads": 2}) as con:
        con.execute("SET TimeZone = 'UTC'; CREATE SCHEMA features")
        yield con


@pytest.fixture(scope="module", params=[0, 1_000_000], ids=["sorted", "nested loop"])
def plan(session, request):
    """DuckDB plans an ASOF JOIN in two ways, by how many rows it expects of the spine."""

    def execute(spine, selections):
        session.execute(f"SET asof_loop_join_threshold = {request.param}")
        return session.sql(point_in_time_sql(spine, selections)).fetchall()

    return execute


def known(rows, carrier, airport, at, ttl):
    """The row that the definition asks for: the latest event known at hour ``at``."""
    if carrier is None or airport is None or at is None:
        return None
    candidates = [
        row
        for row in rows
        if row[:2] == (carrier, airport)
        and row[2] is not None
        and row[3] is not None
        and row[3] <= at
    ]
    latest = max(candidates, key=lambda row: (row[2], row[3]), default=None)
    if latest is None or (ttl is not None and latest[2] < at - ttl):
        return None
    return latest


def fill(con, hour, name, schema, rows):
    """Make a table; whole numbers in its instants are hours."""
    arrow = pa.table(
        [
            pa.array(
                [None if v is None else hour(v) if kind.type == INSTANT else v for v in column],
                kind.type,
            )
            for kind, column in zip(
                schema, zip(*rows, strict=True) if rows else [()] * len(schema), strict=True
            )
        ],
        schema=schema,
    )
    con.register("incoming", arrow)
    con.execute(f"CREATE OR REPLACE TABLE {name} AS FROM incoming")
    con.unregister("incoming")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(spine=predictions, first=feature_rows, second=feature_rows, ttl=ttls)
def test_the_join_is_what_the_definition_says(
    session, plan, hour, feature_view, spine, first, second, ttl
):
    fill(session, hour, "spine", SPINE_SCHEMA, spine)
    fill(session, hour, "features.first", VIEW_SCHEMA, first)
    fill(session, hour, "features.second", VIEW_SCHEMA, second)
    view = feature_view("first", "x", "y", entity=("carrier", "place"))
    other = feature_view("second", "x", entity=("carrier", "place"))
    mapping = {"airport": "place"}
    limit = None if ttl is None else timedelta(hours=ttl)

    result = plan(
        SPINE,
        [
            replace(view, ttl=limit).select(entity=mapping),
            other.select(entity=mapping, prefix="other_"),
        ],
    )

    expected = []
    for carrier, airport, at in spine:
        row = known(first, carrier, airport, at, ttl)
        other_row = known(second, carrier, airport, at, None)
        expected.append(
            (
                carrier,
                airport,
                None if at is None else hour(at),
                *((row[4], row[5], hour(row[3])) if row else (None, None, None)),
                *((other_row[4], hour(other_row[3])) if other_row else (None, None)),
            )
        )
    assert Counter(result) == Counter(expected)  # as many rows, each with its own values


def ordered(rows):
    """Leave out what the test ``knowledge_ordered`` would refuse."""
    kept = []
    for row in sorted(rows, key=lambda row: (row[3] is None, row[3], row[2] is None, row[2] or 0)):
        before = [other for other in kept if other[:2] == row[:2] and None not in other[2:4]]
        if None in row[2:4] or all(o[2] <= row[2] and o[3] < row[3] for o in before):
            kept.append(row)
    return kept


@settings(max_examples=100, deadline=None, derandomize=True)
@given(spine=predictions, rows=feature_rows.map(ordered), ttl=ttls)
def test_an_ordered_view_needs_no_pass_of_its_own(
    session, plan, hour, feature_view, spine, rows, ttl
):
    fill(session, hour, "spine", SPINE_SCHEMA, spine)
    fill(session, hour, "features.first", VIEW_SCHEMA, rows)
    limit = None if ttl is None else timedelta(hours=ttl)
    view = feature_view("first", "x", entity=("carrier", "place"), ttl=limit)
    any_order = view.select(entity={"airport": "place"})
    in_order = replace(view, knowledge_ordered=True).select(entity={"airport": "place"})
    assert "WINDOW" not in point_in_time_sql(SPINE, [in_order])
    assert Counter(plan(SPINE, [in_order])) == Counter(plan(SPINE, [any_order]))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=feature_rows, at=st.integers(0, 6), ttl=ttls)
def test_latest_is_the_join_at_one_moment(session, hour, feature_view, rows, at, ttl):
    fill(session, hour, "features.first", VIEW_SCHEMA, rows)
    limit = None if ttl is None else timedelta(hours=ttl)
    view = feature_view("first", "x", "y", entity=("carrier", "place"), ttl=limit)

    result = session.sql(latest_sql(view, hour(at))).fetchall()

    entities = {row[:2] for row in rows}
    expected = [known(rows, *entity, at, ttl) for entity in entities]
    assert Counter(result) == Counter(
        (*row[:2], hour(row[2]), hour(row[3]), *row[4:]) for row in expected if row
    )


def test_many_rows_on_many_threads_give_one_answer(session, feature_view):
    """At a size where DuckDB sorts in parallel, against plain SQL that knows no ASOF JOIN."""
    session.execute(
        """
        SET threads = 4;
        CREATE OR REPLACE TABLE features.first AS
        SELECT DISTINCT ON (carrier, place, event_time, available_at) *
        FROM (
            SELECT
                (hash(i) % 40)::VARCHAR AS carrier,
                (hash(i + 1) % 40)::VARCHAR AS place,
                TIMESTAMPTZ '2013-01-01' + to_hours((hash(i + 2) % 300)::BIGINT) AS event_time,
                event_time + to_hours((hash(i + 3) % 48)::BIGINT) AS available_at,
                i::DOUBLE AS x
            FROM range(200_000) AS t (i)
        );
        CREATE OR REPLACE TABLE spine AS
        SELECT
            i AS id,
            (hash(i + 4) % 41)::VARCHAR AS carrier,
            (hash(i + 5) % 41)::VARCHAR AS airport,
            TIMESTAMPTZ '2013-01-01' + to_hours((hash(i + 6) % 350)::BIGINT) AS prediction_time
        FROM range(50_000) AS t (i);
        CREATE OR REPLACE TABLE expected AS
        SELECT id, arg_max(x, (event_time, f.available_at)) AS x
        FROM spine LEFT JOIN features.first AS f
            ON spine.carrier = f.carrier
            AND spine.airport = f.place
            AND spine.prediction_time >= f.available_at
        GROUP BY id
        """
    )
    view = feature_view("first", "x", entity=("carrier", "place"))
    for _ in range(3):
        result = point_in_time_join(session, SPINE, [view.select(entity={"airport": "place"})])
        result.create_view("joined")
        session.execute("CREATE OR REPLACE TABLE result AS FROM joined")
        assert session.sql("SELECT count(*), count(DISTINCT id) FROM result").fetchall() == [
            (50_000, 50_000)
        ]
        differing = session.sql(
            "SELECT count(*) FROM result JOIN expected USING (id) "
            "WHERE result.x IS DISTINCT FROM expected.x"
        )
        assert differing.fetchall() == [(0,)]
    assert session.sql("SELECT count(x) > 10_000 FROM expected").fetchall() == [(True,)]
