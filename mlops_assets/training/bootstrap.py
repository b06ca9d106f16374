"""Day-blocked bootstrap: intervals of a metric, and of the difference between two models.

Rows of one day share weather, crews and delays, so resampling single rows would give intervals
far too narrow. Whole days are resampled with replacement instead: the cluster bootstrap of Field &
Welsh 2007 (Journal of the Royal Statistical Society B 69, 369-390), with days as the blocks of
Carlstein 1986 (Annals of Statistics 14, 1171-1179). Intervals are percentile intervals.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.metrics import Floats, Metric, MetricError, Scored, Weighted
from mlops_assets.training.tasks import Task

MINIMUM_BLOCKS = 5
"""Fewer days than this give no interval."""
_MAXIMUM_UNDEFINED = 0.01
_BATCH_CELLS = 8_000_000  # cells of the weights matrix held at once, about 64 MB


@dataclass(frozen=True)
class Estimate:
    """A measured value and its interval.

    Attributes
    ----------
    value
        On all rows; None when the metric cannot be computed.
    low, high
        Ends of the interval; None when there is none.
    reason
        Why the value or the interval is missing; empty when both are there.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"not computable: {self.reason}"
        if self.low is None or self.high is None:
            return f"{self.value:.4f} (no interval: {self.reason})"
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True)
class Resampling:
    """How intervals are made; the same numbers give the same draws.

    Attributes
    ----------
    draws
        Number of resamples.
    seed
        Seed of the resampling.
    confidence
        Level of the interval.
    """

    draws: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def interval(self, values: Floats) -> tuple[float, float]:
        """Return the central interval that holds `confidence` of the draws.

        Raises
        ------
        MetricError
            When more than one draw in a hundred leaves the metric undefined.
        """
        defined = values[np.isfinite(values)]
        undefined = len(values) - len(defined)
        if undefined > _MAXIMUM_UNDEFINED * len(values):
            raise MetricError(
                f"{undefined} of {len(values)} resamples leave it undefined; there are too few "
                "rows of one class"
            )
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


def _each_draw(blocks: int, resampling: Resampling, *functions: Weighted) -> list[Floats]:
    """Evaluate functions of block weights over the same draws, in batches of bounded memory."""
    generator = np.random.default_rng(resampling.seed)
    chances = np.full(blocks, 1 / blocks)
    per_batch = max(1, _BATCH_CELLS // blocks)
    parts: list[list[Floats]] = [[] for _ in functions]
    for first in range(0, resampling.draws, per_batch):
        size = min(per_batch, resampling.draws - first)
        weights = generator.multinomial(blocks, chances, size=size).astype(np.float64)
        for part, function in zip(parts, functions, strict=True):
            part.append(function(weights))
    return [np.concatenate(part) for part in parts]


def estimate(metric: Metric, rows: Scored, resampling: Resampling) -> Estimate:
    """Measure a metric with its interval.

    Returns
    -------
    Estimate
        With the reason, never a made-up number, where a value or an interval does not exist.
    """
    return estimates([metric], rows, resampling)[metric.name]


def estimates(
    metrics: Iterable[Metric], rows: Scored, resampling: Resampling
) -> dict[str, Estimate]:
    """Measure metrics with their intervals, all from the same draws.

    Returns
    -------
    dict
        By the metric's name, as `estimate` gives each.
    """
    found: dict[str, Estimate] = {}
    weighted: dict[str, Weighted] = {}
    ones = np.ones((1, rows.blocks))
    for metric in metrics:
        try:
            function = metric.reduce(rows)
        except MetricError as error:
            found[metric.name] = Estimate(None, reason=str(error))
            continue
        value = float(function(ones)[0])
        if np.isfinite(value):
            found[metric.name] = Estimate(value)
            weighted[metric.name] = function
        else:
            found[metric.name] = Estimate(None, reason=f"it is {value} on these rows")
    if rows.blocks < MINIMUM_BLOCKS:
        reason = f"{rows.blocks} days; at least {MINIMUM_BLOCKS} are needed"
        return found | {name: replace(found[name], reason=reason) for name in weighted}
    draws = _each_draw(rows.blocks, resampling, *weighted.values())
    for name, values in zip(weighted, draws, strict=True):
        try:
            low, high = resampling.interval(values)
        except MetricError as error:
            found[name] = replace(found[name], reason=str(error))
        else:
            found[name] = replace(found[name], low=low, high=high)
    return found


@dataclass(frozen=True)
class PairedDifference:
    """How much better model B is than model A on the same rows.

    Attributes
    ----------
    metric
        Name of the metric.
    value_a, value_b
        Each model's metric on all rows.
    gain, low, high
        Improvement of B over A, positive when B is better whatever the metric's direction, with its
        interval.
    identical
        Whether both models gave the same answer to every row.
    rows, days
        How many there were.
    resampling
        How the interval was made.
    """

    metric: str
    value_a: float
    value_b: float
    gain: float
    low: float
    high: float
    identical: bool
    rows: int
    days: int
    resampling: Resampling


def paired_difference(
    metric: str,
    task: Task,
    label: NDArray[np.generic],
    answers_a: NDArray[np.generic],
    answers_b: NDArray[np.generic],
    days: NDArray[np.generic],
    resampling: Resampling,
) -> PairedDifference:
    """Compare two models on the same rows and the same resamples.

    Parameters
    ----------
    metric
        Name of a metric that has a direction.
    task
        What kind of label and answers they are.
    label, answers_a, answers_b, days
        Arrays, row by row the same: label and days of shape (rows,), answers as the task says.
    resampling
        Draws, seed and level.

    Raises
    ------
    MetricError
        When the metric has no direction, cannot be computed on these rows, or has no interval. The
        caller must not promote then.
    """
    chosen = task.metric(metric)
    sign = chosen.sign
    rows_a = Scored.of(task, label, answers_a, days)
    rows_b = Scored.of(task, label, answers_b, days)
    if rows_a.blocks < MINIMUM_BLOCKS:
        raise MetricError(
            f"{rows_a.blocks} days are too few to compare two models; "
            f"at least {MINIMUM_BLOCKS} are needed"
        )
    a, b = chosen.reduce(rows_a), chosen.reduce(rows_b)
    ones = np.ones((1, rows_a.blocks))
    value_a, value_b = float(a(ones)[0]), float(b(ones)[0])
    draws_a, draws_b = _each_draw(rows_a.blocks, resampling, a, b)
    low, high = resampling.interval(sign * (draws_b - draws_a))
    return PairedDifference(
        metric=metric,
        value_a=value_a,
        value_b=value_b,
        gain=sign * (value_b - value_a),
        low=low,
        high=high,
        identical=bool(np.array_equal(rows_a.answers, rows_b.answers)),
        rows=len(rows_a.label),
        days=rows_a.blocks,
        resampling=resampling,
    )
