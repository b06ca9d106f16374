"""The store against the point-in-time join: for any history, any fill and any moment, the same."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.features import FeatureView, Spine, point_in_time_join
from mlops_assets.features.online import (
    FeatureLookup,
    LookupPolicy,
    OnlineStore,
    SpineTable,
    fill,
    open_online_store,
)
from mlops_assets.features.online.looked_up import ANSWERED
from mlops_assets.lake import Lake, TableName
from mlops_assets.settings import load_settings

INSTANT = pa.timestamp("us", "UTC")
VIEW = TableName("features", "first")

# Few values, so that ties, corrections, nulls and misses are all common.
places = st.sampled_from(["JFK", "SEA", None])
hours = st.one_of(st.integers(0, 6), st.none())
values = st.one_of(st.none(), st.integers(0, 99).map(float))
histories = st.lists(
    st.tuples(places, hours, hours, values), max_size=20, unique_by=lambda row: row[:3]
)


@pytest.fixture(scope="module")
def deployment() -> Iterator[tuple[Lake, OnlineStore]]:
    home = Path(tempfile.mkdtemp())
    declared = load_settings(home=home, threads=1)
    store = open_online_store(declared)
    yield Lake.from_settings(declared), store
    store.close()
    shutil.rmtree(home)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    history=histories,
    filled_at=st.integers(0, 6),
    ttl=st.one_of(st.none(), st.integers(1, 5)),
)
def test_a_stored_value_is_what_the_join_gives_at_any_moment(
    deployment: tuple[Lake, OnlineStore],
    hour: Callable[[float], datetime],
    feature_view: Callable[..., FeatureView],
    history: list[tuple],
    filled_at: int,
    ttl: int | None,
) -> None:
    lake, store = deployment

    def at(number: float | None) -> datetime | None:
        return None if number is None else hour(number)

    columns = list(zip(*history, strict=True)) or [()] * 4
    lake.overwrite(
        VIEW,
        pa.table(
            {
                "airport": pa.array(columns[0], pa.string()),
                "event_time": pa.array([at(each) for each in columns[1]], INSTANT),
                "available_at": pa.array([at(each) for each in columns[2]], INSTANT),
                "x": pa.array(columns[3], pa.float64()),
            }
        ),
    )
    view = replace(feature_view("first", "x"), ttl=None if ttl is None else timedelta(hours=ttl))
    selection = view.select()
    fill(lake, store, [view], hour(filled_at))
    asked = [(place, moment) for place in ("JFK", "SEA", None) for moment in (0, 1, 2.5, 4, 6, 9)]
    with lake.connect(tables=[VIEW]) as con:
        con.register(
            "spine",
            pa.table(
                {
                    "row": range(len(asked)),
                    "airport": pa.array([place for place, _ in asked], pa.string()),
                    "prediction_time": pa.array([hour(moment) for _, moment in asked], INSTANT),
                }
            ),
        )
        joined = point_in_time_join(con, Spine("spine", ("airport",)), [selection])
        expected = [x for (x,) in joined.order("row").project("x").fetchall()]

    lookup = FeatureLookup(store, lake, SpineTable(VIEW, ("airport",)), [selection])
    entities = [{"airport": place} for place, _ in asked]
    moments = [hour(moment) for _, moment in asked]
    assert lookup.rows(entities, moments).columns["x"] == expected
    assert lookup.rows(entities, moments, policy=LookupPolicy.offline).columns["x"] == expected
    alone = lookup.rows(entities, moments, policy=LookupPolicy.online)
    statuses = alone.views[0].statuses
    for row, status in enumerate(statuses):
        if status in ANSWERED:
            assert alone.columns["x"][row] == expected[row]
    at_the_fill = [row for row, (_, moment) in enumerate(asked) if moment == filled_at]
    assert all(statuses[row] in ANSWERED for row in at_the_fill)
