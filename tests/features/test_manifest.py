"""Feature views are read from the dbt manifest, and what is wrong there is named exactly."""

import copy
import json
from datetime import timedelta

import pytest

from mlops_assets.features import FeatureRegistry, FeatureViewError
from mlops_assets.lake import TableName


@pytest.fixture
def manifest():
    return {
        "nodes": {
            "model.shop.weather": {
                "resource_type": "model",
                "name": "weather",
                "schema": "features",
                "description": "Hourly weather at an airport.",
                "patch_path": "shop://models/features/weather.yml",
                "original_file_path": "models/features/weather.sql",
                "config": {
                    "window_column": "day",
                    "meta": {
                        "feature_view": {
                            "entity": ["airport"],
                            "event_time": "observed_at",
                            "available_at": "available_at",
                            "ttl": "PT6H",
                            "owner": "team-data",
                        }
                    },
                },
                "columns": {
                    name: {"name": name, "data_type": kind, "description": f"The {name}."}
                    for name, kind in {
                        "airport": "VARCHAR",
                        "day": "DATE",
                        "observed_at": "TIMESTAMPTZ",
                        "available_at": "TIMESTAMPTZ",
                        "temperature": "DOUBLE",
                        "sky": "VARCHAR",
                    }.items()
                },
            },
            "model.shop.plain": {"resource_type": "model", "name": "plain", "config": {"meta": {}}},
            "test.shop.unique": {"resource_type": "test", "name": "unique"},
        }
    }


@pytest.fixture
def weather(manifest):
    return manifest["nodes"]["model.shop.weather"]


@pytest.fixture
def declared(weather):
    return weather["config"]["meta"]["feature_view"]


def test_a_declared_model_becomes_a_feature_view(manifest):
    (view,) = FeatureRegistry.from_manifest(manifest).views
    assert view.name == "weather"
    assert view.table == TableName("features", "weather")
    assert view.entity == ("airport",)
    assert (view.event_time, view.available_at) == ("observed_at", "available_at")
    assert view.ttl == timedelta(hours=6)
    assert view.owner == "team-data"
    assert view.description == "Hourly weather at an airport."
    assert view.source == "models/features/weather.yml"
    assert [(f.name, f.type, f.description) for f in view.features] == [
        ("temperature", "DOUBLE", "The temperature."),
        ("sky", "VARCHAR", "The sky."),
    ]


def test_ttl_null_means_no_limit(manifest, declared):
    declared["ttl"] = None
    assert FeatureRegistry.from_manifest(manifest).view("weather").ttl is None


