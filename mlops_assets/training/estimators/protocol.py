"""What an estimator is, and the small values that go in and come out of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema, Part

if TYPE_CHECKING:
    import pandas as pd


class EstimatorError(ValueError):
    """An estimator cannot be found, fitted, loaded or used; the message says why."""


Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called while fitting with the iteration done, the most there can be, and the losses so far."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit, beside the parameters of the algorithm.

    Attributes
    ----------
    seed, threads
        Both decide the result to the last bit, so both are recorded.
    progress
        Told about each iteration of an iterative algorithm.
    """

    seed: int
    threads: int
    progress: Progress | None = None


@dataclass(frozen=True)
class LearningCurve:
    """Log loss after each iteration; empty for an algorithm without iterations.

    Attributes
    ----------
    train, validation
        One value an iteration.
    best_iteration
        Index of the iteration that was kept, or None.
    """

    train: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    best_iteration: int | None = None


@dataclass(frozen=True)
class Explanation:
    """Additive explanation: `expected + contributions.sum(axis=1)` is the model's log-odds.

    Attributes
    ----------
    features
        Names, in the order of the columns of `contributions`.
    contributions
        Log-odds each feature adds, shape (rows, features). SHAP values.
    expected
        Log-odds of the average row.
    """

    features: tuple[str, ...]
    contributions: NDArray[np.float64]
    expected: float

    @property
    def importance(self) -> Mapping[str, float]:
        """Mean absolute contribution of each feature, largest first."""
        mean = np.abs(self.contributions).mean(axis=0)
        order = np.argsort(-mean, kind="stable")
        return {self.features[i]: float(mean[i]) for i in order}


@runtime_checkable
class Estimator(Protocol):
    """A fitted model. There is no unfitted state: `fit` is how one comes to be.

    Attributes
    ----------
    flavor
        MLflow flavor under which the native model is logged; empty for a yardstick that is never
        registered.
    schema
        The features it takes.
    parameters
        Everything it was fitted with, defaults included.
    learning_curve
        How fitting went.
    native
        The model of the underlying library.
    """

    flavor: ClassVar[str]
    schema: FeatureSchema
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve

    @property
    def native(self) -> Any:
        """The model of the underlying library."""
        ...

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Learn from the training part; the validation part may only decide when to stop.

        Raises
        ------
        EstimatorError
            When a parameter is unknown or the data cannot be learnt from.
        """
        ...

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the probability of class 1 for each row, shape (rows,)."""
        ...

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's log-odds into the features' contributions."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        EstimatorError
            When the folder holds no such estimator.
        """
        ...


@dataclass(frozen=True)
class Manifest:
    """The file beside a native model that makes it an estimator again.

    Attributes
    ----------
    estimator
        `package.module:Class` of the estimator.
    schema, parameters, learning_curve
        As on the estimator.
    state
        What else that class needs, as JSON.
    """

    FILE: ClassVar[str] = "estimator.json"

    estimator: str
    schema: FeatureSchema
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    state: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the manifest into a folder and return its path."""
        import json
        from dataclasses import asdict

        path = folder / self.FILE
        path.write_text(json.dumps(asdict(self), indent=1, allow_nan=False), encoding="utf-8")
        return path

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a saved estimator, also where MLflow keeps extra files.

        Raises
        ------
        EstimatorError
            When there is none, or it is not one.
        """
        import json

        places = [folder / cls.FILE, folder / "extra_files" / cls.FILE]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise EstimatorError(
                f"no saved estimator: looked for {' and '.join(str(place) for place in places)}"
            )
        try:
            raw = json.loads(found.read_text(encoding="utf-8"))
            return cls(
                estimator=raw["estimator"],
                schema=FeatureSchema(**{k: tuple(v) for k, v in raw["schema"].items()}),
                parameters=raw["parameters"],
                learning_curve=LearningCurve(
                    train=tuple(raw["learning_curve"]["train"]),
                    validation=tuple(raw["learning_curve"]["validation"]),
                    best_iteration=raw["learning_curve"]["best_iteration"],
                ),
                state=raw["state"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EstimatorError(f"{found}: is no estimator manifest: {error!r}") from error
