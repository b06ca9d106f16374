"""What must hold of the project as a whole, read from dbt's manifest."""

from collections import Counter

from mlops_assets.features import FeatureRegistry

from .conftest import Sql


def test_every_model_and_column_is_described(sql: Sql) -> None:
    missing = [
        f"{model['name']}.{column['name']}" if column else model["name"]
        for model in sql.models
        for column in (None, *model["columns"].values())
        if not (column or model)["description"].strip()
    ]
    assert missing == []


def test_every_model_has_a_test_of_its_key(sql: Sql) -> None:
    tested = {
        node["attached_node"]
        for node in sql.manifest["nodes"].values()
        if node.get("test_metadata", {}).get("name") in {"key", "knowledge_ordered"}
    }
    assert [m["name"] for m in sql.models if m["unique_id"] not in tested] == []


def test_every_source_and_exposure_is_described(sql: Sql) -> None:
    for kind in ("sources", "exposures"):
        nodes = sql.manifest[kind].values()
        assert nodes
        assert [node["name"] for node in nodes if not node["description"].strip()] == []


def test_features_have_one_meaning_each(sql: Sql) -> None:
    """A training set holds features of many views side by side, under their own names."""
    views = FeatureRegistry.from_manifest(sql.manifest).views
    names = Counter(feature.name for view in views for feature in view.features)
    assert [name for name, times in names.items() if times > 1] == []
    assert len(names) >= 80


def test_an_exposure_names_every_feature_view(sql: Sql) -> None:
    models = {m["unique_id"] for m in sql.models if "feature_view" in m["config"]["meta"]}
    exposed = {
        upstream
        for node in sql.manifest["exposures"].values()
        for upstream in node["depends_on"]["nodes"]
    }
    assert models <= exposed
