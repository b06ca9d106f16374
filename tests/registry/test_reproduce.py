"""A model can be made again from what was recorded, and a difference is traced to its place."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlops_assets.features import FeatureRegistry
from mlops_assets.lake import Lake, TableName, TableVersion
from mlops_assets.registry import ModelVersion, Provenance, Registry, RegistryError
from mlops_assets.registry.recipe import Recipe
from mlops_assets.registry.reproduce import Change, Reproduction, changes_since, reproduce
from mlops_assets.training import ModelFamily
from mlops_assets.training.training_set import TrainingSet
from tests.registry.conftest import PROVENANCE, make_version

DELAYS = TableName("features", "delays")
Change_ = Callable[..., None]


@pytest.fixture
def version(registry: Registry, family: ModelFamily, training_set: TrainingSet) -> ModelVersion:
    return make_version(registry, family, training_set, "catboost")


@pytest.fixture
def recorded_as(
    registry: Registry, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> Change_:
    """Let the version's recipe say something else than it does."""
    recipe = Recipe.of_run(registry.client, version.run_id)

    def change(**changes: object) -> None:
        changed = replace(recipe, **changes)
        monkeypatch.setattr(Recipe, "of_run", classmethod(lambda *_: changed))

    return change


def again(
    registry: Registry, version: ModelVersion, views: FeatureRegistry, **options: bool
) -> Reproduction:
    return reproduce(registry, str(version), views, PROVENANCE, **options)


@pytest.mark.parametrize("name", ["linear", "catboost"])
def test_linear_and_catboost_come_out_the_same_to_the_last_bit(
    name: str,
    registry: Registry,
    family: ModelFamily,
    training_set: TrainingSet,
    views: FeatureRegistry,
):
    made = make_version(registry, family, training_set, name)
    said: list[str] = []
    found = reproduce(registry, str(made), views, PROVENANCE, say=said.append)
    assert found.reproduced
    assert found.data.same
    assert found.data.rows == training_set.audit.rows
    assert found.answers.tolerance == 0
    assert found.answers.different == 0
    assert found.answers.now == found.answers.then
    assert found.changes == ()
    assert [line.split()[0] for line in said] == ["building", "training", "comparing"]
    assert registry.versions("late_flights")[0].version == 1  # nothing was registered


def test_what_changed_in_the_lake_since_changes_nothing(
    registry: Registry, version: ModelVersion, views: FeatureRegistry, lake: Lake
):
    with lake.connect() as con:
        moved = con.sql("SELECT * REPLACE (recent_delay + 1 AS recent_delay) FROM features.delays")
        lake.overwrite(DELAYS, moved.to_arrow_table())
    lake.overwrite(version.training_set.table, lake.read(version.training_set.table, 0).read_all())
    assert again(registry, version, views).reproduced


def test_inputs_that_give_another_training_set_are_traced_to_column_row_and_value(
    registry: Registry,
    version: ModelVersion,
    views: FeatureRegistry,
    lake: Lake,
    recorded_as: Change_,
):
    with lake.connect() as con:
        moved = con.sql(
            "SELECT * REPLACE (CASE WHEN flight_id IN (3, 7) THEN 99 ELSE wind END AS wind) "
            "FROM features.delays"
        )
        commit = lake.overwrite(DELAYS, moved.to_arrow_table())
    others = [table for table in version.inputs if table.table != DELAYS]
    recorded_as(inputs=(*others, TableVersion(DELAYS, commit.version)))
    found = again(registry, version, views)
    assert not found.reproduced
    assert found.answers.same  # it learns from the recorded training set, which is what it was
    [column] = found.data.columns
    assert (column.column, column.rows) == ("wind", 2)
    assert column.examples[0].startswith("3: was ")
    assert column.examples[0].endswith(", is 99.0")
    assert "  wind differs in 2 rows" in found.data.lines(found.training_set)


def test_rows_and_columns_that_come_and_go_are_counted(
    registry: Registry,
    version: ModelVersion,
    views: FeatureRegistry,
    lake: Lake,
    training_set: TrainingSet,
    recorded_as: Change_,
):
    table = training_set.version.table
    with lake.connect() as con:
        other = con.sql(f"SELECT *, 1 AS rain FROM {table.sql} WHERE flight_id >= 5")
        lake.overwrite(
            table,
            other.to_arrow_table(),
            metadata=next(iter(lake.history(table))).metadata,  # it is said to be made the same way
            allow_schema_change=True,
        )
    recorded_as(training_set=TableVersion(table, lake.version(table)))
    found = again(registry, version, views)
    assert not found.reproduced
    assert (found.data.missing, found.data.added) == (0, 5)
    assert (found.data.gone, found.data.new) == (("rain",), ())
    assert not found.answers.same


def test_another_seed_gives_another_model_and_is_found_out(
    registry: Registry, version: ModelVersion, views: FeatureRegistry, recorded_as: Change_
):
    recorded_as(seed=6)
    found = again(registry, version, views, from_training_set=True)
    assert found.data is None
    assert not found.reproduced
    assert found.answers.different > 0
    assert found.answers.largest > 0
    assert "must be the same to the last bit" in found.answers.lines()[0]


def test_a_feature_view_that_is_no_more_is_named_and_the_model_still_made_again(
    registry: Registry, version: ModelVersion
):
    found = again(registry, version, FeatureRegistry(()))
    assert not found.reproduced
    assert "delays" in found.data.problem
    assert found.answers.same


def test_code_and_environment_are_compared_name_by_name(registry: Registry, version: ModelVersion):
    recipe = Recipe.of_run(registry.client, version.run_id)
    older = {**recipe.environment, "catboost": "1.0", "gone": "2.0"}
    now = Provenance("def456", "0" * 64, "1" * 64)
    assert changes_since(replace(recipe, environment=older), now) == (
        Change("git commit", "abc123", "def456"),
        Change("catboost", "1.0", recipe.environment["catboost"]),
        Change("gone", "2.0", "absent"),
    )


def test_a_recipe_holds_all_that_was_decided(registry: Registry, version: ModelVersion):
    recipe = Recipe.of_run(registry.client, version.run_id)
    assert recipe.candidate.parameters == {"iterations": 40, "depth": 3}
    assert (recipe.seed, recipe.threads) == (5, 1)
    assert recipe.training_set == version.training_set
    assert recipe.inputs == version.inputs
    assert recipe.family.name == "late_flights"
    assert recipe.provenance == PROVENANCE
    assert {"python", "catboost", "numpy"} <= set(recipe.environment)


@pytest.mark.parametrize("text", [None, "no JSON", '{"family": {"name": "x"}}'])
def test_a_recipe_that_cannot_be_read_is_an_error_with_the_next_step(
    text: str | None, registry: Registry, version: ModelVersion, views: FeatureRegistry
):
    from pathlib import Path
    from urllib.parse import urlparse

    run = registry.client.get_run(version.run_id)
    file = Path(urlparse(run.info.artifact_uri).path) / Recipe.FILE
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(RegistryError, match=r"recipe\.json"):
        again(registry, version, views)
