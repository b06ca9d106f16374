"""What a family may name is known at load: columns of dbt models, features, installed modules."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_assets.declaration import key_path
from mlops_assets.lake import Lake
from mlops_assets.orchestration.model_family.checking import family_problems
from mlops_assets.orchestration.surroundings import Surroundings
from mlops_assets.settings import load_settings
from mlops_assets.training import declare_family

PROJECT = Path(__file__).parents[2]
DECLARED = PROJECT / "mlops_assets" / "defs" / "flights" / "delay" / "defs.yaml"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    lake = Lake.from_settings(load_settings(home=tmp_path_factory.mktemp("home")))
    return Surroundings.of(PROJECT, lake, {}, [])


def problems(family: dict[str, Any], around: Surroundings) -> list[str]:
    found = family_problems(declare_family(family), around)
    return [f"{key_path(problem.keys)}: {problem.text}" for problem in found]


def declared(*path: str | int, value: object) -> dict[str, Any]:
    """The flights family with one key changed."""
    family = copy.deepcopy(yaml.safe_load(DECLARED.read_text())["attributes"])
    at = family
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return family


def test_the_flights_family_is_right(around: Surroundings) -> None:
    assert problems(declared("seed", value=1), around) == []


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
        (
            ("spine", "keep"),
            ["carrier", "orign"],
            r"keep\[1\]: 'orign'.*did you mean 'origin'",
        ),
        (("split", "column"), "day", r"split.column: 'day' is no column of marts/spine_flights"),
        (("slices",), ["carier"], r"slices\[0\]: 'carier' is no column.*did you mean 'carrier'"),
        (
            ("gate", "baseline", "by"),
            ["operating_carier"],
            r"baseline.by\[0\]: 'operating_carier' is no feature; did you mean 'operating_carrier'",
        ),
        (
            ("candidates", 0, "algorithm"),
            "sklern.linear_model:Ridge",
            r"'sklern.linear_model:Ridge' does not exist: no module 'sklern'",
        ),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest_that_does(
    around: Surroundings,
    path: tuple[str | int, ...],
    value: object,
    said: str,
) -> None:
    changed = declared(*path, value=value)
    if path == ("spine", "keep"):
        changed["slices"], changed["gate"]["slices"] = ["month"], None
    if path == ("slices",):
        changed["gate"]["slices"] = None
    found = problems(changed, around)
    assert any(re.search(said, problem) for problem in found), found


def test_an_unknown_feature_view_is_named(around: Surroundings) -> None:
    found = problems(declared("features", 0, "view", value="fv_shedule"), around)
    assert (
        "features[0].view: 'fv_shedule' is no feature view; did you mean 'fv_schedule'" in found[0]
    )
