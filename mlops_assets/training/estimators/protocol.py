"""What an estimator is, and the small values that go in and come out of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.tasks import Multiclass, Regression, Task, task_from

if TYPE_CHECKING:
    import pandas as pd


class EstimatorError(ValueError):
    """An estimator cannot be found, fitted, loaded or used; the message says why."""


Progress = Callable[[int, int, Mapping[str, float]], bool | None]
"""Called while fitting with how many iterations are done, the most there can be, and the task's
loss on `validation` and on what is learnt from. Returning False, and only False, stops the fit
there; the model so far is kept."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit, beside the parameters of the algorithm.

    Attributes
    ----------
    seed, threads
        Both decide the result to the last bit, so both are recorded.
    progress
        Told about each iteration of an iterative algorithm, and may stop it.
    """

    seed: int
    threads: int
    progress: Progress | None = None


@dataclass(frozen=True)
class LearningCurve:
    """The task's loss after each iteration; empty for an algorithm without iterations.

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


LOG_ODDS = "log-odds of yes"
PREDICTED_CLASS = "raw score of the predicted class"
MIDDLE_QUANTILE = "the middle quantile"
"""What explanations are of, one a task."""


@dataclass(frozen=True)
class Explanation:
    """Additive explanation: `expected + contributions.sum(axis=1)` is the model's raw output.

    Attributes
    ----------
    features
        Names, in the order of the columns of `contributions`.
    contributions
        What each feature adds, shape (rows, features). SHAP values.
    expected
        Raw output before any feature is known, shape (rows,); it differs between rows where they
        have different predicted classes.
    score
        Raw output as the model's own prediction path computes it, shape (rows,).
    of
        What the raw output is, in words: `log-odds of yes`.
    """

    features: tuple[str, ...]
    contributions: NDArray[np.float64]
    expected: NDArray[np.float64]
    score: NDArray[np.float64]
    of: str

    @property
    def additivity_error(self) -> float:
        """Largest gap, over the rows, between what the contributions add up to and the score."""
        gap = self.expected + self.contributions.sum(axis=1) - self.score
        return float(np.abs(gap).max(initial=0.0))

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
    task
        What it predicts, with its classes or quantiles.
    parameters
        Everything it was fitted with, defaults included.
    learning_curve
        How fitting went.
    native
        The model of the underlying library.
    """

    flavor: ClassVar[str]

    @property
    def schema(self) -> FeatureSchema:
        """The features it takes."""
        ...

    @property
    def task(self) -> Task:
        """What it predicts, with its classes or quantiles."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Everything it was fitted with, defaults included."""
        ...

    @property
    def learning_curve(self) -> LearningCurve:
        """How fitting went."""
        ...

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

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Learn again from train and validation together, keeping what validation decided.

        Kept are the number of iterations, the residuals behind quantiles, weights and the like,
        and the learning curve that led to them. The same part and options give the same model.

        Parameters
        ----------
        part
            Both parts, as `join_parts` puts them together.
        options
            As for `fit`.

        Raises
        ------
        EstimatorError
            When the part cannot be learnt from.
        """
        ...

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the answers as the task has them: shape (rows,), or (rows, outputs)."""
        ...

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output into the features' contributions.

        It is the log-odds of yes, the raw score of the predicted class, or the middle quantile.
        """
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


def check_classes(part: Part) -> None:
    """Refuse a part to learn from in which a class has no row.

    Raises
    ------
    EstimatorError
        Naming the part and the classes.
    """
    if isinstance(part.task, Regression):
        return
    names = part.task.outputs if isinstance(part.task, Multiclass) else ("no", "yes")
    there = set(np.unique(part.label).astype(int))
    if absent := [name for index, name in enumerate(names) if index not in there]:
        raise EstimatorError(
            f"{part.name}: none of its {len(part)} rows has label {', '.join(absent)}, so it "
            "cannot be learnt; every class needs a row"
        )


@dataclass(frozen=True)
class Manifest:
    """The file beside a native model that makes it an estimator again.

    Attributes
    ----------
    estimator
        `package.module:Class` of the estimator.
    schema, task, parameters, learning_curve
        As on the estimator.
    state
        What else that class needs, as JSON.
    """

    FILE: ClassVar[str] = "estimator.json"

    estimator: str
    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    state: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the manifest into a folder and return its path."""
        import json
        from dataclasses import asdict

        path = folder / self.FILE
        content = {**asdict(self), "task": self.task.state()}
        path.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
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
                # A model saved before there was a choice of tasks is a binary one.
                task=task_from(raw.get("task", {"name": "binary"})),
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
