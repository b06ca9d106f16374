"""What a request gets for its entities, from the store and from the lake."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mlops_assets.features import FeatureView, PointInTimeJoinError
from mlops_assets.features.online import (
    EntityValueError,
    FeatureLookup,
    FillProgress,
    LookupPolicy,
    OfflineLookup,
    OnlineStore,
    SpineTable,
    Status,
    fill,
)
from mlops_assets.lake import Lake

Hour = Callable[[float], datetime]
ONLINE = LookupPolicy.online
FLIGHT = {"flight_id": "F1", "carrier": "AA", "number": 11, "origin": "JFK"}


@pytest.fixture(autouse=True)
def tables(
    write_weather: Callable[..., None],
    write_delays: Callable[..., None],
    write_spine: Callable[..., None],
) -> None:
    write_weather(
        ("JFK", 1, 1.5, 10.0, "clear", False),
        ("JFK", 2, 2.5, 20.0, None, True),
        ("EWR", 2, 2.5, 5.5, "fog", None),
        ("LGA", 9, 9.5, 1.0, "clear", False),
    )
    write_delays(("AA", 11, 1, 3.25, 2), ("UA", 7, 2, None, 1), ("AA", 11, 6, 9.75, 3))
    write_spine(("F1", "AA", 11, "JFK", 3), ("F2", "UA", 7, "EWR", 3), ("F3", "DL", 5, None, 3))


@pytest.fixture
def lookup(
    lake: Lake,
    store: OnlineStore,
    spine: SpineTable,
    weather: FeatureView,
    delays: FeatureView,
) -> FeatureLookup:
    selections = [
        weather.select(entity={"origin": "airport"}),
        delays.select(["flights", "mean"], prefix="delay_"),
    ]
    return FeatureLookup(store, lake, spine, selections)


@pytest.fixture
def filled(
    lake: Lake,
    store: OnlineStore,
    spine: SpineTable,
    weather: FeatureView,
    delays: FeatureView,
    hour: Hour,
) -> None:
    """The store as of three o'clock."""
    fill(lake, store, [weather, delays, spine], hour(3))


@pytest.mark.usefixtures("filled")
def test_an_entity_is_found_by_its_key_alone(lookup: FeatureLookup, hour: Hour) -> None:
    found = lookup.rows([{"flight_id": "F1"}, {"flight_id": "F2"}], policy=ONLINE)

    assert found.columns == {
        "wind": [20.0, 5.5],
        "sky": [None, "fog"],
        "is_storm": [True, None],
        "delay_flights": [2, 1],
        "delay_mean": [3.25, None],
    }
    assert found.spine["carrier"] == ["AA", "UA"]
    assert found.spine["flight_date"] == [date(2013, 1, 1)] * 2
    assert found.spine["leaves_local"] == [datetime(2013, 1, 1, 3)] * 2  # noqa: DTZ001 - local
    assert found.spine["prediction_time"] == [hour(3)] * 2
    assert found.as_of == [int(hour(3).timestamp() * 1e6)] * 2
    assert found.unknown == ()
    assert found.source == "online"


@pytest.mark.usefixtures("filled")
def test_an_entity_of_no_table_is_described_by_the_spines_columns(
    lookup: FeatureLookup, hour: Hour
) -> None:
    assert lookup.joined_by == ("origin", "carrier", "number")
    new = {"carrier": "AA", "number": 11, "origin": "EWR"}
    found = lookup.rows([new], hour(3), policy=ONLINE)
    assert found.columns["wind"] == [5.5]
    assert found.columns["delay_mean"] == [3.25]


@pytest.mark.usefixtures("filled")
def test_what_is_sent_wins_over_what_is_found(lookup: FeatureLookup) -> None:
    found = lookup.rows([{"flight_id": "F1", "origin": "EWR"}], policy=ONLINE)
    assert found.columns["wind"] == [5.5]
    assert found.columns["delay_mean"] == [3.25]
    assert found.spine["origin"] == ["EWR"]


