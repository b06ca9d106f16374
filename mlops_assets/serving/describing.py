"""What the server says about its models: versions, features, answers, in plain values."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mlops_assets.serving.families import Family, Lane
from mlops_assets.training.input_contract import InputField
from mlops_assets.training.tasks import Binary, Multiclass


def described_families(families: Mapping[str, Family]) -> dict[str, Any]:
    """Return the list of families."""
    return {
        "models": [
            {
                "name": name,
                "description": family.declaration.description,
                "task": family.declaration.task,
                "champion": _version(family.champion),
                "challenger": None if family.challenger is None else _version(family.challenger),
            }
            for name, family in sorted(families.items())
        ]
    }


def described_family(family: Family) -> dict[str, Any]:
    """Return everything a caller needs to know of one family."""
    declared, model = family.declaration, family.champion.model
    return {
        "name": declared.name,
        "description": declared.description,
        "owners": list(declared.owners),
        "assumptions": list(declared.assumptions),
        "limitations": list(declared.limitations),
        "task": declared.task,
        "entity": list(declared.spine.entity),
        "entity_types": {
            name: str(family.spine.field(name).type) for name in declared.spine.entity
        },
        "spine": declared.spine.model_dump(
            mode="json", include={"table", "prediction_time", "filter"}
        ),
        "answers": _answers(family),
        "serving": declared.serving.model_dump(mode="json"),
        "champion": _version(family.champion),
        "challenger": None if family.challenger is None else _version(family.challenger),
        "features": [_field(field) for field in model.contract.fields],
        "example": model.contract.example,
    }


def _version(lane: Lane) -> dict[str, Any]:
    about = msgspec.to_builtins(lane.deployed)
    del about["folder"]
    return {"name": str(lane.model), **about, "seconds_a_row": lane.model.cost.of(1)}


def _field(field: InputField) -> dict[str, Any]:
    """Describe a feature; text features are shown with their most frequent values only."""
    return {
        "name": field.name,
        "kind": str(field.kind),
        "nullable": field.nullable,
        "low": field.low,
        "high": field.high,
        "categories": list(field.categories[:200]),
        "description": field.description,
        "example": field.example,
    }


def _answers(family: Family) -> dict[str, str]:
    """Say what each value of an answer means."""
    task = family.champion.model.estimator.task
    if isinstance(task, Binary):
        threshold = family.champion.model.threshold
        meaning = {"probability": "probability that the answer is yes"}
        if threshold is not None:
            meaning["yes"] = f"whether the probability is at least {threshold:.4g}"
        return meaning
    if isinstance(task, Multiclass):
        return {
            "class": "the most probable class",
            "probabilities": f"the probability of each of {', '.join(task.classes)}",
        }
    return {
        "value": "the middle quantile",
        "quantiles": f"the quantiles {', '.join(task.outputs)}; the outer two are the interval",
    }
