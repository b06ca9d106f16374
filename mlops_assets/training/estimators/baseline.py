"""The trivial model that the first champion must beat: the label's rate, overall or by group."""

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

if TYPE_CHECKING:
    import pandas as pd

_BETWEEN = "\x1f"  # joins a group's values; no text column holds a unit separator by accident


@dataclass(frozen=True)
class Baseline:
    """Rates seen in training; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    overall
        The rate of class 1 over all rows, also the answer for a group never seen.
    groups
        The smoothed rate of each group.
    """

    flavor: ClassVar[str] = ""  # a yardstick, never registered

    schema: FeatureSchema
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    overall: float
    groups: Mapping[str, float]

    @property
    def native(self) -> Mapping[str, float]:
        """The rate of each group."""
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
        overall = float(train.label.mean())
        groups: dict[str, float] = {}
        if by:
            import pandas as pd

            counts = pd.Series(train.label).groupby(_keys(train.features, by)).agg(["sum", "size"])
            rates = (counts["sum"] + smoothing * overall) / (counts["size"] + smoothing)
            groups = {str(key): float(rate) for key, rate in rates.items()}
        chosen = {"by": by, "smoothing": smoothing}
        return cls(train.schema, chosen, LearningCurve(), overall, groups)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return each row's rate, shape (rows,)."""
        if not self.parameters["by"]:
            return np.full(len(features), self.overall)
        keys, codes = np.unique(_keys(features, self.parameters["by"]), return_inverse=True)
        rates = np.array([self.groups.get(str(key), self.overall) for key in keys])
        return rates[codes]

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Refuse: a rate has no features to explain it."""
        del features
        raise EstimatorError("a baseline has no explanation; explain a candidate")

    def save(self, folder: Path) -> None:
        """Write the manifest, which holds the rates."""
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
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
            manifest.parameters,
            manifest.learning_curve,
            manifest.state["overall"],
            manifest.state["groups"],
        )


def _keys(features: "pd.DataFrame", by: list[str]) -> NDArray[np.object_]:
    """Join the values of a group into one text a row."""
    keys = features[by[0]].astype(str).to_numpy(dtype=object)
    for name in by[1:]:
        keys = keys + _BETWEEN + features[name].astype(str).to_numpy(dtype=object)
    return keys
