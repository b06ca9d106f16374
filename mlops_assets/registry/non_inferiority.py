"""Non-inferiority by slice: a challenger must not be worse for some group of rows.

A better average can hide a group for whom the new model is worse. So for each value of each
declared column the two models are compared on that value's rows, paired and day-blocked as for all
rows, and the interval of the gain must lie above minus the margin (Piaggio et al. 2012, JAMA 308,
2594-2604).

*Many values.* Every one must pass, which is an intersection-union test (Berger 1982, Technometrics
24, 295-300): a challenger that is worse than the margin somewhere gets through with at most the
probability of one interval, so nothing is corrected for how many there are. What many values cost
is power: the more there are, the likelier an equal model fails one by chance.

*Small values.* An interval that reaches below minus the margin can mean a worse model or too few
rows. It counts as worse only if the rows could have told: if a model exactly as good would have
passed with a probability of at least `POWER`, or if the whole interval lies below minus the margin.
Otherwise the value is too small to judge alone; all such values of a column are judged together, as
one group. What is too small even then is reported as such and refuses nothing, unless nothing of a
column could be judged.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import MINIMUM_BLOCKS, Resampling
from mlops_assets.training.dataset import Part, column_for_slices
from mlops_assets.training.evaluation import SMALL_SLICE
from mlops_assets.training.metrics import Floats, Metric, MetricError, Scored

POWER = 0.8
"""Chance with which an equally good model must pass, for a failure to mean anything."""

TOGETHER = "(small ones together)"
"""Stands for the values of a column that are too small to be judged alone."""


class Verdict(StrEnum):
    """What the rows of a slice say."""

    not_worse = "not worse"
    worse = "worse"
    too_small = "too small to judge"


@dataclass(frozen=True)
class SliceComparison:
    """Challenger against opponent on the rows that share one value of a column.

    Attributes
    ----------
    column, value
        Which rows.
    rows, days
        How many there are.
    opponent, challenger
        Each model's metric on them; None where it cannot be computed.
    gain, low, high
        Improvement of the challenger, positive when better, with its interval; None where there is
        none.
    verdict
        What follows.
    reason
        Why it is too small; empty otherwise.
    """

    column: str
    value: str
    rows: int
    days: int
    opponent: float | None
    challenger: float | None
    gain: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        if self.gain is None:
            return f"{self.column} {self.value}: {self.reason}"
        if self.low is None:
            return f"{self.column} {self.value} {self.gain:+.4f} (no interval: {self.reason})"
        return f"{self.column} {self.value} {self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True)
class Sides:
    """Both models' answers to the same rows, and the draws on which they are compared.

    Attributes
    ----------
    part
        The rows.
    metric
        By what; it has a direction.
    opponent, challenger
        Answers, row by row to `part`.
    resampling
        Draws, seed and level. Every slice sees the same resampled days.
    """

    part: Part
    metric: Metric
    opponent: Floats
    challenger: Floats
    resampling: Resampling


def compare_slices(
    sides: Sides, columns: tuple[str, ...], margin: float
) -> tuple[SliceComparison, ...]:
    """Compare two models on every value of some columns.

    Parameters
    ----------
    sides
        The models' answers.
    columns
        Of the training set; `month` and `hour` are always there.
    margin
        How much worse the challenger may be, in units of the metric.

    Raises
    ------
    DatasetError
        When a column is none of the training set's.
    """
    days, day = np.unique(sides.part.days, return_inverse=True)
    generator = np.random.default_rng(sides.resampling.seed)
    chances = np.full(len(days), 1 / len(days))
    weights = generator.multinomial(len(days), chances, size=sides.resampling.draws).astype(float)
    found: list[SliceComparison] = []
    for column in columns:
        values = column_for_slices(sides.part, column).astype(str).to_numpy(dtype=str)
        names, group = np.unique(values, return_inverse=True)
        small: list[int] = []
        for index, name in enumerate(names):
            slice_ = _compare(sides, group == index, day, weights, margin)
            found.append(replace(slice_, column=column, value=str(name)))
            if slice_.verdict is Verdict.too_small:
                small.append(index)
        if len(small) > 1:
            together = _compare(sides, np.isin(group, small), day, weights, margin)
            found.append(replace(together, column=column, value=TOGETHER))
    return tuple(found)


def _compare(
    sides: Sides,
    chosen: NDArray[np.bool_],
    day: NDArray[np.intp],
    weights: Floats,
    margin: float,
) -> SliceComparison:
    """Compare on some rows; column and value are for the caller to fill in."""
    part, metric = sides.part, sides.metric
    inside = np.unique(day[chosen])
    blank = SliceComparison(
        *("", "", int(chosen.sum()), len(inside)),
        *(None, None, None, None, None),
        Verdict.too_small,
    )
    try:
        opponent, challenger = (
            metric.reduce(
                Scored.of(part.task, part.label[chosen], answers[chosen], part.days[chosen])
            )
            for answers in (sides.opponent, sides.challenger)
        )
    except MetricError as error:
        return replace(blank, reason=str(error))
    sign = metric.sign
    ones = np.ones((1, len(inside)))
    was, is_ = float(opponent(ones)[0]), float(challenger(ones)[0])
    valued = replace(blank, opponent=was, challenger=is_, gain=sign * (is_ - was))
    if len(inside) < MINIMUM_BLOCKS:
        return replace(valued, reason=f"{len(inside)} days; at least {MINIMUM_BLOCKS} are needed")
    here = np.ascontiguousarray(weights[:, inside])
    gains = sign * (challenger(here) - opponent(here))
    try:
        low, high = sides.resampling.interval(gains)
    except MetricError as error:
        return replace(valued, reason=str(error))
    compared = replace(valued, low=low, high=high)
    if compared.rows < SMALL_SLICE:
        return replace(compared, reason=f"{compared.rows} rows; at least {SMALL_SLICE} are needed")
    if low > -margin:
        return replace(compared, verdict=Verdict.not_worse)
    shown = _least_shown(gains, sides.resampling.confidence)
    if high >= -margin and shown > margin:
        return replace(compared, reason=f"its rows could show no margin below {shown:.4f}")
    return replace(compared, verdict=Verdict.worse)


def _least_shown(gains: Floats, confidence: float) -> float:
    """Return the least margin at which an equally good model passes with `POWER`."""
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return float(quantiles * np.nanstd(gains))


def judged(slices: tuple[SliceComparison, ...]) -> Iterator[SliceComparison]:
    """Give the slices that were large enough to be judged."""
    return (found for found in slices if found.verdict is not Verdict.too_small)


def columns_unjudged(slices: tuple[SliceComparison, ...]) -> tuple[str, ...]:
    """Return the columns of which no value, not even the small ones together, could be judged."""
    done = {found.column for found in judged(slices)}
    return tuple(dict.fromkeys(found.column for found in slices if found.column not in done))
