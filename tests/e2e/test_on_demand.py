"""Single assets and ranges of days, materialised on demand in a home in which the demo has run."""

import os
from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import pytest

from mlops_assets.definitions import build_defs
from mlops_assets.lake import TableName, Window
from mlops_assets.orchestration.instance import open_instance
from mlops_assets.orchestration.running import RANGE_END, RANGE_START
from mlops_assets.registry import Event
from mlops_assets.registry.ledger import read as read_ledger
from tests.demo import Demo

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1800)]

FLIGHTS = TableName("raw", "flights")
STAGED = TableName("staging", "stg_flights")


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Opening a Dagster instance points this process at its home; point it back afterwards."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def materialise(
    demo: Demo, *keys: str, days: tuple[str, str] | None = None
) -> dg.ExecuteInProcessResult:
    """Materialise assets as Dagster's UI does: chosen from all, recorded in the home's instance."""
    defs = build_defs(demo.settings)
    with open_instance(demo.settings) as instance:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey.from_user_string(key) for key in keys],
            tags={RANGE_START: days[0], RANGE_END: days[1]} if days else {},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def versions(demo: Demo) -> dict[TableName, int]:
    return {name: demo.lake.version(name) for name in demo.lake.tables()}


def loaded_at_by_day(demo: Demo) -> dict[date, set[object]]:
    with demo.lake.connect() as con:
        rows = con.sql("SELECT DISTINCT flight_date, _loaded_at FROM raw.flights").fetchall()
    return {day: {at for found, at in rows if found == day} for day in {row[0] for row in rows}}


def test_a_single_asset_changes_no_other_table(demo_copy: Demo) -> None:
    before = versions(demo_copy)

    result = materialise(demo_copy, "staging/stg_planes")

    assert result.success
    assert made(result) == {"staging/stg_planes"}
    assert all(check.passed for check in result.get_asset_check_evaluations())
    changed = {name for name, version in versions(demo_copy).items() if before[name] != version}
    assert changed == {TableName("staging", "stg_planes")}


def test_a_range_of_days_of_a_raw_table_changes_those_days_only(demo_copy: Demo) -> None:
    before = loaded_at_by_day(demo_copy)
    rows = demo_copy.lake.describe(FLIGHTS).rows

    result = materialise(demo_copy, "raw/flights", days=("2013-03-05", "2013-03-07"))

    assert result.success
    after = loaded_at_by_day(demo_copy)
    assert set(after) == set(before)
    assert {day for day in after if after[day] != before[day]} == {
        date(2013, 3, day) for day in (5, 6, 7)
    }
    assert demo_copy.lake.describe(FLIGHTS).rows == rows
    events = result.asset_materializations_for_node("raw__flights")
    assert {event.partition for event in events} == {f"2013-03-0{day}" for day in (5, 6, 7)}


def test_a_range_of_days_of_a_dbt_model_is_rebuilt_and_no_other_day(demo_copy: Demo) -> None:
    good = miles_by_day(demo_copy)
    inside, outside = date(2013, 5, 3), date(2013, 5, 5)
    for day in (inside, outside):
        with demo_copy.lake.connect() as con:
            wrong = con.sql(
                "SELECT * REPLACE (distance_miles + 1 AS distance_miles) "
                f"FROM {STAGED.sql} WHERE flight_date = DATE '{day}'"
            ).to_arrow_table()
        window = Window("flight_date", day, day + timedelta(days=1))
        demo_copy.lake.overwrite_window(STAGED, wrong.cast(demo_copy.lake.schema(STAGED)), window)
    damaged = miles_by_day(demo_copy)
    assert differing_days(good, damaged) == {inside, outside}

    result = materialise(demo_copy, "staging/stg_flights", days=("2013-05-02", "2013-05-04"))

    assert result.success
    assert differing_days(good, miles_by_day(demo_copy)) == {outside}


def miles_by_day(demo: Demo) -> dict[date, float]:
    with demo.lake.connect() as con:
        return dict(
            con.sql(
                f"SELECT flight_date, sum(distance_miles) FROM {STAGED.sql} GROUP BY ALL"
            ).fetchall()
        )


def differing_days(one: dict[date, float], other: dict[date, float]) -> set[date]:
    assert set(one) == set(other)
    return {day for day in one if one[day] != other[day]}


def test_a_model_that_is_no_better_is_never_promoted_and_the_gate_says_so(demo_copy: Demo) -> None:
    """The family again on the same data: the best candidate meets its equal.

    CatBoost is not trained again, because that takes minutes; that the same data and seed give the
    same model is shown where training is tested.
    """
    result = materialise(
        demo_copy,
        "flight_delay/linear",
        "flight_delay/evaluation",
        "flight_delay/challenger",
        "flight_delay/champion",
    )

    assert result.success
    [gate] = [c for c in result.get_asset_check_evaluations() if c.check_name == "gate"]
    assert not gate.passed
    assert gate.severity is dg.AssetCheckSeverity.WARN
    assert gate.description
    assert "flight_delay/1" in gate.description
    [champion] = result.asset_materializations_for_node("flight_delay__champion")
    assert champion.metadata["champion"].value == "flight_delay/1"
    assert champion.metadata["decision"].value == gate.description
    assert [v.version for v in demo_copy.registry.versions("flight_delay")] == [1]
    promoted, refused = read_ledger(demo_copy.lake, "flight_delay")
    assert (promoted.event, refused.event) == (Event.promoted, Event.refused)
    assert (refused.from_version, refused.to_version) == (1, 1)
    assert refused.gain == 0
    assert refused.reason == gate.description
