"""What a search ranges over: declared ranges as Optuna knows them, and a search's identity.

Here is also how a trial is made cheap: a seeded share of the training days.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.lake import TableVersion
from mlops_assets.training.dataset import Part
from mlops_assets.training.family import CandidateDeclaration, ModelFamily
from mlops_assets.training.family_search import Choices, IntRange, SearchDeclaration, SearchRange

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


def name_study(
    family: ModelFamily,
    declaration: CandidateDeclaration,
    training_set: TableVersion,
    *,
    seed: int,
) -> str:
    """Name the one study in which trials of this search may stand together.

    Two searches share a study, so that the later one goes on where the earlier one stopped, when
    everything that decides a trial's value is the same: the training set's version, the algorithm
    and its fixed parameters, the space, the metric, the share of days and the seed. How many trials
    there may be, how long they may take and how many run at once do not count.

    Parameters
    ----------
    family, declaration
        The candidate that is searched; it must declare a search.
    training_set
        What it learns from.
    seed
        The deployment's; the family's own wins.

    Returns
    -------
    str
        Such as `flight_delay.catboost.12.3f0c9a61d2b4`; letters, digits, `_`, `.` and `-` only.
    """
    search = declaration.search
    decisive = {
        "table": str(training_set.table),
        "task": family.task,
        "algorithm": declaration.algorithm,
        "parameters": declaration.parameters,
        "search": search and search.model_dump(mode="json", include=_DECISIVE),
        "seed": seed if family.seed is None else family.seed,
    }
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
    return f"{family.name}.{declaration.name}.{training_set.version}.{digest}"


_DECISIVE = {"space", "train_share", "metric"}


def distributions(search: SearchDeclaration) -> "dict[str, BaseDistribution]":
    """Return each declared range as Optuna's distribution, in the order declared."""
    return {name: _distribution(declared) for name, declared in search.space.items()}


def _distribution(declared: SearchRange) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(declared, Choices):
        return CategoricalDistribution(declared.choices)
    if isinstance(declared, IntRange):
        return IntDistribution(declared.low, declared.high, log=declared.log, step=declared.step)
    return FloatDistribution(declared.low, declared.high, log=declared.log)


def suggest(trial: "Trial", name: str, declared: SearchRange) -> Any:
    """Ask a trial for its value of one parameter."""
    if isinstance(declared, Choices):
        return trial.suggest_categorical(name, declared.choices)
    if isinstance(declared, IntRange):
        return trial.suggest_int(
            name, declared.low, declared.high, log=declared.log, step=declared.step
        )
    return trial.suggest_float(name, declared.low, declared.high, log=declared.log)


def inside(search: SearchDeclaration, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the parameters that the space holds, with values that lie in their range."""
    return {
        name: parameters[name]
        for name, declared in search.space.items()
        if name in parameters and _holds(declared, parameters[name])
    }


def _holds(declared: SearchRange, value: Any) -> bool:
    if isinstance(declared, Choices):
        # Python calls 1 and True the same; a space may hold both.
        return any(type(value) is type(choice) and value == choice for choice in declared.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if not declared.low <= value <= declared.high:
        return False
    if not isinstance(declared, IntRange):
        return True
    return value == int(value) and (int(value) - declared.low) % declared.step == 0


def share_of_days(part: Part, share: float, *, seed: int) -> Part:
    """Keep a seeded share of a part's calendar days, each with all its rows, in order.

    Days and not rows, because rows of one day are alike: half of every day's rows would be cheaper
    but nearly as informative as all of them, and so would flatter models that remember days.

    Parameters
    ----------
    part
        What to take them from.
    share
        Above 0, at most 1. At least one day is kept.
    seed
        Draws the days; the same seed keeps the same days.
    """
    if share >= 1:
        return part
    days = np.unique(part.days)
    count = max(1, round(share * len(days)))
    chosen = np.random.default_rng(seed).permutation(len(days))[:count]
    kept = np.isin(part.days, days[chosen])
    return replace(
        part,
        features=part.features.loc[kept].reset_index(drop=True),
        label=part.label[kept],
        days=part.days[kept],
        context=part.context.loc[kept].reset_index(drop=True),
    )