def test_one_column_may_be_both_times(manifest, declared, weather):
    declared["event_time"] = "available_at"
    del weather["columns"]["observed_at"]
    view = FeatureRegistry.from_manifest(manifest).view("weather")
    assert view.feature_names == ("temperature", "sky")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"avalable_at": "x"},
            "feature_view.avalable_at is not a known key; did you mean 'available_at'?",
        ),
        ({"colour": 1}, "feature_view.colour is not a known key; valid: available_at, entity,"),
        ({"entity": None}, "feature_view.entity is missing."),
        ({"event_time": None}, "feature_view.event_time is missing."),
        ({"available_at": None}, "feature_view.available_at is missing."),
        ({"owner": None}, "feature_view.owner is missing."),
        ({"ttl": None}, "feature_view.ttl is missing. Write null if its values never grow too old"),
        (
            {"available_at": "availabel_at"},
            "= 'availabel_at' is not among the model's columns; did you mean 'available_at'?",
        ),
        (
            {"event_time": 7},
            "feature_view.event_time = 7 is not among the model's columns; valid: airport,",
        ),
        (
            {"entity": ["airprot"]},
            "= 'airprot' is not among the model's columns; did you mean 'airport'?",
        ),
        ({"entity": "airport"}, "feature_view.entity = 'airport' is not a list of column names"),
        ({"entity": []}, "feature_view.entity = [] is not a list of column names"),
        ({"entity": ["airport", "airport"]}, "feature_view.entity names 'airport' twice"),
        (
            {"entity": ["airport", "observed_at"]},
            "feature_view.entity = 'observed_at' is also its time",
        ),
        ({"ttl": "6 hours"}, "feature_view.ttl = '6 hours' is not an ISO-8601 duration"),
        ({"ttl": "P1M"}, "feature_view.ttl = 'P1M' months and years vary in length"),
        ({"ttl": 6}, "feature_view.ttl = 6 is not text"),
        ({"owner": " "}, "feature_view.owner = ' ' is not a name"),
        ({"owner": ["me"]}, "feature_view.owner = ['me'] is not a name"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_model_and_file(manifest, declared, change, message):
    for key, value in change.items():
        if value is None:
            del declared[key]
        else:
            declared[key] = value
    with pytest.raises(FeatureViewError) as caught:
        FeatureRegistry.from_manifest(manifest)
    text = str(caught.value)
    assert text.startswith("model weather (models/features/weather.yml): feature_view.")
    assert message in text
    assert next(iter(change)) in text


@pytest.mark.parametrize("key", ["data_type", "description"])
@pytest.mark.parametrize("value", ["", None])
def test_a_feature_without_type_or_description_is_refused(manifest, weather, key, value):
    weather["columns"]["sky"][key] = value
    with pytest.raises(FeatureViewError, match=rf"weather\.yml\): columns\.sky\.{key} is missing"):
        FeatureRegistry.from_manifest(manifest)


def test_a_view_without_description_is_refused(manifest, weather):
    weather["description"] = ""
    with pytest.raises(FeatureViewError, match=r"weather\.yml\): description is missing"):
        FeatureRegistry.from_manifest(manifest)


def test_a_view_without_features_is_refused(manifest, weather):
    del weather["columns"]["sky"], weather["columns"]["temperature"]
    with pytest.raises(FeatureViewError, match="has no feature"):
        FeatureRegistry.from_manifest(manifest)


def test_a_view_that_no_lake_table_can_hold_is_refused(manifest, weather):
    weather["schema"] = "main"
    with pytest.raises(FeatureViewError, match=r"weather\.yml\): cannot be a table of the lake"):
        FeatureRegistry.from_manifest(manifest)


def test_a_misspelt_declaration_is_not_taken_for_a_plain_model(manifest, weather):
    weather["config"]["meta"] = {"feature_veiw": weather["config"]["meta"]["feature_view"]}
    with pytest.raises(FeatureViewError, match="feature_veiw is not a known key; did you mean"):
        FeatureRegistry.from_manifest(manifest)


def test_a_declaration_that_is_no_mapping_is_refused(manifest, weather):
    weather["config"]["meta"]["feature_view"] = True
    with pytest.raises(FeatureViewError, match="feature_view = True is not a mapping of entity,"):
        FeatureRegistry.from_manifest(manifest)


def test_two_views_with_one_name_are_refused_with_both_files(manifest, weather):
    other = copy.deepcopy(weather) | {"patch_path": "other://models/sky.yml"}
    manifest["nodes"]["model.other.weather"] = other
    with pytest.raises(
        FeatureViewError,
        match=r"declared twice, in models/features/weather\.yml and in models/sky\.yml",
    ):
        FeatureRegistry.from_manifest(manifest)


def test_every_problem_of_every_view_is_told_at_once(manifest, weather, declared):
    other = copy.deepcopy(weather) | {"name": "sun", "patch_path": "shop://models/sun.yml"}
    other["description"] = ""
    manifest["nodes"]["model.shop.sun"] = other
    del declared["ttl"]
    declared["owner"] = ""
    with pytest.raises(FeatureViewError) as caught:
        FeatureRegistry.from_manifest(manifest)
    assert len(str(caught.value).splitlines()) == 3


@pytest.fixture
def order_test(manifest, weather, declared):
    weather["unique_id"] = "model.shop.weather"
    node = {
        "resource_type": "test",
        "attached_node": "model.shop.weather",
        "test_metadata": {
            "name": "knowledge_ordered",
            "kwargs": {key: declared[key] for key in ("entity", "event_time", "available_at")},
        },
        "config": {"severity": "ERROR", "where": None, "limit": None, "error_if": "!= 0"},
    }
    manifest["nodes"]["test.shop.knowledge_ordered"] = node
    return node


def test_an_order_test_is_relied_on(manifest, order_test):
    assert FeatureRegistry.from_manifest(manifest).view("weather").knowledge_ordered


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("config", {"severity": "warn"}),
        ("config", {"where": "day > '2013-01-01'"}),
        ("config", {"limit": 0}),
        ("config", {"error_if": "> 100"}),
        ("test_metadata", {"name": "unique"}),
        ("test_metadata", {"kwargs": {"entity": ["sky"]}}),
    ],
)
def test_an_order_test_that_could_pass_wrongly_is_not_relied_on(manifest, order_test, part, change):
    order_test[part] |= change
    assert not FeatureRegistry.from_manifest(manifest).view("weather").knowledge_ordered


