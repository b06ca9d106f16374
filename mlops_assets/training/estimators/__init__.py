"""Estimators: the algorithms that can compete in a family, behind one protocol.

Importing this package imports no learning library; each estimator imports its own when it is used.
"""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from mlops_assets.training.estimators.protocol import (
    Estimator,
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
    Progress,
)

__all__ = [
    "METHODS",
    "SKLEARN_METHODS",
    "Estimator",
    "EstimatorError",
    "Explanation",
    "FitOptions",
    "LearningCurve",
    "Manifest",
    "Progress",
    "estimator_class",
    "load_estimator",
]

_SHORT_NAMES = {
    "linear": "mlops_assets.training.estimators.linear:Linear",
    "catboost": "mlops_assets.training.estimators.catboost:CatBoost",
    "net": "mlops_assets.training.estimators.net:Net",
    "ensemble": "mlops_assets.training.estimators.ensemble:Ensemble",
    "baseline": "mlops_assets.training.estimators.baseline:Baseline",
}
METHODS = ("fit", "refit", "predict", "explain", "save", "load")
"""What a class needs to be an estimator of this platform."""

SKLEARN_METHODS = ("fit", "predict", "get_params")
"""What a class needs to be taken as a scikit-learn model."""


def estimator_class(algorithm: str) -> type[Estimator]:
    """Find an estimator by its short name or an import path.

    Parameters
    ----------
    algorithm
        `linear`, `catboost`, `net` and the like, or `package.module:Class`, where the class is an
        `Estimator` or has scikit-learn's interface.

    Raises
    ------
    EstimatorError
        When nothing is there, with the nearest name, or what is there is no estimator.
    """
    path = _SHORT_NAMES.get(algorithm, algorithm)
    found = _imported(algorithm, path)
    if lacking := [name for name in METHODS if not callable(getattr(found, name, None))]:
        # An estimator of this platform has no get_params, so the two cannot be mistaken.
        if not all(callable(getattr(found, name, None)) for name in SKLEARN_METHODS):
            raise EstimatorError(
                f"algorithm {algorithm!r}: {found!r} is no estimator: it lacks "
                f"{', '.join(lacking)} of this platform's protocol, and scikit-learn's "
                f"{', '.join(SKLEARN_METHODS)} too"
            )
        from mlops_assets.training.estimators.sklearn_model import sklearn_model

        found = sklearn_model(path)
    estimator: type[Estimator] = found
    return estimator


def _imported(algorithm: str, path: str) -> Any:
    """Import what a path names."""
    module, _, name = path.partition(":")
    known = f"Known: {', '.join(_SHORT_NAMES)}, or an import path 'package.module:Class'"
    if not name:
        close = get_close_matches(algorithm, _SHORT_NAMES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise EstimatorError(f"algorithm {algorithm!r}: there is none of that name; {hint}{known}")
    try:
        found = import_module(module)
    except (ImportError, ValueError) as error:
        raise EstimatorError(
            f"algorithm {algorithm!r}: cannot import it ({error}). {known}"
        ) from error
    if not hasattr(found, name):
        close = get_close_matches(name, dir(found), n=1)
        hint = f"did you mean '{module}:{close[0]}'? " if close else ""
        raise EstimatorError(
            f"algorithm {algorithm!r}: cannot import it ({module} has no {name!r}); {hint}{known}"
        )
    return getattr(found, name)


def load_estimator(folder: Path) -> Estimator:
    """Load a saved estimator, whichever class it is of.

    Parameters
    ----------
    folder
        What `save` filled, or a model folder that MLflow wrote.

    Raises
    ------
    EstimatorError
        When the folder holds none or it cannot be read.
    """
    return estimator_class(Manifest.read(folder).estimator).load(folder)
