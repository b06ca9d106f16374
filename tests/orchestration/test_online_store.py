"""The online store as assets, and the check of what was served from it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from mlops_assets.declaration import find_problems
from mlops_assets.features import (
    Feature,
    FeatureRegistry,
    FeatureView,
    UnknownFeatureError,
)
from mlops_assets.features.online import FeatureLookup, LookupPolicy, open_online_store
from mlops_assets.lake import TableName
from mlops_assets.orchestration.online_store import (
    OnlineStoreAssets,
    OnlineStoreDeclaration,
    spine_of,
)
from mlops_assets.orchestration.platform import RESOURCE_KEY, Platform
from mlops_assets.settings import load_settings
from mlops_assets.training.family import ModelFamily, declare_family
from mlops_assets.training.training_set import select_features

INSTANT = pa.timestamp("us", "UTC")
NOON = datetime(2013, 5, 3, 12, tzinfo=UTC)
LOG = TableName("inference", "late")


def view(name: str, table: str) -> FeatureView:
    return FeatureView(
        name=name,
        table=TableName("features", table),
        entity=("origin",),
        event_time="available_at",
        available_at="available_at",
        ttl=timedelta(hours=6),
        owner="team:data",
        description="What is known of an airport.",
        features=(Feature(f"{name}_x", "DOUBLE", "A number."),),
    )


WEATHER, UNREAD = view("weather", "weather"), view("unread", "unread")


@pytest.fixture
def views() -> FeatureRegistry:
    return FeatureRegistry((UNREAD, WEATHER))


@pytest.fixture
def family() -> ModelFamily:
    return declare_family(
        {
            "name": "late",
            "description": "Is it late?",
            "owners": ["team:data"],
            "assumptions": ["Some."],
            "limitations": ["Some."],
            "spine": {"table": "marts/flights", "entity": ["flight_id"]},
            "label": {"table": "marts/flights", "column": "late", "available_at": "known_at"},
            "features": [{"view": "weather"}],
            "split": {
                "train_end": "2013-05-01",
                "validation_end": "2013-06-01",
                "test_end": "2013-07-01",
            },
            "candidates": [{"algorithm": "linear"}],
        }
    )


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(load_settings(home=tmp_path / "home", project_root=tmp_path, threads=1))
    made.lake.overwrite(
        WEATHER.table,
        pa.table(
            {
                "origin": ["JFK", "JFK"],
                "available_at": pa.array([NOON, NOON + timedelta(hours=1)], INSTANT),
                "weather_x": [0.1, 2.0],
            }
        ),
    )
    made.lake.overwrite(
        TableName("marts", "flights"),
        pa.table(
            {
                "flight_id": ["F1"],
                "origin": ["JFK"],
                "prediction_time": pa.array([NOON], INSTANT),
            }
        ),
    )
    return made


def definitions(
    registry: FeatureRegistry, families: Sequence[ModelFamily], **attributes: Any
) -> dg.Definitions:
    declaration = OnlineStoreDeclaration.model_validate(
        {"owners": ["team:data"], "as_of": NOON, **attributes}
    )
    made = OnlineStoreAssets(declaration).build_defs_for(registry, families)
    # Nothing of it is needed before something runs.
    platform = dg.Definitions(resources={RESOURCE_KEY: Platform(load_settings())})
    return dg.Definitions.merge(made, platform)


def keys(defs: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def materialise(
    platform: Platform, defs: dg.Definitions, **chosen: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        list(defs.assets), resources={RESOURCE_KEY: platform}, raise_on_error=False, **chosen
    )


def test_it_stores_what_families_read_or_what_is_listed(
    views: FeatureRegistry, family: ModelFamily
) -> None:
    assert keys(definitions(views, [family])) >= {"online/weather", "online/marts__flights"}
    assert "online/unread" not in keys(definitions(views, [family]))
    assert "online/unread" in keys(definitions(views, [family], views=["unread"]))
    with pytest.raises(UnknownFeatureError, match="'wether'; did you mean 'weather'"):
        definitions(views, [family], views=["wether"])


def test_a_moment_without_a_zone_is_refused() -> None:
    problems = find_problems(
        OnlineStoreDeclaration, {"owners": ["team:data"], "as_of": "2013-05-03T12:00:00"}
    )
    assert [str(problem) for problem in problems] == [
        "as_of: has no time zone; end it with Z for UTC (got '2013-05-03T12:00:00')."
    ]


def test_two_filters_of_one_spine_are_two_assets(
    views: FeatureRegistry, family: ModelFamily
) -> None:
    other = family.model_copy(
        update={"name": "other", "spine": family.spine.model_copy(update={"filter": "origin='X'"})}
    )
    spines = {key for key in keys(definitions(views, [family, other])) if "marts__" in key}
    assert len(spines) == 2


def test_a_view_is_downstream_of_its_table(views: FeatureRegistry, family: ModelFamily) -> None:
    [step] = definitions(views, [family]).assets
    assert step.asset_deps[dg.AssetKey(["online", "weather"])] == {
        dg.AssetKey(["features", "weather"])
    }


def test_materialising_fills_the_store_and_says_with_what(
    platform: Platform, views: FeatureRegistry, family: ModelFamily
) -> None:
    result = materialise(platform, definitions(views, [family]))

    assert result.success
    [event] = [
        each
        for each in result.asset_materializations_for_node("online_store")
        if each.asset_key.path == ["online", "weather"]
    ]
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["dagster/row_count"] == 1
    assert shown["as_of"] == NOON.timestamp()
    assert (shown["table"], shown["delta_version"]) == ("features/weather", 0)
    assert shown["store"] == str(platform.settings.home / "online" / "store.db")
    store = open_online_store(platform.settings)
    lookup = FeatureLookup(store, platform.lake, spine_of(family), select_features(family, views))
    found = lookup.rows([{"flight_id": "F1"}], policy=LookupPolicy.online)
    assert found.columns == {"weather_x": [0.1]}
    store.close()


def test_one_view_alone_can_be_filled_as_of_any_moment(
    platform: Platform, views: FeatureRegistry, family: ModelFamily
) -> None:
    later = NOON + timedelta(hours=2)
    result = materialise(
        platform,
        definitions(views, [family]),
        selection=[dg.AssetKey(["online", "weather"])],
        run_config={"ops": {"online_store": {"config": {"as_of": later.isoformat()}}}},
    )

    assert result.success
    store = open_online_store(platform.settings)
    assert {name: state.as_of for name, state in store.state().items()} == {"weather": later}
    store.close()


def test_a_schedule_fills_the_group(views: FeatureRegistry, family: ModelFamily) -> None:
    assert not definitions(views, [family]).schedules
    defs = definitions(views, [family], schedule="*/10 * * * *")
    [schedule] = defs.schedules
    assert schedule.cron_schedule == "*/10 * * * *"
    job = defs.resolve_job_def("fill_online_store")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {
        "online/weather",
        "online/marts__flights",
    }


def check(platform: Platform, defs: dg.Definitions) -> dg.AssetCheckEvaluation:
    result = dg.materialize(
        [*defs.assets, *defs.asset_checks],
        resources={RESOURCE_KEY: platform},
        selection=dg.AssetSelection.all_asset_checks(),
    )
    [evaluation] = result.get_asset_check_evaluations()
    return evaluation


def log_predictions(platform: Platform, *values: float) -> None:
    now = datetime.now(UTC)
    count = len(values)
    versions = pa.map_(pa.string(), pa.int64())
    platform.lake.append(
        LOG,
        pa.table(
            {
                "prediction_id": [f"r-{row}" for row in range(count)],
                "answered_at": pa.array([now] * count, INSTANT),
                "as_of": pa.array([NOON] * count, INSTANT),
                "version": pa.array([1] * count, pa.int64()),
                "source": ["online"] * count,
                "feature_versions": pa.array([[("weather", 0)]] * count, versions),
                "flight_id": ["F1"] * count,
                "weather_x": pa.array(values, pa.float32()),
            }
        ),
    )


def test_before_anything_was_served_there_is_no_skew(
    platform: Platform, views: FeatureRegistry, family: ModelFamily
) -> None:
    found = check(platform, definitions(views, [family]))
    assert found.passed
    assert found.asset_key.path == ["inference", "late"]
    assert found.description == "there is no inference/late yet"


def test_what_was_served_rightly_passes(
    platform: Platform, views: FeatureRegistry, family: ModelFamily
) -> None:
    log_predictions(platform, 0.1, 0.1)
    found = check(platform, definitions(views, [family]))
    assert found.passed
    assert found.metadata["predictions"].value == 2


def test_one_wrong_value_fails_and_is_shown(
    platform: Platform, views: FeatureRegistry, family: ModelFamily
) -> None:
    log_predictions(platform, 0.1, 0.25)
    found = check(platform, definitions(views, [family]))

    assert not found.passed
    assert found.description == (
        "1 of 1 features differed; most often weather_x, in 1 of 2 predictions"
    )
    [row] = found.metadata["differences"].records
    assert (row.data["prediction"], row.data["online"]) == ("r-1", "0.25")
    assert row.data["offline"].startswith("0.1")
