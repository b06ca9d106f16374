"""Estimators: the algorithms that can compete in a family, behind one protocol.

Importing this package imports no learning library; each estimator imports its own when it is used.
"""

from importlib import import_module
from pathlib import Path

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
    "baseline": "mlops_assets.training.estimators.baseline:Baseline",
}


def estimator_class(algorithm: str) -> type[Estimator]:
    """Find an estimator by its short name or its import path `package.module:Class`.

    Raises
    ------
    EstimatorError
        When nothing is there, or what is there is no estimator.
    """
    module, _, name = _SHORT_NAMES.get(algorithm, algorithm).partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EstimatorError(
            f"algorithm {algorithm!r}: cannot import it ({error}). Known: "
            f"{', '.join(_SHORT_NAMES)}, or an import path 'package.module:Class'"
        ) from error
    wanted = ("fit", "predict", "explain", "save", "load")
    if lacking := [method for method in wanted if not callable(getattr(found, method, None))]:
        raise EstimatorError(f"algorithm {algorithm!r}: {found!r} lacks {', '.join(lacking)}")
    estimator: type[Estimator] = found
    return estimator


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
