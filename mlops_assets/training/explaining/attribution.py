"""Which features move the answer, by SHAP values: over many rows, and row by row.

Contributions come from the estimator's own `explain`. Here they are checked to add up, summarised,
and kept for a sample of rows. SHAP values: Lundberg & Lee 2017 (NeurIPS 30).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate, Resampling
from mlops_assets.training.dataset import Part, column_for_slices
from mlops_assets.training.estimators import Estimator, EstimatorError, Explanation
from mlops_assets.training.explaining.blocks import DayBlocks
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import Floats
from mlops_assets.training.tasks import Multiclass

if TYPE_CHECKING:
    import pandas as pd

ADDITIVITY_TOLERANCE = 1e-4
"""Largest gap between a row's score and the sum of its contributions, as a share of the score, and
absolutely below a score of one. Exact methods stay orders of magnitude below it."""

CLEAR_DIRECTION = 0.5
"""From this rank correlation on, either way, a feature is said to push the score up or down."""


class AdditivityError(EstimatorError):
    """Contributions do not add up to the model's raw score; the message names row and gap."""


@dataclass(frozen=True)
class ShapImportance:
    """How much one feature moves the score.

    Attributes
    ----------
    feature
        Its name.
    categorical
        Whether it is a category.
    size
        Mean absolute SHAP value, in units of the score, with its day-blocked interval.
    share
        Of the sum of all features' sizes.
    direction
        Spearman's rank correlation of value and contribution: near 1, larger values push the score
        up; near -1, down; near 0, neither way throughout. None for a category, a feature without
        two different values, and where the score is that of a class that differs between rows.
    """

    feature: str
    categorical: bool
    size: Estimate
    share: float
    direction: float | None


@dataclass(frozen=True)
class RowExplanations:
    """Single rows with what each feature added to their score.

    Attributes
    ----------
    of
        What the contributions add up to, in words.
    entities
        Entity keys of each row.
    days
        Calendar days, shape (rows,).
    label, answer
        Truth, and the one number people read of the model's answer, shape (rows,).
    score, expected
        `expected + contributions.sum(axis=1)` is `score`, shape (rows,).
    features
        The rows' values, one column a feature.
    contributions
        Shape (rows, features).
    """

    of: str
    entities: tuple[dict[str, str | int | float | None], ...]
    days: NDArray[np.datetime64]
    label: Floats
    answer: Floats
    score: Floats
    expected: Floats
    features: "pd.DataFrame"
    contributions: Floats

    def __len__(self) -> int:
        return len(self.entities)


@dataclass(frozen=True)
class Attribution:
    """What SHAP values say about a model.

    Attributes
    ----------
    importance
        Of every feature, largest first.
    rows
        The sample that is kept row by row.
    explained
        How many rows the importance rests on.
    additivity_error
        Largest gap between a score and the sum of its contributions.
    """

    importance: tuple[ShapImportance, ...]
    rows: RowExplanations
    explained: int
    additivity_error: float


def attribute(
    estimator: Estimator,
    part: Part,
    family: ModelFamily,
    rows: NDArray[np.intp],
    kept: NDArray[np.intp],
    resampling: Resampling,
    tolerance: float = ADDITIVITY_TOLERANCE,
) -> Attribution:
    """Explain rows of a part.

    Parameters
    ----------
    estimator
        The model.
    part
        Where the rows are.
    family
        Names the entity.
    rows
        Positions of the rows to explain, shape (rows,).
    kept
        Positions within `rows` of those to keep one by one.
    resampling
        Draws, seed and level of the intervals.
    tolerance
        See `ADDITIVITY_TOLERANCE`.

    Raises
    ------
    AdditivityError
        When a row's contributions do not add up to its score.
    """
    features = part.features.iloc[rows]
    explanation = estimator.explain(features)
    entities = _entities(part, family, rows)
    require_additive(explanation, entities, tolerance)
    chosen = features.iloc[kept].reset_index(drop=True)
    return Attribution(
        importance=_importance(explanation, features, part, rows, resampling),
        rows=RowExplanations(
            of=explanation.of,
            entities=tuple(entities[i] for i in kept),
            days=part.days[rows][kept],
            label=part.label[rows][kept],
            answer=part.task.point(estimator.predict(chosen)),
            score=explanation.score[kept],
            expected=explanation.expected[kept],
            features=chosen,
            contributions=explanation.contributions[kept],
        ),
        explained=len(rows),
        additivity_error=explanation.additivity_error,
    )


def require_additive(
    explanation: Explanation,
    entities: tuple[dict[str, str | int | float | None], ...],
    tolerance: float = ADDITIVITY_TOLERANCE,
) -> None:
    """Check that every row's contributions add up to its score.

    Raises
    ------
    AdditivityError
        Naming the worst row, its score, the sum and the gap; also when a number is not finite.
    """
    total = explanation.expected + explanation.contributions.sum(axis=1)
    gap = np.abs(total - explanation.score)
    excess = gap / np.maximum(1.0, np.abs(explanation.score))
    broken = np.flatnonzero(~(excess <= tolerance))
    if not len(broken):
        return
    worst = int(broken[np.argmax(np.nan_to_num(excess[broken], nan=np.inf))])
    key = ", ".join(f"{name}={value!r}" for name, value in entities[worst].items())
    raise AdditivityError(
        f"row {key}: its contributions add up to {total[worst]:.6g}, but "
        f"{explanation.of} is {explanation.score[worst]:.6g}: a gap of {gap[worst]:.3g} where "
        f"{tolerance:.0e} of the score is allowed, in {len(broken)} of {len(gap)} rows. The "
        "estimator's explain does not explain what its predict answers"
    )


def _entities(
    part: Part, family: ModelFamily, rows: NDArray[np.intp]
) -> tuple[dict[str, str | int | float | None], ...]:
    columns = {
        name: column_for_slices(part, name).iloc[rows].tolist() for name in family.spine.entity
    }
    return tuple(
        dict(zip(columns, (_plain(value) for value in values), strict=True))
        for values in zip(*columns.values(), strict=True)
    )


def _plain(value: object) -> str | int | float | None:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _importance(
    explanation: Explanation,
    features: "pd.DataFrame",
    part: Part,
    rows: NDArray[np.intp],
    resampling: Resampling,
) -> tuple[ShapImportance, ...]:
    blocks = DayBlocks.of(part.days[rows], resampling)
    absolute = np.abs(explanation.contributions)
    counts = np.broadcast_to(blocks.sums(np.ones((len(rows), 1))), (blocks.days, absolute.shape[1]))
    sizes = blocks.ratios(blocks.sums(absolute), np.ascontiguousarray(counts))
    total = float(sizes.value.sum())
    found = [
        ShapImportance(
            feature=name,
            categorical=name in part.schema.categorical,
            size=sizes.estimate(i, "no row was explained"),
            share=float(sizes.value[i]) / total if total else 0.0,
            direction=None
            if isinstance(part.task, Multiclass) or name in part.schema.categorical
            else _rank_correlation(
                features[name].to_numpy(dtype=np.float64), explanation.contributions[:, i]
            ),
        )
        for i, name in enumerate(explanation.features)
    ]
    return tuple(sorted(found, key=lambda one: -one.share))


def _rank_correlation(values: Floats, contributions: Floats) -> float | None:
    from scipy.stats import rankdata

    known = np.isfinite(values)
    one, other = rankdata(values[known]), rankdata(contributions[known])
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])
