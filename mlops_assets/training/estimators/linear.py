"""Linear models on imputed, scaled and one-hot encoded features, by scikit-learn.

Logistic for yes or no, multinomial for classes; ridge for a number, whose quantiles come from its
residuals on the validation part.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.conformal import ConformalOffsets
from mlops_assets.training.estimators.protocol import (
    LOG_ODDS,
    MIDDLE_QUANTILE,
    PREDICTED_CLASS,
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
    check_classes,
)
from mlops_assets.training.tasks import Regression, Task

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

DEFAULTS: Mapping[str, Any] = {"C": 0.1, "min_frequency": 0.005, "max_categories": 30}
"""Inverse regularisation; share of rows below which a category is infrequent; most categories."""

TRUSTED_TYPES = ("numpy.dtype",)
"""What a saved pipeline holds beyond the types skops trusts by itself; it runs no code."""


@dataclass(frozen=True)
class Linear:
    """A fitted linear model; see `mlops_assets.training.estimators.protocol.Estimator`.

    Attributes
    ----------
    centre
        Mean of each transformed column in training, from which contributions are counted.
    conformal
        Makes quantiles of a regression's answer; None for classes.
    """

    flavor: ClassVar[str] = "sklearn"
    FILE: ClassVar[str] = "model.skops"  # the name MLflow's flavor uses, so one loader reads both

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: "Pipeline"
    centre: NDArray[np.float64]
    conformal: ConformalOffsets | None

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Solve for the one optimum; validation only gives a regression its quantiles."""
        if unknown := sorted(set(parameters) - set(DEFAULTS)):
            raise EstimatorError(f"linear takes no {unknown}; it takes {', '.join(DEFAULTS)}")
        chosen = {**DEFAULTS, **parameters}
        pipeline, centre = _learn(train, chosen, options)
        conformal = None
        if isinstance(train.task, Regression):
            point = _point(pipeline, validation.features, train.schema)
            conformal = ConformalOffsets.of(train.task, validation.label, point)
        return cls(train.schema, train.task, chosen, LearningCurve(), pipeline, centre, conformal)

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Solve again; a regression keeps the residuals of rows it had not learnt from."""
        pipeline, centre = _learn(part, self.parameters, options)
        return replace(self, native=pipeline, centre=centre)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return probabilities, or quantiles at fixed distances from the predicted mean."""
        if self.conformal is not None:
            return self.conformal.answers(_point(self.native, features, self.schema))
        answers = self.native.predict_proba(features[list(self.schema.names)])
        answers = np.asarray(answers, dtype=np.float64)
        return answers[:, 1] if len(self.task.outputs) == 1 else answers

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output exactly: coefficient times distance from the mean."""
        rows = features[list(self.schema.names)]
        weights, intercept = _weights(self.native)
        columns = self.native[:-1].transform(rows).astype(np.float64) - self.centre
        if self.conformal is not None:
            score = _point(self.native, features, self.schema) + self.conformal.middle
            base, of = intercept + self.conformal.middle, MIDDLE_QUANTILE
            chosen = np.zeros(len(rows), dtype=np.intp)
        else:
            raw = np.asarray(self.native.decision_function(rows), dtype=np.float64)
            base = intercept
            if len(self.task.outputs) == 1:
                score, of = raw, LOG_ODDS
                chosen = np.zeros(len(rows), dtype=np.intp)
            else:
                # With two classes scikit-learn keeps the score of the second alone.
                both = np.stack([-raw, raw], axis=1) if raw.ndim == 1 else raw
                chosen, of = both.argmax(axis=1), PREDICTED_CLASS
                score = both.max(axis=1)
                if raw.ndim == 1:
                    weights, base = np.vstack([-weights, weights]), np.r_[-base, base]
        columns *= weights[chosen]
        contributions = np.zeros((len(columns), len(self.schema.names)))
        for position, owner in enumerate(_owners(self.native, self.schema)):
            contributions[:, owner] += columns[:, position]
        expected = (base + weights @ self.centre)[chosen]
        return Explanation(self.schema.names, contributions, expected, score, of)

    def save(self, folder: Path) -> None:
        """Write the pipeline by skops, which holds no code, and the manifest."""
        from skops import io

        io.dump(self.native, folder / self.FILE)
        offsets = None if self.conformal is None else list(self.conformal.offsets)
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
            state={"centre": self.centre.tolist(), "offsets": offsets},
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
        task = manifest.task
        return cls(
            manifest.schema,
            task,
            manifest.parameters,
            manifest.learning_curve,
            pipeline,
            np.asarray(manifest.state["centre"], dtype=np.float64),
            ConformalOffsets(task, tuple(manifest.state["offsets"]))
            if isinstance(task, Regression)
            else None,
        )


def _learn(
    part: Part, chosen: Mapping[str, Any], options: FitOptions
) -> tuple["Pipeline", NDArray[np.float64]]:
    """Fit the pipeline, and return it with the mean of each transformed column."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

    check_classes(part)
    pipeline = _pipeline(part, chosen)
    with threadpool_limits(limits=options.threads):
        try:
            columns = pipeline[:-1].fit_transform(part.features)
            with warnings.catch_warnings():
                # With columns that say the same it goes on with another solver by itself. That is
                # slower but right; not converging in the end is not.
                warnings.simplefilter("ignore", LinAlgWarning)
                warnings.simplefilter("error", ConvergenceWarning)
                pipeline[-1].fit(columns, part.label)
        except (ValueError, ConvergenceWarning) as error:
            raise EstimatorError(
                f"linear refused to fit {len(part)} rows of {part.name} with {dict(chosen)}: "
                f"{error}"
            ) from error
    # Answers and their explanation then differ by no more than rounding in double precision.
    model = pipeline[-1]
    model.coef_ = model.coef_.astype(np.float64)
    model.intercept_ = np.asarray(model.intercept_, dtype=np.float64)
    return pipeline, columns.mean(axis=0, dtype=np.float64)


def _point(
    pipeline: "Pipeline", features: "pd.DataFrame", schema: FeatureSchema
) -> NDArray[np.float64]:
    return np.asarray(pipeline.predict(features[list(schema.names)]), dtype=np.float64)


def _weights(pipeline: "Pipeline") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients of shape (scores, columns) and intercepts of shape (scores,)."""
    model = pipeline[-1]
    return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)


def _pipeline(part: Part, chosen: Mapping[str, Any]) -> "Pipeline":
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
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
            ("numbers", numbers, list(part.schema.numeric)),
            ("categories", categories, list(part.schema.categorical)),
        ],
        sparse_threshold=0,
    )
    model: Any
    if isinstance(part.task, Regression):
        model = Ridge(alpha=1 / chosen["C"], solver="cholesky")
    else:
        # Newton's method: with few columns and many rows it takes some ten steps.
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