@pytest.mark.usefixtures("filled")
def test_each_value_says_how_it_came_to_be_known(lookup: FeatureLookup, hour: Hour) -> None:
    found = lookup.rows([{"flight_id": "F1"}, {"flight_id": "F3"}], hour(3.25), policy=ONLINE)

    [weather, delays] = found.views
    assert (weather.label, weather.view, weather.version) == ("weather", "weather", 0)
    assert delays.label == "delay_delays"
    assert weather.statuses == [Status.fresh, Status.unknown_entity]
    assert weather.event_times == [int(hour(2).timestamp() * 1e6), None]
    assert weather.available_ats == [int(hour(2.5).timestamp() * 1e6), None]
    assert weather.ages == [1.25 * 3600, None]
    assert found.versions == {"weather": 0, "delays": 0}
    assert found.problems() == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("at", "status"),
    [
        (1.49, Status.newer_than_as_of),
        (2.49, Status.newer_than_as_of),
        (2.5, Status.fresh),
        (5.0, Status.fresh),
        (5.01, Status.expired),
    ],
)
def test_a_value_is_used_only_when_it_was_known_and_not_too_old(
    lookup: FeatureLookup, hour: Hour, at: float, status: Status
) -> None:
    found = lookup.rows([FLIGHT], hour(at), policy=ONLINE)
    assert found.views[0].statuses == [status]
    assert found.columns["wind"] == [20.0 if status is Status.fresh else None]


@pytest.mark.usefixtures("filled")
def test_a_value_is_not_used_once_the_table_knew_a_newer_one(
    lookup: FeatureLookup, hour: Hour
) -> None:
    """The fill at three o'clock read a table that knew already what comes at six."""
    before = lookup.rows([FLIGHT], hour(5.9), policy=ONLINE)
    after = lookup.rows([FLIGHT], hour(6), policy=ONLINE)

    assert before.columns["delay_mean"] == [3.25]
    assert after.columns["delay_mean"] == [None]
    assert after.views[1].statuses == [Status.superseded]
    assert after.problems() == [(0, "delay_delays", Status.superseded)]


@pytest.mark.usefixtures("filled")
def test_an_entity_that_becomes_known_later_is_unknown_until_then(
    lookup: FeatureLookup, hour: Hour
) -> None:
    at_laguardia = {**FLIGHT, "origin": "LGA"}
    for at, status in [(9.4, Status.unknown_entity), (9.5, Status.superseded)]:
        found = lookup.rows([at_laguardia], hour(at), policy=ONLINE)
        assert found.views[0].statuses == [status]
        assert found.views[0].event_times == [None]


@pytest.mark.usefixtures("filled")
def test_the_lake_answers_what_the_store_cannot(lookup: FeatureLookup, hour: Hour) -> None:
    entities = [FLIGHT, {**FLIGHT, "origin": "EWR"}, FLIGHT]
    found = lookup.rows(entities, [hour(2), hour(3), hour(6)])

    assert found.columns["wind"] == [10.0, 5.5, None]
    assert found.columns["sky"] == ["clear", "fog", None]
    assert found.columns["is_storm"] == [False, None, None]
    assert found.columns["delay_mean"] == [3.25, 3.25, 9.75]
    assert found.views[0].statuses == [Status.fresh, Status.fresh, Status.expired]
    assert found.views[0].from_lake == {0}
    assert found.views[1].from_lake == {2}
    assert found.source == "online"


@pytest.mark.usefixtures("filled")
def test_the_lake_answers_from_the_version_that_was_stored(
    lookup: FeatureLookup, hour: Hour, write_weather: Callable[..., None]
) -> None:
    write_weather(("JFK", 1, 1.5, 99.0, "rewritten", False))

    found = lookup.rows([FLIGHT, FLIGHT], [hour(2), hour(3)])

    assert found.columns["wind"] == [10.0, 20.0]
    assert found.versions["weather"] == 0
    assert lookup.rows([FLIGHT], hour(2), policy=LookupPolicy.offline).columns["wind"] == [99.0]


@pytest.mark.usefixtures("filled")
def test_a_stored_version_that_a_vacuum_removed_is_answered_from_the_latest(
    lookup: FeatureLookup,
    lake: Lake,
    hour: Hour,
    weather: FeatureView,
    write_weather: Callable[..., None],
) -> None:
    write_weather(("JFK", 1, 1.5, 99.0, "rewritten", False))
    lake.vacuum(weather.table, timedelta(0), dry_run=False)

    found = lookup.rows([FLIGHT], hour(2))

    assert found.columns["wind"] == [99.0]
    assert found.versions["weather"] == lake.version(weather.table)


