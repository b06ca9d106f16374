"""The trivial model that the first champion must beat: what the label was, overall or by group.

That is the rate of yes, the share of each class, or the quantiles of the value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.protocol import (
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
)
from mlops_assets.training.tasks import Multiclass, Regression, Task

if TYPE_CHECKING:
    import pandas as pd

_BETWEEN = "\x1f"  # joins a group's values; no text column holds a unit separator by accident


@dataclass(frozen=True)
class Baseline:
    """Answers seen in training; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    overall
        The answer from all rows, also that for a group never seen: one value an output.
    groups
        The smoothed answer of each group.
    """

    flavor: ClassVar[str] = ""  # a yardstick, never registered

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    overall: tuple[float, ...]
    groups: Mapping[str, tuple[float, ...]]

    @property
    def native(self) -> Mapping[str, tuple[float, ...]]:
        """The answer of each group."""
        return self.groups

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Count. Parameters are `by`, names of features, and `smoothing`, in rows."""
        del validation, options
        by, smoothing = list(parameters.get("by", ())), float(parameters.get("smoothing", 50.0))
        if unknown := [name for name in by if name not in train.schema.names]:
            raise EstimatorError(f"baseline: no features {unknown}; there are {train.schema.names}")
        overall = _answer(train.task, train.label)
        groups: dict[str, tuple[float, ...]] = {}
        if by:
            keys, codes = np.unique(_keys(train.features, by), return_inverse=True)
            rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
            for key, rows in zip(keys, rows_of, strict=True):
                own = _answer(train.task, train.label[rows])
                share = len(rows) / (len(rows) + smoothing)
                groups[str(key)] = _values(share * own + (1 - share) * overall)
        chosen = {"by": by, "smoothing": smoothing}
        return cls(train.schema, train.task, chosen, LearningCurve(), _values(overall), groups)

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Count again."""
        return self.fit(part, part, self.parameters, options)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return each row's answer: shape (rows,), or (rows, outputs)."""
        if self.parameters["by"]:
            keys, codes = np.unique(_keys(features, self.parameters["by"]), return_inverse=True)
            known = np.array([self.groups.get(str(key), self.overall) for key in keys])
            table = known[codes]
        else:
            table = np.tile(np.array(self.overall), (len(features), 1))
        return table[:, 0] if len(self.overall) == 1 else table

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Refuse: a rate has no features to explain it."""
        del features
        raise EstimatorError("a baseline has no explanation; explain a candidate")

    def save(self, folder: Path) -> None:
        """Write the manifest, which holds the answers."""
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
            state={"overall": self.overall, "groups": dict(self.groups)},
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        manifest = Manifest.read(folder)
        return cls(
            manifest.schema,
            manifest.task,
            manifest.parameters,
            manifest.learning_curve,
            tuple(manifest.state["overall"]),
            {key: tuple(answer) for key, answer in manifest.state["groups"].items()},
        )


def _answer(task: Task, label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a model without features answers for these labels, shape (outputs,)."""
    if isinstance(task, Regression):
        quantiles: NDArray[np.float64] = np.quantile(label, np.array(task.quantiles))
        return quantiles
    if isinstance(task, Multiclass):
        return np.bincount(label.astype(int), minlength=len(task.classes)) / len(label)
    return np.array([label.mean()])


def _values(answer: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in answer)


def _keys(features: "pd.DataFrame", by: list[str]) -> NDArray[np.object_]:
    """Join the values of a group into one text a row."""
    keys = features[by[0]].astype(str).to_numpy(dtype=object)
    for name in by[1:]:
        keys = keys + _BETWEEN + features[name].astype(str).to_numpy(dtype=object)
    return keys
