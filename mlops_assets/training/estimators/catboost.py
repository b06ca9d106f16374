"""CatBoost: gradient-boosted trees with native categories, stopped early on the validation part."""

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
    Progress,
)

if TYPE_CHECKING:
    import pandas as pd
    from catboost import CatBoostClassifier, Pool

DEFAULTS: Mapping[str, Any] = {
    "iterations": 1500,
    "learning_rate": 0.06,
    "depth": 7,
    "early_stopping_rounds": 60,
}
"""Used where the declaration says nothing; everything else is CatBoost's own default."""

_DECIDED_HERE = frozenset(
    {
        "loss_function", "random_seed", "random_state", "thread_count", "cat_features",
        "allow_writing_files", "use_best_model", "verbose", "logging_level", "silent",
    }
)  # fmt: skip


class _Report:
    """Hands each iteration's losses to the caller."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total

    def after_iteration(self, info: Any) -> bool:
        losses = {part: values["Logloss"][-1] for part, values in info.metrics.items()}
        self._progress(info.iteration, self._total, losses)
        return True


@dataclass(frozen=True)
class CatBoost:
    """A fitted CatBoost classifier; see `mlops_assets.training.estimators.protocol.Estimator`."""

    flavor: ClassVar[str] = "catboost"
    FILE: ClassVar[str] = "model.cb"  # the name MLflow's flavor uses, so one loader reads both

    schema: FeatureSchema
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: "CatBoostClassifier"

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Boost until the validation loss has not improved for `early_stopping_rounds` trees."""
        from catboost import CatBoostClassifier, CatBoostError

        if taken := sorted(_DECIDED_HERE & set(parameters)):
            raise EstimatorError(
                f"catboost parameters {taken} are set by the platform; remove them"
            )
        chosen = {**DEFAULTS, **parameters}
        progress = options.progress
        try:
            model = CatBoostClassifier(
                loss_function="Logloss",
                random_seed=options.seed,
                thread_count=options.threads,
                allow_writing_files=False,
                use_best_model=True,
                logging_level="Silent",
                **chosen,
            )
            model.fit(
                _pool(train.features, train.schema, train.label),
                eval_set=_pool(validation.features, validation.schema, validation.label),
                callbacks=[_Report(progress, int(chosen["iterations"]))] if progress else None,
            )
        except (CatBoostError, TypeError) as error:
            raise EstimatorError(f"catboost refused to fit with {chosen}: {error}") from error
        history = model.get_evals_result()
        curve = LearningCurve(
            train=tuple(history["learn"]["Logloss"]),
            validation=tuple(history["validation"]["Logloss"]),
            best_iteration=model.get_best_iteration(),
        )
        return cls(train.schema, chosen, curve, model)

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the probability of class 1 for each row, shape (rows,)."""
        pool = _pool(features, self.schema)
        answer: NDArray[np.float64] = self.native.predict_proba(pool)[:, 1]
        return answer

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's log-odds by CatBoost's own exact tree SHAP."""
        values = self.native.get_feature_importance(
            _pool(features, self.schema), type="ShapValues", thread_count=-1
        )
        return Explanation(self.schema.names, values[:, :-1], float(values[0, -1]))

    def save(self, folder: Path) -> None:
        """Write CatBoost's own binary format and the manifest."""
        self.native.save_model(str(folder / self.FILE), format="cbm")
        Manifest(
            f"{__name__}:{type(self).__name__}", self.schema, self.parameters, self.learning_curve
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from catboost import CatBoostClassifier, CatBoostError

        manifest = Manifest.read(folder)
        model = CatBoostClassifier()
        try:
            model.load_model(str(folder / cls.FILE), format="cbm")
        except CatBoostError as error:
            raise EstimatorError(
                f"{folder / cls.FILE}: CatBoost cannot read it: {error}"
            ) from error
        return cls(manifest.schema, manifest.parameters, manifest.learning_curve, model)


def _pool(
    features: "pd.DataFrame", schema: FeatureSchema, label: NDArray[np.float64] | None = None
) -> "Pool":
    from catboost import Pool

    return Pool(features[list(schema.names)], label=label, cat_features=list(schema.categorical))
