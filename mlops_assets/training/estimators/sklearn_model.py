"""Any class with scikit-learn's interface as an estimator, named by its import path.

The class is given what it needs: numbers without gaps and on one scale and one column a category
value, or the features as they are where it handles categories and gaps itself.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features.errors import nearest
from mlops_assets.training.dataset import FeatureSchema, Part
from mlops_assets.training.estimators.conformal import ConformalOffsets
from mlops_assets.training.estimators.frame_json import frame_from, frame_values
from mlops_assets.training.estimators.permutation_shap import permutation_shap
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
from mlops_assets.training.tasks import Multiclass, Regression, Task

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

DEFAULTS: Mapping[str, Any] = {
    "min_frequency": 0.005,
    "max_categories": 30,
    "trusted_types": [],
}
"""Parameters of the adapter itself: share of rows below which a category is infrequent, most
categories, and types outside scikit-learn that a saved model may hold. All others are the class's
own."""

DECIDED_HERE = frozenset({"random_state", "n_jobs"})
"""Parameters that the platform sets."""

_TRUSTED = frozenset({"numpy.dtype", "functools.partial"})  # neither runs code when it is loaded
_BACKGROUND_ROWS = 8  # training rows that explanations are counted from
_SURE = 1e-6  # a probability nearer to 0 or 1 counts as this near where log-odds are needed


@dataclass(frozen=True)
class SklearnModel:
    """A fitted scikit-learn model; see `mlops_assets.training.estimators.protocol.Estimator`.

    `sklearn_model` makes the subclass for one class of scikit-learn or of another library.

    Attributes
    ----------
    conformal
        Makes quantiles of a regression's answer; None for classes.
    background
        Training rows from which contributions are counted.
    """

    flavor: ClassVar[str] = "sklearn"
    FILE: ClassVar[str] = "model.skops"  # the name MLflow's flavor uses, so one loader reads both
    path: ClassVar[str] = ""

    schema: FeatureSchema
    task: Task
    parameters: Mapping[str, Any]
    learning_curve: LearningCurve
    native: "Pipeline"
    conformal: ConformalOffsets | None
    background: "pd.DataFrame"

    @classmethod
    def fit(
        cls, train: Part, validation: Part, parameters: Mapping[str, Any], options: FitOptions
    ) -> Self:
        """Fit on the training part; validation only gives a regression its quantiles."""
        chosen = {**DEFAULTS, **parameters}
        _check_trusted(cls.path, chosen["trusted_types"])
        pipeline = _learn(cls.path, train, chosen, options)
        conformal = None
        if isinstance(train.task, Regression):
            point = _point(pipeline, validation.features, train.schema)
            conformal = ConformalOffsets.of(train.task, validation.label, point)
        random = np.random.default_rng(options.seed)
        rows = random.choice(len(train), min(_BACKGROUND_ROWS, len(train)), replace=False)
        background = train.features.iloc[np.sort(rows)].reset_index(drop=True)
        return cls(
            train.schema, train.task, chosen, LearningCurve(), pipeline, conformal, background
        )

    def refit(self, part: Part, options: FitOptions) -> Self:
        """Fit again; a regression keeps the residuals of rows it had not learnt from."""
        return replace(self, native=_learn(self.path, part, self.parameters, options))

    def predict(self, features: "pd.DataFrame") -> NDArray[np.float64]:
        """Return probabilities, or quantiles at fixed distances from the predicted value."""
        if self.conformal is not None:
            return self.conformal.answers(_point(self.native, features, self.schema))
        answers = self.native.predict_proba(features[list(self.schema.names)])
        answers = np.asarray(answers, dtype=np.float64)
        answers /= answers.sum(axis=1, keepdims=True)  # some answer in float32
        return answers[:, 1] if len(self.task.outputs) == 1 else answers

    def explain(self, features: "pd.DataFrame") -> Explanation:
        """Split each row's raw output by sampled SHAP values, which add up exactly.

        The raw output of classes is the log-odds or the logarithm of the probability answered, with
        certainty counted as one in a million. See
        `mlops_assets.training.estimators.permutation_shap`.
        """
        answers = self.predict(features)
        wanted = answers.argmax(axis=1) if isinstance(self.task, Multiclass) else np.zeros(0, int)

        def score(frame: "pd.DataFrame", rows: NDArray[np.intp]) -> NDArray[np.float64]:
            return self._score(self.predict(frame), wanted[rows] if len(wanted) else rows)

        contributions, expected = permutation_shap(score, features, self.background, self.schema)
        own = self._score(answers, wanted)
        return Explanation(self.schema.names, contributions, expected, own, self._of())

    def _of(self) -> str:
        if isinstance(self.task, Regression):
            return MIDDLE_QUANTILE
        return PREDICTED_CLASS if isinstance(self.task, Multiclass) else LOG_ODDS

    def _score(self, answers: NDArray[np.float64], wanted: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the raw output of answers; of classes, that of the wanted one."""
        from scipy.special import logit

        if isinstance(self.task, Regression):
            return self.task.point(answers)
        if isinstance(self.task, Multiclass):
            chosen = answers[np.arange(len(answers)), wanted]
            logarithm: NDArray[np.float64] = np.log(np.maximum(chosen, _SURE))
            return logarithm
        log_odds: NDArray[np.float64] = logit(np.clip(answers, _SURE, 1 - _SURE))
        return log_odds

    def save(self, folder: Path) -> None:
        """Write the pipeline by skops, which holds no code, and the manifest.

        Raises
        ------
        EstimatorError
            When the pipeline holds a type that is neither scikit-learn's nor declared.
        """
        from skops import io

        path = folder / self.FILE
        io.dump(self.native, path)
        _refuse_untrusted(path, self.parameters["trusted_types"])
        offsets = None if self.conformal is None else list(self.conformal.offsets)
        Manifest(
            f"{__name__}:{SklearnModel.__name__}",
            self.schema,
            self.task,
            self.parameters,
            self.learning_curve,
            state={
                "class": self.path,
                "offsets": offsets,
                "background": frame_values(self.background, self.schema),
            },
        ).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; a file with any type not declared as trusted is refused."""
        from zipfile import BadZipFile

        from skops import io

        manifest = Manifest.read(folder)
        path = folder / cls.FILE
        try:
            pipeline = io.load(
                path, trusted=_refuse_untrusted(path, manifest.parameters["trusted_types"])
            )
        except (OSError, BadZipFile, KeyError, ImportError, AttributeError) as error:
            raise EstimatorError(f"{path}: skops cannot read it: {error!r}") from error
        task = manifest.task
        adapter = cast("type[Self]", sklearn_model(manifest.state["class"]))
        return adapter(
            manifest.schema,
            task,
            manifest.parameters,
            manifest.learning_curve,
            pipeline,
            ConformalOffsets(task, tuple(manifest.state["offsets"]))
            if isinstance(task, Regression)
            else None,
            frame_from(manifest.state["background"], manifest.schema),
        )


@cache
def sklearn_model(path: str) -> type[SklearnModel]:
    """Return the estimator that adapts the class at an import path.

    Parameters
    ----------
    path
        `package.module:Class`.
    """
    return type(SklearnModel.__name__, (SklearnModel,), {"path": path, "__module__": __name__})


def _learn(path: str, part: Part, chosen: Mapping[str, Any], options: FitOptions) -> "Pipeline":
    from sklearn.pipeline import Pipeline
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no types

    check_classes(part)
    model = _model(path, chosen, options)
    _check_fits_task(path, model, part.task)
    pipeline = Pipeline([("columns", _columns(model, part, chosen)), ("model", model)])
    label = part.label if isinstance(part.task, Regression) else part.label.astype(np.int64)
    with threadpool_limits(limits=options.threads):
        try:
            pipeline.fit(part.features[list(part.schema.names)], label)
        except (ValueError, TypeError) as error:
            raise EstimatorError(
                f"{path} refused to fit {len(part)} rows of {part.name} with "
                f"{_own(chosen)}: {error}"
            ) from error
    return pipeline


def _own(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if name not in DEFAULTS}


def _model(path: str, chosen: Mapping[str, Any], options: FitOptions) -> Any:
    """Make an unfitted model of the class, with the platform's seed and threads."""
    module, _, name = path.partition(":")
    kind = getattr(import_module(module), name)
    own = _own(chosen)
    if taken := sorted(DECIDED_HERE & set(own)):
        raise EstimatorError(f"{path}: parameters {taken} are set by the platform; remove them")
    takes = inspect.signature(kind).parameters
    anything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in takes.values())
    if not anything and (unknown := [each for each in own if each not in takes]):
        names = [*takes, *DEFAULTS]
        raise EstimatorError(
            f"{path} takes no parameter {unknown[0]!r}; {nearest(unknown[0], names)}"
        )
    given = {"random_state": options.seed, "n_jobs": options.threads}
    try:
        return kind(**{each: value for each, value in given.items() if each in takes}, **own)
    except TypeError as error:
        raise EstimatorError(f"{path} cannot be made with {own}: {error}") from error


