"""CatBoost: gradient-boosted trees with native categories, stopped early on the validation part.

Its losses are the tasks': Logloss, MultiClass, and MultiQuantile, which fits all quantiles in the
same trees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.protocol import (
    LOG_ODDS,
    MIDDLE_QUANTILE,
    PREDICTED_CLASS,
    EstimatorError,
    Explanation,
    FitOptions,
    LearningCurve,
    Manifest,
    Progress,
    check_classes,
)
from mlops_assets.training.tasks import Regression, Task

if TYPE_CHECKING:
    import pandas as pd
    from catboost import CatBoost as NativeCatBoost
    from catboost import Pool

DEFAULTS: Mapping[str, Any] = {
    "iterations": 1500,
    "learning_rate": 0.06,
    "depth": 7,
    "early_stopping_rounds": 60,
}
"""Used where the declaration says nothing; everything else is CatBoost's own default."""

DECIDED_HERE = frozenset(
    {
        "loss_function", "random_seed", "random_state", "thread_count", "cat_features",
        "allow_writing_files", "use_best_model", "verbose", "logging_level", "silent",
    }
)  # fmt: skip
"""Parameters that the platform sets."""

_STOPPING = frozenset({"early_stopping_rounds", "od_type", "od_wait", "od_pval"})
OTHER_NAMES = frozenset({"num_boost_round", "n_estimators", "num_trees"})
"""Other names of `iterations`, of which the platform takes one."""


class _Report:
    """Hands each iteration's losses to the caller, who may stop the fit."""

    def __init__(self, progress: Progress, total: int, task: Task) -> None:
        self._progress = progress
        self._total = total
        self._task = task

    def after_iteration(self, info: Any) -> bool:
        losses = {part: values[-1] for part, values in _losses(info.metrics, self._task).items()}
        return self._progress(info.iteration, self._total, losses) is not False


