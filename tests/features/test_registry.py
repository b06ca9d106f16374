import json
from dataclasses import replace
from datetime import timedelta

import pytest

from mlops_assets.features import (
    Feature,
    FeatureRegistry,
    FeatureViewError,
    PointInTimeJoinError,
    UnknownFeatureError,
)


@pytest.fixture
def registry(feature_view):
    weather = replace(
        feature_view("weather", ttl=timedelta(hours=6)),
        description="Hourly observations at an airport.",
        features=(
            Feature("wind_speed", "DOUBLE", "Speed of the wind in m/s."),
            Feature("wind_gust", "DOUBLE", "Strongest gust in m/s."),
            Feature("temperature", "DOUBLE", "Air temperature in degrees Celsius."),
        ),
    )
    aircraft = replace(
        feature_view("aircraft", entity=("tailnum",)),
        description="The plane and its previous legs.",
        features=(
            Feature("age_years", "INTEGER", "Years since it was built."),
            Feature("delay_24h", "DOUBLE", "Mean arrival delay of its legs; wind is not counted."),
        ),
    )
    return FeatureRegistry((weather, aircraft))


def found(registry, text, **options):
    return [hit.feature or hit.view for hit in registry.search(text, **options)]


def test_an_unknown_name_leads_to_the_nearest(registry):
    with pytest.raises(
        UnknownFeatureError, match="no feature view 'wether'; did you mean 'weather'"
    ):
        registry.view("wether")
    with pytest.raises(UnknownFeatureError, match="no feature view 'x'; valid: aircraft, weather"):
        registry.view("x")
    with pytest.raises(
        UnknownFeatureError,
        match=r"feature view weather \(models/features\.yml\) has no feature 'wind_sped'; "
        "did you mean 'wind_speed'",
    ):
        registry.select("weather", ["wind_sped"])
    with pytest.raises(
        UnknownFeatureError, match="no entity column 'tail'; did you mean 'tailnum'"
    ):
        registry.select("aircraft", entity={"tail_number": "tail"})


def test_an_empty_registry_says_there_is_none():
    with pytest.raises(UnknownFeatureError, match="no feature view 'weather'; there is none"):
        FeatureRegistry(()).view("weather")


def test_two_views_of_one_name_are_refused(registry):
    with pytest.raises(FeatureViewError, match="named twice: weather"):
        FeatureRegistry((*registry.views, registry.view("weather")))


def test_select_takes_all_features_unless_some_are_named(registry):
    assert registry.select("weather").features == ("wind_speed", "wind_gust", "temperature")
    selection = registry.select(
        "weather", ["wind_gust"], entity={"origin": "airport"}, prefix="origin_"
    )
    assert selection.keys == (("origin", "airport"),)
    assert selection.outputs == (
        ("origin_wind_gust", "wind_gust"),
        ("origin_weather__available_at", "available_at"),
    )


def test_a_selection_names_each_thing_once(registry):
    with pytest.raises(PointInTimeJoinError, match="feature 'wind_gust' is named twice"):
        registry.select("weather", ["wind_gust", "wind_gust"])
    with pytest.raises(PointInTimeJoinError, match="entity column 'airport' is named twice"):
        registry.select("weather", entity={"origin": "airport", "dest": "airport"})
    with pytest.raises(PointInTimeJoinError, match="no feature of view weather is selected"):
        registry.select("weather", [])


def test_search_ranks_names_before_descriptions(registry):
    assert found(registry, "wind") == ["wind_gust", "wind_speed", "delay_24h"]
    assert found(registry, "temperature") == ["temperature"]
    assert found(registry, "weather")[0] == "weather"


def test_search_wants_every_word(registry):
    assert found(registry, "wind speed") == ["wind_speed"]
    assert found(registry, "wind years") == []
    assert found(registry, "weather wind") == ["wind_gust", "wind_speed"]


def test_search_finds_parts_of_words_and_forgives_spelling(registry):
    assert found(registry, "temp") == ["temperature"]
    assert found(registry, "temperatrue") == ["temperature"]
    assert found(registry, "CELSIUS") == ["temperature"]
    assert found(registry, "zeppelin") == []


def test_search_without_words_finds_everything_up_to_the_limit(registry):
    assert len(found(registry, "")) == 7
    assert found(registry, "", limit=2) == ["aircraft", "weather"]


def test_to_dict_is_json_and_complete(registry):
    content = json.loads(json.dumps(registry.to_dict()))
    weather = content["feature_views"][0]
    assert weather["ttl"] == "PT6H"
    assert weather["table"] == "features/weather"
    assert weather["entity"] == ["airport"]
    assert weather["features"][1] == {
        "name": "wind_gust",
        "type": "DOUBLE",
        "description": "Strongest gust in m/s.",
    }
    assert content["feature_views"][1]["ttl"] is None