def test_a_store_that_is_not_filled_leaves_it_to_the_lake(
    lookup: FeatureLookup, hour: Hour
) -> None:
    alone = lookup.rows([FLIGHT], hour(3), policy=ONLINE)
    assert [view.statuses for view in alone.views] == [[Status.not_filled]] * 2
    assert alone.columns["wind"] == [None]

    found = lookup.rows([{"flight_id": "F1"}])
    assert found.columns["wind"] == [20.0]
    assert found.spine["flight_date"] == [date(2013, 1, 1)]
    assert found.source == "offline"


def test_a_fill_is_noticed_by_those_who_look_up_already(
    lookup: FeatureLookup,
    lake: Lake,
    store: OnlineStore,
    weather: FeatureView,
    spine: SpineTable,
    hour: Hour,
) -> None:
    assert lookup.rows([FLIGHT], hour(3), policy=ONLINE).columns["wind"] == [None]
    fill(lake, store, [weather], hour(3))
    assert lookup.rows([FLIGHT], hour(3), policy=ONLINE).columns["wind"] == [20.0]
    assert lookup.rows([{"flight_id": "F1"}], hour(3), policy=ONLINE).unknown == (0,)
    fill(lake, store, [spine], hour(3))
    assert lookup.rows([{"flight_id": "F1"}], hour(3), policy=ONLINE).unknown == ()


@pytest.mark.usefixtures("filled")
def test_a_view_with_a_new_feature_is_answered_by_the_lake_until_it_is_filled_again(
    lake: Lake, store: OnlineStore, spine: SpineTable, delays: FeatureView, hour: Hour
) -> None:
    before = replace(delays, features=delays.features[:1])
    fill(lake, store, [before], hour(3))
    lookup = FeatureLookup(store, lake, spine, [delays.select()])

    assert lookup.rows([FLIGHT], hour(3), policy=ONLINE).views[0].statuses == [Status.not_filled]
    assert lookup.rows([FLIGHT], hour(3)).columns == {"mean": [3.25], "flights": [2]}
    fill(lake, store, [delays], hour(3))
    assert lookup.rows([FLIGHT], hour(3), policy=ONLINE).columns == {"mean": [3.25], "flights": [2]}


@pytest.mark.usefixtures("filled")
def test_a_view_may_be_read_twice_under_two_prefixes(
    lake: Lake, store: OnlineStore, spine: SpineTable, weather: FeatureView, hour: Hour
) -> None:
    lookup = FeatureLookup(
        store,
        lake,
        spine,
        [
            weather.select(["wind"], entity={"origin": "airport"}),
            weather.select(["wind", "sky"], entity={"dest": "airport"}, prefix="dest_"),
        ],
    )
    entity = [{"origin": "JFK", "dest": "EWR"}]
    expected = {"wind": [20.0], "dest_wind": [5.5], "dest_sky": ["fog"]}
    assert lookup.rows(entity, hour(3), policy=ONLINE).columns == expected
    assert lookup.rows(entity, hour(3), policy=LookupPolicy.offline).columns == expected


@pytest.mark.usefixtures("filled")
def test_an_unknown_entity_is_told_from_one_without_features(
    lookup: FeatureLookup, write_spine: Callable[..., None]
) -> None:
    found = lookup.rows([{"flight_id": "F1"}, {"flight_id": "F9"}])
    assert found.unknown == (1,)
    assert found.columns["wind"] == [20.0, None]

    write_spine(("F1", "AA", 11, "JFK", 3), ("F9", "AA", 11, "JFK", 3))
    found = lookup.rows([{"flight_id": "F1"}, {"flight_id": "F9"}])
    assert found.unknown == ()
    assert found.columns["wind"] == [20.0, 20.0]
    assert lookup.rows([{"flight_id": "F9"}], policy=ONLINE).unknown == (0,)


