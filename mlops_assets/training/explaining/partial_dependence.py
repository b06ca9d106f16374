"""Partial dependence: the mean answer when one feature is set to a value, all else as it was.

Friedman 2001 (Annals of Statistics 29), with quantiles of the single rows' curves, the individual
conditional expectations of Goldstein et al. 2015 (Journal of Computational and Graphical Statistics
24). It asks the model about rows that may not exist: set beside a feature that moves with others,
it shows what the model would say, not what would happen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.dataset import Part
from mlops_assets.training.estimators import Estimator
from mlops_assets.training.metrics import Floats
from mlops_assets.training.tasks import Multiclass, Task

if TYPE_CHECKING:
    import pandas as pd

ICE_QUANTILES = (0.1, 0.25, 0.75, 0.9)
"""Quantiles of the single rows' answers that are kept at each value."""

_INNER = (0.01, 0.99)  # the extreme values of a feature are rare and would stretch the axis
_RARE = 0.01  # missing values are a point of their own from this share on


@dataclass(frozen=True)
class PartialDependence:
    """How one output depends on one feature.

    Attributes
    ----------
    feature, output
        Of which on which.
    categorical
        Whether the values are categories.
    values
        Observed values the feature was set to: numbers in order, or categories by frequency; None
        for a missing number, last.
    mean
        Mean answer at each value, shape (values,).
    ice
        `ICE_QUANTILES` of the rows' answers at each value, shape (values, quantiles).
    share
        Share of the part's rows that have the category, or lie nearest the number, shape (values,).
    rows
        Over how many rows.
    """

    feature: str
    output: str
    categorical: bool
    values: tuple[float | str | None, ...]
    mean: Floats
    ice: Floats
    share: Floats
    rows: int

    @property
    def spread(self) -> float:
        """Difference between the largest and the smallest mean answer."""
        return float(np.ptp(self.mean))


def partial_dependence(
    estimator: Estimator,
    part: Part,
    features: Sequence[str],
    *,
    rows: NDArray[np.intp],
    points: int,
) -> tuple[PartialDependence, ...]:
    """Compute the dependence on several features, one at a time.

    Parameters
    ----------
    estimator
        The model.
    part
        Where rows and observed values are.
    features
        Which.
    rows
        Positions of the rows whose other features stay as they are.
    points
        Most values a feature is set to.

    Returns
    -------
    tuple of PartialDependence
        For each feature in turn; one for each class of a multiclass task, else one.
    """
    found = []
    for name in features:
        values, share = _observed(part, name, points)
        answers = estimator.predict(_with_values(part, name, rows, values))
        for output, numbers in _outputs(part.task, answers).items():
            curves = numbers.reshape(len(values), len(rows))
            found.append(
                PartialDependence(
                    feature=name,
                    output=output,
                    categorical=name in part.schema.categorical,
                    values=values,
                    mean=curves.mean(axis=1),
                    ice=np.quantile(curves, ICE_QUANTILES, axis=1).T,
                    share=share,
                    rows=len(rows),
                )
            )
    return tuple(found)


def _observed(part: Part, name: str, points: int) -> tuple[tuple[float | str | None, ...], Floats]:
    """Return values a feature takes, and the share of rows that each stands for."""
    column = part.features[name]
    if name in part.schema.categorical:
        counts = column.value_counts()
        counts = counts[counts > 0].head(points)
        return tuple(str(value) for value in counts.index), counts.to_numpy() / len(part)
    numbers = column.to_numpy(dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    distinct = np.unique(known)
    grid = (
        distinct
        if len(distinct) <= points
        else np.unique(np.quantile(known, np.linspace(*_INNER, points), method="nearest"))
    )
    nearest = np.searchsorted((grid[1:] + grid[:-1]) / 2, known)
    share = np.bincount(nearest, minlength=len(grid))[: len(grid)] / len(part)
    missing = 1 - len(known) / len(part)
    if missing < _RARE and len(grid):
        return tuple(grid.tolist()), share
    return (*grid.tolist(), None), np.r_[share, missing]


def _with_values(
    part: Part, name: str, rows: NDArray[np.intp], values: Sequence[float | str | None]
) -> "pd.DataFrame":
    """Repeat rows once for each value, with the feature set to it."""
    import pandas as pd

    frame = part.features.iloc[np.tile(rows, len(values))].reset_index(drop=True)
    column: Any
    if name in part.schema.categorical:
        categories = part.features[name].cat.categories
        codes = np.repeat([categories.get_loc(value) for value in values], len(rows))
        column = pd.Categorical.from_codes(codes, categories=categories)
    else:
        numbers = [np.nan if value is None else value for value in values]
        column = np.repeat(np.asarray(numbers, dtype=np.float32), len(rows))
    return frame.assign(**{name: column})


def _outputs(task: Task, answers: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    if isinstance(task, Multiclass):
        return {output: answers[:, i] for i, output in enumerate(task.outputs)}
    return {task.outputs[len(task.outputs) // 2]: task.point(answers)}
