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


FLOAT = {"kind": "float", "low": 0.1, "high": 2}
LOW_ABOVE_HIGH = {**FLOAT, "low": 3}
LOG_OF_ZERO = {**FLOAT, "low": 0, "log": True}
STEP_AND_LOG = {"kind": "int", "low": 1, "high": 9, "step": 2, "log": True}
ENSEMBLE_OF_ONE = [{"algorithm": "linear"}, {"algorithm": "ensemble"}]
TWO = [{"algorithm": "linear"}, {"algorithm": "catboost"}]
ENSEMBLE_OF_STRANGERS = [
    *TWO,
    {"algorithm": "ensemble", "parameters": {"members": ["linaer", "catboost"]}},
]
ENSEMBLE_SEARCHED = [*TWO, {"algorithm": "ensemble", "search": {"space": {"steps": FLOAT}}}]


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
        ("ownrs", ["me"], r"ownrs: unknown key; did you mean 'owners'"),
        ("spine.entty", ["x"], r"spine.entty: unknown key; did you mean 'entity'"),
        ("label.table", "outcomes", r"label.table.*outcomes"),
        ("features.0.columns", [], r"names no column"),
        ("features.0.view", "no view", r"features\[0\].view|features.0.view"),
        (
            "split.validation_end",
            "2013-02-01",
            r"validation_end: 2013-02-01 must be after train_end",
        ),
        ("split.train_end", "soon", r"split.train_end.*'soon'"),
        ("candidates.0.algorithm", "catbost", r"did you mean 'catboost'"),
        ("candidates", [{"algorithm": "linear"}] * 2, r"two candidates are named 'linear'"),
        ("primary_metric", "accuracy", r"'accuracy' does not fit task 'binary'. Allowed: roc_auc"),
        ("task", "regresion", r"task.*did you mean 'regression'|task.*'regression'"),
        ("quantiles", [0.1, 0.5, 0.9], r"quantiles: belong to task 'regression', not to 'binary'"),
        (
            "gate",
            {"slices": {"columns": ["carrier"]}},
            r"slices.columns\[0\]: 'carrier' is no slice of",
        ),
        ("candidates.0.search", {"space": {}}, r"search.space"),
        (
            "candidates.0.search",
            {"space": {"C": LOW_ABOVE_HIGH}},
            r"^  candidates\[0\].search.space.C.low: 3.0 must be less",
        ),
        ("candidates.0.search", {"space": {"C": LOG_OF_ZERO}}, r"C.log: needs low above 0"),
        ("candidates.0.search", {"space": {"C": {"kind": "flot"}}}, r"kind.*did you mean 'float'"),
        ("candidates.0.search", {"space": {"d": STEP_AND_LOG}}, r"step: 2 and log exclude"),
        ("candidates", ENSEMBLE_OF_ONE, r"'ensemble' needs at least two members"),
        ("candidates", ENSEMBLE_OF_STRANGERS, r"member 'linaer' is no other candidate; did you m"),
        ("candidates", ENSEMBLE_SEARCHED, r"search: .*finds its weights by itself"),
        ("owners", [], r"owners"),
        ("threshold", {"rule": "fixed"}, r"'fixed' needs a value"),
        ("gate", {"minimum_gain": -1}, r"gate.minimum_gain: -1.*at least 0"),
        ("spine.keep", ["label"], r"spine.keep\[0\]: 'label' is a name that the training set uses"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, message: str):
    with pytest.raises(FamilyError, match=r"defs\.yaml:12") as raised:
        declare_family(with_(path, value), "defs.yaml:12")
    assert re.search(message, str(raised.value), re.MULTILINE), str(raised.value)


def test_every_required_key_is_asked_for():
    for key in ("description", "owners", "assumptions", "limitations", "spine", "split"):
        with pytest.raises(FamilyError, match=rf"{key}: is missing, and required"):
            declare_family({k: v for k, v in SHORTEST.items() if k != key})


def test_an_import_path_is_an_algorithm_and_names_its_candidate():
    family = declare_family(with_("candidates.0.algorithm", "my.models:Forest"))
    assert family.candidates[0].name == "Forest"


def test_an_ensemble_combines_all_others_or_those_it_names():
    all_of_them = declare_family(with_("candidates", [*TWO, {"algorithm": "ensemble"}]))
    assert all_of_them.members(all_of_them.candidates[-1]) == ("linear", "catboost")


def test_what_follows_from_the_task_is_filled_in():
    assert declare_family(SHORTEST).primary_metric == "roc_auc"
    regression = declare_family({**SHORTEST, "task": "regression"})
    assert (regression.primary_metric, regression.quantiles) == ("pinball_loss", (0.1, 0.5, 0.9))
    assert declare_family({**SHORTEST, "task": "multiclass"}).primary_metric == "log_loss"


@pytest.mark.parametrize(
    "quantiles", [[0.1, 0.9], [0.9, 0.5, 0.1], [0.0, 0.5, 0.9], [0.1, 0.1, 0.9]]
)
def test_quantiles_rise_around_a_middle_one(quantiles: list[float]):
    with pytest.raises(FamilyError, match="odd number of rising values between 0 and 1"):
        declare_family({**SHORTEST, "task": "regression", "quantiles": quantiles})