def _check_fits_task(path: str, model: Any, task: Task) -> None:
    from sklearn.base import is_classifier, is_regressor

    if isinstance(task, Regression):
        if not is_regressor(model):
            raise EstimatorError(
                f"{path} is no regressor, which a regression task needs; scikit-learn's are named "
                "…Regressor or listed by sklearn.utils.all_estimators('regressor')"
            )
        return
    if not is_classifier(model):
        raise EstimatorError(
            f"{path} is no classifier, which a {task.name} task needs; scikit-learn's are named "
            "…Classifier or listed by sklearn.utils.all_estimators('classifier')"
        )
    if not hasattr(model, "predict_proba"):
        raise EstimatorError(
            f"{path} has no predict_proba with {model.get_params(deep=False)}, and a {task.name} "
            "task needs probabilities; set the parameter that gives them, such as probability or "
            "loss: log_loss, or take another class"
        )


def _columns(model: Any, part: Part, chosen: Mapping[str, Any]) -> Any:
    """Make what turns features into what the model takes."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    schema = part.schema
    native = inspect.signature(type(model)).parameters.get("categorical_features")
    if native is not None and native.default == "from_dtype":
        empty = [name for name in schema.numeric if part.features[name].isna().all()]
        if not empty:
            return "passthrough"
        # scikit-learn's own histograms cannot be made of a column without a value.
        kept = [name for name in schema.names if name not in empty]
        chooser = ColumnTransformer(
            [("kept", "passthrough", kept)], verbose_feature_names_out=False
        )
        return chooser.set_output(transform="pandas")
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
    return ColumnTransformer(
        [
            ("numbers", numbers, list(schema.numeric)),
            ("categories", categories, list(schema.categorical)),
        ],
        sparse_threshold=0,
    )


def _point(
    pipeline: "Pipeline", features: "pd.DataFrame", schema: FeatureSchema
) -> NDArray[np.float64]:
    return np.asarray(pipeline.predict(features[list(schema.names)]), dtype=np.float64).ravel()


def _is_trusted(name: str, declared: list[str]) -> bool:
    return name in _TRUSTED or name in declared or name.startswith("sklearn.")


def _check_trusted(path: str, declared: list[str]) -> None:
    """Refuse a class of another library that is not declared, before time is spent on it."""
    module, _, name = path.partition(":")
    found = getattr(import_module(module), name)
    full = f"{found.__module__}.{found.__qualname__}"
    if not _is_trusted(full, declared):
        raise EstimatorError(
            f"{path} is not scikit-learn's own, so a saved model of it is only loaded when its "
            f"types are trusted; declare parameters: {{trusted_types: [{full}]}} if it is"
        )


def _refuse_untrusted(path: Path, declared: list[str]) -> list[str]:
    """Return the types in a skops file that it does not trust by itself, all of them trusted here.

    Raises
    ------
    EstimatorError
        Naming those that are not.
    """
    from skops import io

    found: list[str] = io.get_untrusted_types(file=path)
    if refused := [name for name in found if not _is_trusted(name, declared)]:
        raise EstimatorError(
            f"{path}: holds types {refused} that are not trusted; declare them under the "
            "candidate's parameters: trusted_types, if you trust their library, and train again"
        )
    return found
