"""What can be said about a declared candidate before it is trained: its algorithm, its parameters.

No learning library is imported for it: which parameters CatBoost has is written down, those of the
platform's own estimators are plain data, and a class at an import path is read from its source.
Where the source does not tell (`mlops_assets.training.class_source`), training will.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from mlops_assets.declaration import Key, Problem, find_problems, judge, unknown_name
from mlops_assets.training.class_source import ClassNotFoundError, class_source
from mlops_assets.training.estimators import METHODS, SKLEARN_METHODS
from mlops_assets.training.family import ALGORITHMS, CandidateDeclaration


@dataclass(frozen=True)
class _Parameters:
    """What an algorithm can be told.

    Attributes
    ----------
    names
        Those it takes; None: any, or it is not known.
    reserved
        Those it has but that nobody may declare, each with the reason.
    """

    names: Collection[str] | None
    reserved: Mapping[str, str]


def candidate_problems(candidate: CandidateDeclaration) -> Iterator[Problem]:
    """Say what is wrong with a candidate's algorithm and parameters.

    Parameters
    ----------
    candidate
        The declaration, or its readable part.

    Yields
    ------
    Problem
        With keys from the candidate on.
    """
    if candidate.algorithm not in ALGORITHMS:
        missing = list(_import_problems(candidate.algorithm))
        yield from missing
        if missing:
            return
    yield from judge(
        _fixed_problems(candidate), _searched_problems(candidate), _net_problems(candidate)
    )


def _import_problems(algorithm: str) -> Iterator[Problem]:
    try:
        source = class_source(algorithm)
    except ClassNotFoundError as error:
        yield Problem(
            ("algorithm",),
            f"{algorithm!r} does not exist: {str(error).removesuffix('?')}"
            f"{'?' if str(error).endswith('?') else '.'} Allowed: {', '.join(ALGORITHMS)}, or the "
            "import path 'package.module:Class' of a scikit-learn compatible class.",
        )
        return
    if source is None or not source.is_whole:
        return
    if not any(source.methods.issuperset(needed) for needed in (METHODS, SKLEARN_METHODS)):
        lacking = [name for name in SKLEARN_METHODS if name not in source.methods]
        yield Problem(
            ("algorithm",),
            f"{algorithm!r} is no estimator: it has no method {', '.join(lacking)}. Allowed: "
            f"{', '.join(ALGORITHMS)}, or a class with scikit-learn's "
            f"{', '.join(SKLEARN_METHODS)}.",
        )


def _fixed_problems(candidate: CandidateDeclaration) -> Iterator[Problem]:
    yield from _name_problems(candidate.algorithm, candidate.parameters, ("parameters",))


def _searched_problems(candidate: CandidateDeclaration) -> Iterator[Problem]:
    if candidate.search is not None:
        yield from _name_problems(candidate.algorithm, candidate.search.space, ("search", "space"))


def _name_problems(
    algorithm: str, names: Collection[str], where: tuple[Key, ...]
) -> Iterator[Problem]:
    takes = _parameters(algorithm)
    for name in names:
        if name in takes.reserved:
            yield Problem((*where, name), takes.reserved[name])
        elif takes.names is not None and name not in takes.names:
            allowed = sorted(set(takes.names) - takes.reserved.keys())
            said = unknown_name(name, f"parameter of {algorithm}", allowed)
            yield Problem((*where, name), said)


def _parameters(algorithm: str) -> _Parameters:
    match algorithm:
        case "linear":
            from mlops_assets.training.estimators import linear

            return _Parameters(linear.DEFAULTS, {})
        case "net":
            from mlops_assets.training.estimators import net

            return _Parameters(net.DEFAULTS, {})
        case "ensemble":
            from mlops_assets.training.estimators import ensemble

            return _Parameters(ensemble.DEFAULTS, {})
        case "catboost":
            from mlops_assets.training.estimators import catboost
            from mlops_assets.training.estimators.catboost_parameters import PARAMETERS

            renamed = dict.fromkeys(catboost.OTHER_NAMES, "is named iterations here.")
            return _Parameters(PARAMETERS, _set_here(catboost.DECIDED_HERE) | renamed)
    from mlops_assets.training.estimators import sklearn_model

    source = class_source(algorithm)
    if source is None or source.parameters is None or not {*SKLEARN_METHODS} <= source.methods:
        return _Parameters(None, {})
    return _Parameters(
        {*source.parameters, *sklearn_model.DEFAULTS}, _set_here(sklearn_model.DECIDED_HERE)
    )


def _set_here(names: Collection[str]) -> dict[str, str]:
    return dict.fromkeys(names, "is set by the platform; remove it.")


def _net_problems(candidate: CandidateDeclaration) -> Iterator[Problem]:
    """Judge the values too, where the parameters are a declaration of their own."""
    if candidate.algorithm != "net":
        return
    from mlops_assets.training.estimators.net.parameters import NetParameters

    fields = NetParameters.model_fields
    known = {name: value for name, value in candidate.parameters.items() if name in fields}
    for problem in find_problems(NetParameters, known):
        yield Problem(("parameters", *problem.keys), problem.text)