@pytest.mark.usefixtures("filled")
def test_a_spine_shows_only_the_rows_that_its_filter_lets_through(
    lake: Lake, store: OnlineStore, spine: SpineTable, weather: FeatureView, hour: Hour
) -> None:
    flown = replace(spine, filter="carrier <> 'AA'")
    fill(lake, store, [flown], hour(3))
    selections = [weather.select(entity={"origin": "airport"})]
    for policy in LookupPolicy:
        lookup = FeatureLookup(store, lake, flown, selections)
        found = lookup.rows([{"flight_id": "F1"}, {"flight_id": "F2"}], policy=policy)
        assert found.unknown == (0,)
        assert found.columns["wind"] == [None, 5.5]


@pytest.mark.usefixtures("filled")
def test_a_prediction_that_is_still_to_come_is_made_with_what_is_known_now(
    lookup: FeatureLookup,
) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    before = datetime.now(UTC)
    found = lookup.rows([{**FLIGHT, "prediction_time": tomorrow.isoformat()}], policy=ONLINE)
    assert before.timestamp() * 1e6 <= found.as_of[0] + 1
    assert found.as_of[0] < tomorrow.timestamp() * 1e6


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("policy", list(LookupPolicy))
@pytest.mark.parametrize(
    ("entity", "said"),
    [
        ({**FLIGHT, "number": "eleven"}, "entity 1: number is of type str, which is no integer"),
        ({**FLIGHT, "number": True}, "entity 1: number is of type bool, which is no integer"),
        ({**FLIGHT, "origin": 3}, "entity 1: origin is of type int, which is no text"),
        ({"flight_id": 7}, "entity 0: flight_id is of type int, which is no text"),
        ({"carier": "AA"}, "entity 1: flight_id is missing"),
        ({"carrier": "AA", "number": 11}, "entity 1: origin is missing"),
    ],
)
def test_a_value_that_its_column_cannot_have_is_named(
    lookup: FeatureLookup, hour: Hour, policy: LookupPolicy, entity: dict, said: str
) -> None:
    with pytest.raises(EntityValueError) as caught:
        lookup.rows([FLIGHT, entity], hour(3), policy=policy)
    assert said in str(caught.value)
    assert caught.value.column in said


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("policy", list(LookupPolicy))
def test_a_whole_number_may_be_written_as_a_float_and_nothing_may_be_asked(
    lookup: FeatureLookup, hour: Hour, policy: LookupPolicy
) -> None:
    found = lookup.rows([{**FLIGHT, "number": 11.0}], hour(3), policy=policy)
    assert found.columns["delay_mean"] == [3.25]
    nothing = lookup.rows([], hour(3), policy=policy)
    assert set(nothing.columns) == set(found.columns)
    assert nothing.columns["wind"] == []


def test_moments_must_be_instants_and_as_many_as_entities(
    lookup: FeatureLookup, hour: Hour
) -> None:
    with pytest.raises(ValueError, match="2 moments for 1 entities"):
        lookup.rows([FLIGHT], [hour(1), hour(2)])
    with pytest.raises(ValueError, match="2013-01-01T03:00:00 has no time zone"):
        lookup.rows([FLIGHT], hour(3).replace(tzinfo=None))


def test_what_cannot_be_joined_is_refused_when_the_lookup_is_made(
    lake: Lake, spine: SpineTable, weather: FeatureView
) -> None:
    with pytest.raises(PointInTimeJoinError, match="selected twice under one name"):
        OfflineLookup(lake, spine, [weather.select(), weather.select()])
    with pytest.raises(PointInTimeJoinError, match="no feature is selected"):
        OfflineLookup(lake, spine, [])


def test_a_fill_says_how_far_it_is(
    lake: Lake, store: OnlineStore, weather: FeatureView, spine: SpineTable, hour: Hour
) -> None:
    said: list[FillProgress] = []
    states = fill(lake, store, [weather, spine], hour(3), on_progress=said.append)

    assert [state.rows for state in states] == [3, 3]
    assert [(each.name, each.rows) for each in said if each.state] == [
        ("weather", 3),
        ("marts/spine_flights by flight_id", 3),
    ]
    assert store.state()["weather"] == states[0]


def test_a_fill_needs_an_instant(lake: Lake, store: OnlineStore, weather: FeatureView) -> None:
    with pytest.raises(PointInTimeJoinError, match="has no time zone"):
        fill(lake, store, [weather], datetime(2013, 1, 1))  # noqa: DTZ001 - that is the fault
