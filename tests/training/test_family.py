"""A declaration is read strictly, and its errors name the key, the value and what is allowed."""

import re

import pytest

from mlops_assets.training import FamilyError, declare_family

SHORTEST = {
    "name": "late",
    "description": "Will it be late?",
    "owners": ["me"],
    "assumptions": ["a"],
    "limitations": ["b"],
    "spine": {"table": "features/spine", "entity": ["flight_id"]},
    "label": {"table": "marts/outcomes", "column": "late", "available_at": "known_at"},
    "features": [{"view": "delays"}],
    "split": {
        "train_end": "2013-03-01",
        "validation_end": "2013-03-20",
        "test_end": "2013-05-01",
    },
    "candidates": [{"algorithm": "linear"}],
}


def with_(path: str, value: object) -> dict[str, object]:
    """Change one key, given by its path."""
    import copy

    made = copy.deepcopy(SHORTEST)
    *parents, last = path.split(".")
    at: object = made
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]  # type: ignore[index]
    at[last] = value  # type: ignore[index]
    return made


def test_the_shortest_useful_family_needs_no_more_than_thirty_lines_of_yaml():
    import yaml

    assert len(yaml.safe_dump(SHORTEST).splitlines()) <= 30
    family = declare_family(SHORTEST)
    assert str(family.training_set) == "training/late"
    assert family.candidates[0].name == "linear"
    assert family.label_keys == {"flight_id": "flight_id"}
    assert family.split_column == "prediction_time"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ownrs", ["me"], r"unknown key 'ownrs'; did you mean 'owners'"),
        ("spine.entty", ["x"], r"spine: unknown key 'entty'; did you mean 'entity'"),
        ("label.table", "outcomes", r"label.table.*outcomes"),
        ("features.0.columns", [], r"names no column"),
        ("features.0.view", "no view", r"features.0.view"),
        (
            "split.validation_end",
            "2013-02-01",
            r"validation_end 2013-02-01 must be after train_end",
        ),
        ("split.train_end", "soon", r"split.train_end.*got 'soon'"),
        ("candidates.0.algorithm", "catbost", r"did you mean 'catboost'"),
        ("candidates", [{"algorithm": "linear"}] * 2, r"two candidates are named 'linear'"),
        ("primary_metric", "accuracy", r"'accuracy' does not fit task 'binary'; allowed: roc_auc"),
        ("task", "regression", r"'regression' cannot be trained by this version"),
        ("owners", [], r"owners"),
        ("threshold", {"rule": "fixed"}, r"'fixed' needs a value"),
        ("gate", {"minimum_gain": -1}, r"gate.minimum_gain.*greater than or equal to 0"),
        ("spine.keep", ["label"], r"\['label'\] have names the training set uses itself"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, message: str):
    with pytest.raises(FamilyError, match=r"defs\.yaml:12") as raised:
        declare_family(with_(path, value), "defs.yaml:12")
    assert re.search(message, str(raised.value)), str(raised.value)


def test_every_required_key_is_asked_for():
    for key in ("description", "owners", "assumptions", "limitations", "spine", "split"):
        with pytest.raises(FamilyError, match=rf"{key}: Field required"):
            declare_family({k: v for k, v in SHORTEST.items() if k != key})


def test_an_import_path_is_an_algorithm_and_names_its_candidate():
    family = declare_family(with_("candidates.0.algorithm", "my.models:Forest"))
    assert family.candidates[0].name == "Forest"
