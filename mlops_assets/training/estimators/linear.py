"""Logistic regression on imputed, scaled and one-hot encoded features, by scikit-learn."""

import warnings
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
    from sklearn.pipeline import Pipeline

DEFAULTS: Mapping[str, Any] = {"C": 0.1, "min_frequency": 0.005, "max_categories": 30}
"""Inverse regularisation; share of rows below which a category is infrequent; most categories."""

TRUSTED_TYPES = ("numpy.dtype",)
"""What a saved pipeline holds beyond the types skops trusts by itself; it runs no code."""


@dataclass(frozen=True)
class Linear:
    """A fitted logistic regression; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    centre
        Mean of each transformed column in training, from which contributions are counted.
    """

    flavor: ClassVar[str] = "sklearn"
    FILE: ClassVar[str] = "model.skops"  # the name MLflow's flavor uses, so one loader reads both

    schema: FeatureSchema
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: "Pipeline"
    centre: NDArray[np.float64]

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Fit by Newton's method: with few columns and many rows it takes some ten steps."""
        del validation  # nothing is stopped early: the optimum is unique
        from scipy.linalg import LinAlgWarning
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

        if unknown := sorted(set(parameters) - set(DEFAULTS)):
            raise EstimatorError(f"linear takes no {unknown}; it takes {', '.join(DEFAULTS)}")
        chosen = {**DEFAULTS, **parameters}
        pipeline = _pipeline(train.schema, chosen)
        with threadpool_limits(limits=options.threads):
            try:
                columns = pipeline[:-1].fit_transform(train.features)
                with warnings.catch_warnings():
                    # With columns that say the same it goes on with L-BFGS by itself. That is
                    # slower but right; not converging in the end is not.
                    warnings.simplefilter("ignore", LinAlgWarning)
                    warnings.simplefilter("error", ConvergenceWarning)
                    pipeline[-1].fit(columns, train.label)
            except (ValueError, ConvergenceWarning) as error:
                raise EstimatorError(f"linear refused to fit with {chosen}: {error}") from error
        centre = columns.mean(axis=0, dtype=np.float64)
        return cls(train.schema, chosen, LearningCurve(), pipeline, centre)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the probability of class 1 for each row, shape (rows,)."""
        answer = self.native.predict_proba(features[list(self.schema.names)])[:, 1]
        return np.asarray(answer, dtype=np.float64)

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's log-odds exactly: coefficient times distance from the training mean."""
        model = self.native[-1]
        weights = model.coef_[0].astype(np.float64)
        columns = self.native[:-1].transform(features[list(self.schema.names)])
        parts = (columns.astype(np.float64) - self.centre) * weights
        owner = _owners(self.native, self.schema)
        contributions = np.zeros((len(parts), len(self.schema.names)))
        for position in range(parts.shape[1]):
            contributions[:, owner[position]] += parts[:, position]
        expected = float(model.intercept_[0] + weights @ self.centre)
        return Explanation(self.schema.names, contributions, expected)

    def save(self, folder: Path) -> None:
        """Write the pipeline by skops, which holds no code, and the manifest."""
        from skops import io

        io.dump(self.native, folder / self.FILE)
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.parameters,
            self.learning_curve,
            state={"centre": self.centre.tolist()},
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; a file with any type outside scikit-learn is refused."""
        from zipfile import BadZipFile

        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException

        manifest = Manifest.read(folder)
        path = folder / cls.FILE
        try:
            pipeline = io.load(path, trusted=list(TRUSTED_TYPES))
        except (OSError, BadZipFile, KeyError, UntrustedTypesFoundException) as error:
            raise EstimatorError(f"{path}: skops refuses to read it: {error}") from error
        centre = np.asarray(manifest.state["centre"], dtype=np.float64)
        return cls(manifest.schema, manifest.parameters, manifest.learning_curve, pipeline, centre)


def _pipeline(schema: FeatureSchema, chosen: Mapping[str, Any]) -> "Pipeline":
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    )
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=chosen["min_frequency"],
        max_categories=chosen["max_categories"],
        sparse_output=False,
        dtype=np.float32,
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, list(schema.numeric)),
            ("categories", categories, list(schema.categorical)),
        ],
        sparse_threshold=0,
    )
    model = LogisticRegression(C=chosen["C"], solver="newton-cholesky", max_iter=500)
    return Pipeline([("columns", columns), ("model", model)])


def _owners(pipeline: "Pipeline", schema: FeatureSchema) -> list[int]:
    """Return, for each transformed column, the position of the feature it was made of."""
    position = {name: index for index, name in enumerate(schema.names)}
    owners = [position[name] for name in schema.numeric]
    if schema.categorical:
        encoder = pipeline[0].named_transformers_["categories"]
        rare = encoder.infrequent_categories_
        for index, name in enumerate(schema.categorical):
            width = len(encoder.categories_[index])
            if rare[index] is not None:
                width += 1 - len(rare[index])
            owners += [position[name]] * width
    return owners
