"""Quantiles for a model that only knows a point: its residuals on rows it did not learn from.

Split conformal prediction (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, Journal of the
American Statistical Association 113, 1094-1111), with signed residuals, so that an interval may be
longer on one side. The one place where a point becomes quantiles.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.estimators.protocol import EstimatorError
from mlops_assets.training.tasks import Regression


@dataclass(frozen=True)
class ConformalOffsets:
    """What is added to a point to get each quantile.

    Attributes
    ----------
    task
        Names the quantiles.
    offsets
        One a quantile, rising, in the label's unit.
    """

    task: Regression
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, task: Regression, label: NDArray[np.float64], point: NDArray[np.float64]) -> Self:
        """Find the offsets from rows that the model did not learn from.

        The upper quantiles take the order statistic that covers a new exchangeable row at least as
        often as they say, the lower ones mirror it; with few rows they end at the extreme residual.

        Parameters
        ----------
        task
            Names the quantiles.
        label, point
            Truth and answer of the rows, shape (rows,).

        Raises
        ------
        EstimatorError
            When there is no row.
        """
        if not len(label):
            raise EstimatorError("quantiles need residuals, but the validation part has no row")
        residuals = np.sort(label - point)
        rows = len(residuals)
        levels = np.array(task.quantiles)
        # The small term undoes the rounding of products such as 0.9 * 10.
        upper = np.ceil(levels * (rows + 1) - 1e-9) - 1
        lower = np.floor(levels * (rows + 1) + 1e-9) - 1
        at = np.clip(np.stack([lower, upper]), 0, rows - 1).astype(int)
        below, above = residuals[at[0]], residuals[at[1]]
        chosen = np.where(levels < 0.5, below, np.where(levels > 0.5, above, (below + above) / 2))
        return cls(task, tuple(float(offset) for offset in chosen))

    @property
    def middle(self) -> float:
        """What is added to the point to get the middle quantile."""
        return self.offsets[self.task.middle]

    def answers(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quantiles of each row: shape (rows,) for one, (rows, outputs) for several.

        Parameters
        ----------
        point
            The model's own answers, shape (rows,).
        """
        table: NDArray[np.float64] = point[:, None] + np.array(self.offsets)
        return table[:, 0] if len(self.offsets) == 1 else table