@dataclass(frozen=True)
class CatBoost:
    """A fitted CatBoost model; see `mlops_assets.training.estimators.protocol.Estimator`."""

    flavor: ClassVar[str] = "catboost"
    FILE: ClassVar[str] = "model.cb"  # the name MLflow's flavor uses, so one loader reads both

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: "NativeCatBoost"

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Boost until the validation loss has not improved for `early_stopping_rounds` trees."""
        if taken := sorted(DECIDED_HERE & set(parameters)):
            raise EstimatorError(
                f"catboost parameters {taken} are set by the platform; remove them"
            )
        if aliases := sorted(OTHER_NAMES & set(parameters)):
            raise EstimatorError(f"catboost: name the number of trees 'iterations', not {aliases}")
        chosen = {**DEFAULTS, **parameters}
        model = _learn(train, chosen, options, validation=validation)
        losses = _losses(model.get_evals_result(), train.task)
        curve = LearningCurve(
            train=tuple(losses["learn"]),
            validation=tuple(losses["validation"]),
            best_iteration=model.get_best_iteration(),
        )
        return cls(train.schema, train.task, chosen, curve, model)

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Boost as many trees as validation found best, without stopping early."""
        best = self.learning_curve.best_iteration
        if best is None:
            raise EstimatorError("catboost: how many trees were best is not known; fit it first")
        fixed = {key: value for key, value in self.parameters.items() if key not in _STOPPING}
        model = _learn(part, {**fixed, "iterations": best + 1}, options)
        return type(self)(self.schema, self.task, self.parameters, self.learning_curve, model)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return probabilities, or quantiles that never cross."""
        return self._answers(_pool(features, self.schema))

    def predict_objects(self, rows: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the answers to a few rows, in one thread and without the price of a frame.

        One row takes a tenth of what `predict` takes; for many rows, `predict_arrays` is faster.

        Parameters
        ----------
        rows
            Shape (rows, features) in the schema's order: numbers with NaN for null, and texts with
            `MISSING` for null.
        """
        from catboost import Pool

        # One thread for the pool too: CatBoost's others would go on spinning after each call, which
        # takes another core from whoever needs it.
        pool = Pool(rows, cat_features=self._category_places, thread_count=1)
        return self._answers(pool, threads=1)

    def predict_arrays(
        self,
        numbers: NDArray[np.float32],
        categories: Sequence[NDArray[np.object_]],
        threads: int = 1,
    ) -> NDArray[np.float64]:
        """Return the answers to rows given as arrays; half of what a frame costs.

        Parameters
        ----------
        numbers
            Shape (rows, numeric features) in the schema's order, NaN for null.
        categories
            One array of texts in UTF-8 a categorical feature in the schema's order, `MISSING` for
            null; shape (rows,).
        threads
            How many the trees are gone through in.
        """
        from catboost import FeaturesData, Pool

        # Numbers come before categories here; CatBoost finds its features by their names.
        data = FeaturesData(
            num_feature_data=np.ascontiguousarray(numbers) if self.schema.numeric else None,
            cat_feature_data=np.column_stack(categories) if categories else None,
            num_feature_names=list(self.schema.numeric),
            cat_feature_names=list(self.schema.categorical),
        )
        return self._answers(Pool(data, thread_count=1), threads=threads)

    @cached_property
    def _category_places(self) -> list[int]:
        return [self.schema.names.index(name) for name in self.schema.categorical]

    def _answers(self, pool: "Pool", threads: int = -1) -> NDArray[np.float64]:
        if isinstance(self.task, Regression):
            answers: NDArray[np.float64] = self._raw(pool, threads)
            return answers if answers.ndim == 1 else np.sort(answers, axis=1)
        answers = self.native.predict(pool, prediction_type="Probability", thread_count=threads)
        return answers[:, 1] if len(self.task.outputs) == 1 else answers

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output by CatBoost's own exact tree SHAP."""
        pool = _pool(features, self.schema)
        values = self.native.get_feature_importance(pool, type="ShapValues", thread_count=-1)
        raw = self._raw(pool)
        if raw.ndim == 1:
            of = MIDDLE_QUANTILE if isinstance(self.task, Regression) else LOG_ODDS
            return Explanation(self.schema.names, values[:, :-1], values[:, -1], raw, of)
        if isinstance(self.task, Regression):
            # Where quantiles cross, the middle one after sorting is another output of the trees.
            column = np.argsort(raw, axis=1, kind="stable")[:, self.task.middle]
            of = MIDDLE_QUANTILE
        else:
            column, of = raw.argmax(axis=1), PREDICTED_CLASS
        rows = np.arange(len(raw))
        chosen = values[rows, column]
        return Explanation(self.schema.names, chosen[:, :-1], chosen[:, -1], raw[rows, column], of)

    def _raw(self, pool: "Pool", threads: int = -1) -> NDArray[np.float64]:
        raw: NDArray[np.float64] = self.native.predict(
            pool, prediction_type="RawFormulaVal", thread_count=threads
        )
        return raw

    def save(self, folder: Path) -> None:
        """Write CatBoost's own binary format and the manifest."""
        self.native.save_model(str(folder / self.FILE), format="cbm")
        Manifest(
            f"{__name__}:{type(self).__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from catboost import CatBoostError

        manifest = Manifest.read(folder)
        model = _kind(manifest.task)()
        try:
            model.load_model(str(folder / cls.FILE), format="cbm")
        except CatBoostError as error:
            raise EstimatorError(
                f"{folder / cls.FILE}: CatBoost cannot read it: {error}"
            ) from error
        return cls(
            manifest.schema, manifest.task, manifest.parameters, manifest.learning_curve, model
        )


def _learn(
    part: Part,
    chosen: Mapping[str, Any],
    options: FitOptions,
    *,
    validation: Part | None = None,
) -> "NativeCatBoost":
    """Fit, with early stopping where there is a validation part."""
    from catboost import CatBoostError

    check_classes(part)
    progress = options.progress if validation is not None else None
    try:
        model = _kind(part.task)(
            loss_function=_loss(part.task),
            random_seed=options.seed,
            thread_count=options.threads,
            allow_writing_files=False,
            use_best_model=validation is not None,
            logging_level="Silent",
            **chosen,
        )
        model.fit(
            _pool(part.features, part.schema, part.label),
            eval_set=None
            if validation is None
            else _pool(validation.features, validation.schema, validation.label),
            callbacks=[_Report(progress, int(chosen["iterations"]), part.task)]
            if progress
            else None,
        )
    except (CatBoostError, TypeError) as error:
        raise EstimatorError(
            f"catboost refused to fit {len(part)} rows of {part.name} with {dict(chosen)}: {error}"
        ) from error
    return model


def _kind(task: Task) -> "type[NativeCatBoost]":
    from catboost import CatBoostClassifier, CatBoostRegressor

    kind: type[NativeCatBoost] = (
        CatBoostRegressor if isinstance(task, Regression) else CatBoostClassifier
    )
    return kind


def _loss(task: Task) -> str:
    if isinstance(task, Regression):
        levels = ",".join(f"{level:.10g}" for level in task.quantiles)
        return f"{'Quantile' if len(task.quantiles) == 1 else 'MultiQuantile'}:alpha={levels}"
    return "Logloss" if len(task.outputs) == 1 else "MultiClass"


def _losses(history: Mapping[str, Mapping[str, list[float]]], task: Task) -> dict[str, list[float]]:
    """Return the loss after each iteration by part, whatever else was asked to be measured."""
    name = _loss(task).partition(":")[0]
    return {
        part: next(values for metric, values in metrics.items() if metric.startswith(name))
        for part, metrics in history.items()
    }


def _pool(
    features: "pd.DataFrame", schema: FeatureSchema, label: NDArray[np.float64] | None = None
) -> "Pool":
    from catboost import Pool

    return Pool(features[list(schema.names)], label=label, cat_features=list(schema.categorical))
