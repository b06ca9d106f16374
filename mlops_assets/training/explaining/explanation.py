"""Explaining a model: all of it together, for any estimator and any task, at a bounded cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mlops_assets.features import Selection
from mlops_assets.training.bootstrap import Resampling
from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator
from mlops_assets.training.evaluation import Evaluation, SliceResult
from mlops_assets.training.explaining.attribution import (
    ADDITIVITY_TOLERANCE,
    Attribution,
    attribute,
)
from mlops_assets.training.explaining.fairness import Fairness, fairness
from mlops_assets.training.explaining.partial_dependence import (
    PartialDependence,
    partial_dependence,
)
from mlops_assets.training.explaining.permutation import (
    PermutationImportance,
    permutation_importance,
)
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import MetricError


@dataclass(frozen=True)
class Effort:
    """How much an explanation may cost. Rows are drawn at random by the seed.

    Attributes
    ----------
    shap_rows
        Rows over which SHAP values are averaged.
    kept_rows
        How many of them are kept one by one.
    permutation_rows, permutation_repeats
        Rows of each repeat of the permutation importance, and repeats.
    permuted_features
        Features that are shuffled alone: those with the largest SHAP values. Feature views are
        always shuffled.
    dependence_features, dependence_rows, dependence_points
        Features whose partial dependence is computed, rows, and most values of each.
    """

    shap_rows: int = 1000
    kept_rows: int = 500
    permutation_rows: int = 2000
    permutation_repeats: int = 4
    permuted_features: int = 30
    dependence_features: int = 8
    dependence_rows: int = 500
    dependence_points: int = 20


@dataclass(frozen=True)
class ModelExplanation:
    """What moves a model's answers, and for whom it does how well.

    Attributes
    ----------
    family, task, part
        Of which family and task, and on which part of the split.
    rows, days
        What that part holds.
    metric, metric_title
        What permutation makes worse: the family's primary metric.
    seed
        Decides every draw.
    effort
        How much was looked at.
    attribution
        SHAP values: importance of every feature, and single rows.
    permuted, permuted_views
        Permutation importance of features, and of whole feature views; the latter is empty where
        the views were not given.
    dependence
        Partial dependence of the most important features.
    slices
        Metrics of each slice with its size and intervals.
    fairness
        Figures of each group.
    resampling
        How intervals over days were made.
    """

    family: str
    task: str
    part: str
    rows: int
    days: int
    metric: str
    metric_title: str
    seed: int
    effort: Effort
    attribution: Attribution
    permuted: tuple[PermutationImportance, ...]
    permuted_views: tuple[PermutationImportance, ...]
    dependence: tuple[PartialDependence, ...]
    slices: tuple[SliceResult, ...]
    fairness: Fairness
    resampling: Resampling

    @property
    def of(self) -> str:
        """What contributions add up to, in words."""
        return self.attribution.rows.of


def explain_model(
    estimator: Estimator,
    test: Part,
    family: ModelFamily,
    evaluation: Evaluation,
    *,
    views: Mapping[str, Sequence[str]] | None = None,
    effort: Effort = Effort(),
    tolerance: float = ADDITIVITY_TOLERANCE,
) -> ModelExplanation:
    """Explain a model on rows it has not seen.

    Parameters
    ----------
    estimator
        The model, freshly trained or loaded from the registry.
    test
        The test part of its training set.
    family
        Declares slices, primary metric and entity.
    evaluation
        Of this model on this part. Its answers, threshold, slices, seed and level are used.
    views
        Feature view to the features it gives the model, as `features_by_view` finds them. Default:
        permutation importance of single features only.
    effort
        How much it may cost.
    tolerance
        How far contributions may miss the score; see `ADDITIVITY_TOLERANCE`.

    Raises
    ------
    AdditivityError
        When a row's contributions do not add up to the model's raw score.
    MetricError
        When the evaluation is of another part, or lacks the threshold that its task needs.
    DatasetError
        When a declared slice is no column of the training set.
    """
    resampling = evaluation.resampling
    if evaluation.part != test.name or evaluation.rows != len(test):
        raise MetricError(
            f"the evaluation is of {evaluation.rows} rows of {evaluation.part}, but {len(test)} "
            f"rows of {test.name} are to be explained; evaluate the model on them"
        )
    generator = np.random.default_rng(resampling.seed)
    explained = _some(generator, len(test), effort.shap_rows)
    kept = _some(generator, len(explained), effort.kept_rows)
    varied = _some(generator, len(test), effort.dependence_rows)
    attribution = attribute(estimator, test, family, explained, kept, resampling, tolerance)
    largest = [one.feature for one in attribution.importance]
    metric = test.task.metric(family.primary_metric)
    permuted = partial(
        permutation_importance,
        estimator,
        test,
        metric,
        rows=effort.permutation_rows,
        repeats=effort.permutation_repeats,
        confidence=resampling.confidence,
        seed=resampling.seed,
    )
    return ModelExplanation(
        family=family.name,
        task=test.task.name,
        part=test.name,
        rows=len(test),
        days=evaluation.days,
        metric=metric.name,
        metric_title=metric.title,
        seed=resampling.seed,
        effort=effort,
        attribution=attribution,
        permuted=permuted({name: (name,) for name in largest[: effort.permuted_features]}),
        permuted_views=permuted(_of_the_model(views or {}, test)),
        dependence=partial_dependence(
            estimator,
            test,
            largest[: effort.dependence_features],
            rows=varied,
            points=effort.dependence_points,
        ),
        slices=evaluation.slices,
        fairness=fairness(
            test,
            evaluation.answers,
            family.slices,
            resampling,
            evaluation.decision.threshold if evaluation.decision else None,
        ),
        resampling=resampling,
    )


def features_by_view(selections: Sequence[Selection]) -> dict[str, tuple[str, ...]]:
    """Return which features each selected feature view gives a model, as `select_features` says."""
    return {
        selection.label: tuple(selection.prefix + name for name in selection.features)
        for selection in selections
    }


def _some(generator: np.random.Generator, there: int, wanted: int) -> NDArray[np.intp]:
    """Draw positions without repetition, in order."""
    return np.sort(generator.permutation(there)[:wanted])


def _of_the_model(views: Mapping[str, Sequence[str]], test: Part) -> dict[str, tuple[str, ...]]:
    """Leave out features, and views, that the model does not take."""
    taken = {
        view: tuple(name for name in features if name in test.schema.names)
        for view, features in views.items()
    }
    return {view: features for view, features in taken.items() if features}
