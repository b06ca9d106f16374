"""What a family may name is known at load: columns of dbt models, features, installed modules."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_assets.features import FeatureRegistry, UnknownFeatureError
from mlops_assets.orchestration.model_family.checking import check_family
from mlops_assets.training import FamilyError, declare_family
from mlops_assets.transform.project import DbtProject, project_at

PROJECT = Path(__file__).parents[2]
DECLARED = PROJECT / "mlops_assets" / "defs" / "flights" / "delay" / "defs.yaml"


@pytest.fixture(scope="module")
def project() -> DbtProject:
    return project_at(PROJECT / "dbt_project")


@pytest.fixture(scope="module")
def views(project: DbtProject) -> FeatureRegistry:
    return FeatureRegistry.from_manifest(project.manifest)


def declared(*path: str | int, value: object) -> dict[str, Any]:
    """The flights family with one key changed."""
    family = copy.deepcopy(yaml.safe_load(DECLARED.read_text())["attributes"])
    at = family
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return family


def test_the_flights_family_is_right(project: DbtProject, views: FeatureRegistry) -> None:
    check_family(declare_family(declared("seed", value=1)), project, views)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("label", "column"),
            "arrived_late",
            r"label.column: 'arrived_late' is no column of marts/fct_flights; did you mean",
        ),
        (("label", "available_at"), "known", r"label.available_at: 'known' is no column"),
        (("spine", "entity"), ["flightid"], r"'flightid' is no column.*did you mean 'flight_id'"),
        (("spine", "keep"), ["carrier", "orign"], r"spine.keep: 'orign'.*did you mean 'origin'"),
        (("split", "column"), "day", r"split.column: 'day' is no column of marts/spine_flights"),
        (("slices",), ["carier"], r"slices: 'carier' is no column.*did you mean 'carrier'"),
        (
            ("gate", "baseline", "by"),
            ["operating_carier"],
            r"gate.baseline.by: 'operating_carier' is no feature; did you mean 'operating_carrier'",
        ),
        (
            ("candidates", 0, "algorithm"),
            "sklern.linear_model:Ridge",
            r"'sklern.linear_model:Ridge' names a module that is not installed",
        ),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest_that_does(
    project: DbtProject,
    views: FeatureRegistry,
    path: tuple[str | int, ...],
    value: object,
    said: str,
) -> None:
    changed = declared(*path, value=value)
    if path == ("spine", "keep"):
        changed["slices"], changed["gate"]["slices"] = ["month"], None
    if path == ("slices",):
        changed["gate"]["slices"] = None
    with pytest.raises(FamilyError, match=said):
        check_family(declare_family(changed), project, views)


def test_an_unknown_feature_view_is_named(project: DbtProject, views: FeatureRegistry) -> None:
    changed = declared("features", 0, "view", value="fv_shedule")
    with pytest.raises(UnknownFeatureError, match="fv_schedule"):
        check_family(declare_family(changed), project, views)
