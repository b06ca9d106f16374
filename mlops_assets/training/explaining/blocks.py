"""Day-blocked bootstrap of ratios of sums: means, shares and rates, many of them on the same draws.

Metrics have their own reductions (`mlops_assets.training.metrics`). What explanations need is
simpler, a sum over rows divided by another, but for hundreds of features or groups at once, and
with differences between groups that must be taken draw by draw.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import MINIMUM_BLOCKS, Estimate, Resampling
from mlops_assets.training.metrics import Floats, MetricError


@dataclass(frozen=True)
class DayBlocks:
    """Which day each row belongs to, and how often each day counts in each draw.

    Attributes
    ----------
    index
        Index of the row's day, shape (rows,).
    weights
        Counts of the days, shape (draws, days).
    resampling
        How they were drawn.
    """

    index: NDArray[np.intp]
    weights: Floats
    resampling: Resampling

    @classmethod
    def of(cls, days: NDArray[np.generic], resampling: Resampling) -> "DayBlocks":
        """Draw weights for the days of rows, shape (rows,)."""
        names, index = np.unique(days, return_inverse=True)
        generator = np.random.default_rng(resampling.seed)
        chances = np.full(len(names), 1 / len(names))
        weights = generator.multinomial(len(names), chances, size=resampling.draws)
        return cls(index.reshape(-1), weights.astype(np.float64), resampling)

    @property
    def days(self) -> int:
        """How many there are."""
        return int(self.weights.shape[1])

    def sums(self, values: Floats) -> Floats:
        """Sum values of shape (rows, columns) within each day, giving shape (days, columns)."""
        totals = np.zeros((self.days, values.shape[1]))
        np.add.at(totals, self.index, values)
        return totals

    def ratios(self, numerator: Floats, denominator: Floats) -> "Ratios":
        """Divide sums by sums, on all rows and in every draw.

        Parameters
        ----------
        numerator, denominator
            Sums within each day, shape (days, columns).
        """
        return Ratios(
            self,
            _divided(numerator.sum(axis=0), denominator.sum(axis=0)),
            _divided(self.weights @ numerator, self.weights @ denominator),
        )


@dataclass(frozen=True)
class Ratios:
    """Ratios of sums.

    Attributes
    ----------
    blocks
        The draws they were computed on.
    value
        On all rows, shape (columns,); NaN where there is nothing to divide by.
    draws
        In each draw, shape (draws, columns).
    """

    blocks: DayBlocks
    value: Floats
    draws: Floats

    def estimate(self, column: int, undefined: str) -> Estimate:
        """Return one ratio with its interval; `undefined` says why there is none."""
        if np.isnan(self.value[column]):
            return Estimate(None, reason=undefined)
        return _with_interval(self.blocks, float(self.value[column]), self.draws[:, column])

    def difference(self, minuend: int, subtrahend: int) -> Estimate:
        """Return how much one ratio is above another, taken draw by draw."""
        return _with_interval(
            self.blocks,
            float(self.value[minuend] - self.value[subtrahend]),
            self.draws[:, minuend] - self.draws[:, subtrahend],
        )


def _with_interval(blocks: DayBlocks, value: float, draws: Floats) -> Estimate:
    if blocks.days < MINIMUM_BLOCKS:
        return Estimate(value, reason=f"{blocks.days} days; at least {MINIMUM_BLOCKS} are needed")
    try:
        low, high = blocks.resampling.interval(draws)
    except MetricError as error:
        return Estimate(value, reason=str(error))
    return Estimate(value, low, high)


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0
    )