def test_an_order_test_of_another_model_is_not_relied_on(manifest, order_test):
    order_test["attached_node"] = "model.shop.plain"
    assert not FeatureRegistry.from_manifest(manifest).view("weather").knowledge_ordered


def test_a_file_that_is_no_manifest_says_so(tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(FeatureViewError, match=r"no dbt manifest at .*dbt parse"):
        FeatureRegistry.from_manifest(path)
    path.write_text('{"nodes": ')
    with pytest.raises(FeatureViewError, match=r"manifest\.json is not JSON"):
        FeatureRegistry.from_manifest(path)
    path.write_text("[]")
    with pytest.raises(FeatureViewError, match=r"manifest\.json has no nodes"):
        FeatureRegistry.from_manifest(path)


def test_a_project_parsed_by_dbt_itself(tmp_path):
    """What dbt writes is what is read: keys, paths and schema come from a real parse."""
    from dbt.cli.main import dbtRunner

    models = tmp_path / "models" / "features"
    models.mkdir(parents=True)
    (tmp_path / "dbt_project.yml").write_text(
        json.dumps({"name": "shop", "version": "1.0", "profile": "shop", "config-version": 2})
    )
    (tmp_path / "profiles.yml").write_text(
        json.dumps(
            {
                "shop": {
                    "target": "dev",
                    "outputs": {
                        "dev": {"type": "duckdb", "path": ":memory:", "schema": "features"}
                    },
                }
            }
        )
    )
    (models / "weather.sql").write_text(
        "select 'JFK' as airport, now() as observed_at, now() as available_at, 1.0 as temperature"
    )
    (models / "weather.yml").write_text(
        """
models:
  - name: weather
    description: Hourly weather at an airport.
    config:
      meta:
        feature_view:
          entity: [airport]
          event_time: observed_at
          available_at: available_at
          ttl: PT6H
          owner: team-data
    data_tests:
      - knowledge_ordered:
          arguments: {entity: [airport], event_time: observed_at, available_at: available_at}
    columns:
      - {name: airport, data_type: varchar, description: Airport code.}
      - {name: observed_at, data_type: timestamptz, description: Hour of the observation.}
      - {name: available_at, data_type: timestamptz, description: When it was published.}
      - {name: temperature, data_type: double, description: Degrees Celsius.}
"""
    )
    macros = tmp_path / "macros"
    macros.mkdir()
    (macros / "knowledge_ordered.sql").write_text(
        "{% test knowledge_ordered(model, entity, event_time, available_at) %}"
        "select 1 from {{ model }} where false{% endtest %}"
    )
    outcome = dbtRunner().invoke(
        [
            *("--quiet", "--no-send-anonymous-usage-stats", "--log-level-file", "none"),
            *("--log-path", str(tmp_path)),
            *("parse", "--project-dir", str(tmp_path), "--profiles-dir", str(tmp_path)),
        ]
    )
    assert outcome.success, outcome.exception
    view = FeatureRegistry.from_manifest(tmp_path / "target" / "manifest.json").view("weather")
    assert view.source == "models/features/weather.yml"
    assert view.table == TableName("features", "weather")
    assert view.ttl == timedelta(hours=6)
    assert view.knowledge_ordered
    assert [(f.name, f.type, f.description) for f in view.features] == [
        ("temperature", "double", "Degrees Celsius.")
    ]
