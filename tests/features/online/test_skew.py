"""Does the skew check find what was served wrongly, and nothing else?"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from mlops_assets.features import FeatureView, Selection
from mlops_assets.features.online import (
    FeatureLookup,
    FeatureSkew,
    LookedUp,
    OnlineStore,
    SkewError,
    SkewExample,
    SpineTable,
    fill,
    find_skew,
)
from mlops_assets.lake import Lake, TableName

Hour = Callable[[float], datetime]
LOG = TableName("inference", "delay")
ANSWERED = datetime(2013, 6, 1, tzinfo=UTC)
FLIGHTS = [{"flight_id": name} for name in ("F1", "F2", "F3")]
KEYS = ("flight_id", "origin", "carrier", "number")

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the same for all


@pytest.fixture(autouse=True)
def tables(
    write_weather: Callable[..., None],
    write_delays: Callable[..., None],
    write_spine: Callable[..., None],
) -> None:
    write_weather(
        ("JFK", 1, 1.5, 0.1, "clear", False),
        ("JFK", 2, 2.5, float("nan"), None, True),
        ("EWR", 2, 2.5, 5.5, "fog", None),
    )
    write_delays(("AA", 11, 1, 1 / 3, 2), ("UA", 7, 2, None, 1), ("AA", 11, 6, 9.75, 3))
    write_spine(("F1", "AA", 11, "JFK", 3), ("F2", "UA", 7, "EWR", 4), ("F3", "DL", 5, None, 8))


@pytest.fixture
def selections(weather: FeatureView, delays: FeatureView) -> Sequence[Selection]:
    return [weather.select(entity={"origin": "airport"}), delays.select(prefix="delay_")]


@pytest.fixture
def serve(
    lake: Lake,
    store: OnlineStore,
    spine: SpineTable,
    selections: Sequence[Selection],
    hour: Hour,
) -> Callable[..., LookedUp]:
    """Fill the store, look the flights up, and log what a model of all features would have seen."""

    def served(at: float, *, keys: Sequence[str] = KEYS, **wrong: Any) -> LookedUp:
        fill(lake, store, [each.view for each in selections], hour(at))
        found = FeatureLookup(store, lake, spine, selections).rows(FLIGHTS)
        log(lake, found, keys, wrong)
        return found

    return served


def log(
    lake: Lake,
    found: LookedUp,
    keys: Sequence[str],
    wrong: dict[str, Any],
    *,
    version: int = 1,
    answered: datetime = ANSWERED,
) -> None:
    count = len(found.as_of)
    columns = {name: list(values) for name, values in found.columns.items()}
    for name, value in wrong.items():
        columns[name][0] = value
    features = {
        name: pa.array(values, pa.string())
        if name == "sky"
        else pa.array([None if v is None else float(v) for v in values]).cast(pa.float32())
        for name, values in columns.items()
    }
    lake.append(
        LOG,
        pa.table(
            {
                "prediction_id": [f"{answered:%d}-{version}-{row}" for row in range(count)],
                "answered_at": pa.array([answered] * count, pa.timestamp("us", "UTC")),
                "as_of": pa.array(found.as_of, pa.timestamp("us", "UTC")),
                "version": pa.array([version] * count, pa.int64()),
                "source": [found.source] * count,
                "feature_versions": pa.array(
                    [list(found.versions.items())] * count, pa.map_(pa.string(), pa.int64())
                ),
                **{name: found.spine[name] for name in keys},
                **features,
            }
        ),
        allow_schema_change=True,
    )


def skewed(report: Sequence[FeatureSkew]) -> dict[str, int]:
    return {each.feature: each.different for each in report if each.different}


def test_a_clean_replay_has_no_skew(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    """Fills at several times; some rows the lake had to answer."""
    for at in (1, 2.75, 9):
        serve(at)

    report = find_skew(lake, LOG, spine, selections)

    assert report.predictions == 9
    assert [each.feature for each in report.features] == [
        "wind", "sky", "is_storm", "delay_mean", "delay_flights",
    ]  # fmt: skip
    assert all(each.compared == 9 for each in report.features)
    assert report.skewed == ()
    assert report.gone == {}


@pytest.mark.parametrize(
    ("feature", "value", "offline"),
    [("delay_mean", 0.5, pytest.approx(1 / 3)), ("sky", "clear", None), ("is_storm", None, 1.0)],
)
def test_one_wrong_value_is_found_with_its_prediction(
    lake: Lake,
    spine: SpineTable,
    selections: Sequence[Selection],
    serve: Callable[..., LookedUp],
    hour: Hour,
    feature: str,
    value: object,
    offline: object,
) -> None:
    serve(3)
    serve(3, **{feature: value})

    [found] = find_skew(lake, LOG, spine, selections).skewed

    assert (found.feature, found.compared, found.different) == (feature, 6, 1)
    assert found.worst == SkewExample("01-1-0", hour(3), value, offline)


def test_a_wrong_value_in_the_store_is_found(
    lake: Lake,
    store: OnlineStore,
    spine: SpineTable,
    selections: Sequence[Selection],
    hour: Hour,
    write_delays: Callable[..., None],
) -> None:
    """Another table is stored under the version of the right one."""
    views = [each.view for each in selections]
    fill(lake, store, views, hour(3))
    right = store.state()["delays"].source
    write_delays(("AA", 11, 1, 77.0, 2), ("UA", 7, 2, None, 1))
    fill(lake, store, views, hour(3))
    found = FeatureLookup(store, lake, spine, selections).rows(FLIGHTS)
    [weather, delays] = found.views
    claimed = LookedUp(
        found.columns,
        [weather, type(delays)(**{**_fields(delays), "version": right.version})],
        found.spine,
        found.as_of,
    )
    log(lake, claimed, KEYS, {})

    report = find_skew(lake, LOG, spine, selections)
    assert skewed(report.features) == {"delay_mean": 1}
    assert report.skewed[0].worst == SkewExample("01-1-0", hour(3), 77.0, pytest.approx(1 / 3))


def _fields(view: Any) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__dataclass_fields__}


def test_each_prediction_is_compared_with_the_version_it_was_made_from(
    lake: Lake,
    spine: SpineTable,
    selections: Sequence[Selection],
    serve: Callable[..., LookedUp],
    write_weather: Callable[..., None],
) -> None:
    serve(3)
    write_weather(("JFK", 1, 1.5, 42.0, "rewritten", True))
    serve(3)
    assert find_skew(lake, LOG, spine, selections).skewed == ()


def test_the_worst_is_the_one_that_is_furthest_off(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    for wrong in (1.0, -80.0, 20.0):
        serve(3, delay_flights=wrong)
    [found] = find_skew(lake, LOG, spine, selections).skewed
    assert found.different == 3
    assert found.worst is not None
    assert (found.worst.online, found.worst.offline) == (-80.0, 2.0)


def test_columns_that_are_not_logged_are_found_in_the_spine(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    serve(3, keys=["flight_id"], delay_mean=5.0)
    report = find_skew(lake, LOG, spine, selections)
    assert report.predictions == 3
    assert skewed(report.features) == {"delay_mean": 1}


def test_only_features_that_a_version_takes_are_compared(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    found = serve(3)
    log(lake, found, KEYS, {"wind": 99.0}, version=2)

    takes = {1: found.columns, 2: [name for name in found.columns if name != "wind"]}
    report = find_skew(lake, LOG, spine, selections, features_of=takes)
    assert report.skewed == ()
    assert [each.compared for each in report.features] == [3, 6, 6, 6, 6]
    assert skewed(find_skew(lake, LOG, spine, selections).features) == {"wind": 1}


def test_only_new_predictions_and_at_most_so_many(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    found = serve(3, wind=1.0)
    log(lake, found, KEYS, {}, answered=ANSWERED + timedelta(days=1))

    assert find_skew(lake, LOG, spine, selections, since=ANSWERED + timedelta(hours=1)).skewed == ()
    newest = find_skew(lake, LOG, spine, selections, most=3)
    assert (newest.predictions, newest.skewed) == (3, ())


def test_a_column_of_another_name_is_found(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection], serve: Callable[..., LookedUp]
) -> None:
    serve(3, sky="hail")
    with lake.connect() as con:
        lake.overwrite(
            LOG,
            con.sql(f"SELECT * RENAME (sky AS feature_sky) FROM {LOG.sql}").to_arrow_table(),
            allow_schema_change=True,
        )
    with pytest.raises(SkewError, match="has no column 'sky', where sky is to be; valid: "):
        find_skew(lake, LOG, spine, selections)
    report = find_skew(lake, LOG, spine, selections, columns={"sky": "feature_sky"})
    assert skewed(report.features) == {"sky": 1}


def test_a_version_that_is_gone_is_counted_not_guessed(
    lake: Lake,
    spine: SpineTable,
    selections: Sequence[Selection],
    serve: Callable[..., LookedUp],
    write_weather: Callable[..., None],
    weather: FeatureView,
) -> None:
    serve(3, wind=99.0)
    write_weather(("JFK", 1, 1.5, 42.0, "rewritten", True))
    lake.vacuum(weather.table, timedelta(0), dry_run=False)

    report = find_skew(lake, LOG, spine, selections)

    assert {str(source): rows for source, rows in report.gone.items()} == {"features/weather@0": 3}
    assert [each.compared for each in report.features] == [0, 0, 0, 3, 3]
    assert report.skewed == ()


def test_a_log_in_which_nobody_asked_by_key_is_not_compared(
    lake: Lake, spine: SpineTable, selections: Sequence[Selection]
) -> None:
    answered = {"prediction_id": ["a-0"], "source": ["request"]}
    as_of = pa.array([None], pa.timestamp("us", "UTC"))
    lake.overwrite(LOG, pa.table({**answered, "as_of": as_of}))

    report = find_skew(lake, LOG, spine, selections)

    assert (report.predictions, report.skewed) == (0, ())
