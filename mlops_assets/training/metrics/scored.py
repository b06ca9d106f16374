"""Rows with their truth and their answers, and what a metric is.

A metric is first reduced to statistics *per block* (a block is a calendar day) and then evaluated
for any number of block weightings at once. The plain metric is the weighting with ones; a bootstrap
draw is a weighting with the counts of a resample. So the point value and its interval come from the
same code, and 2,000 draws cost little more than one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.tasks import Task, TaskError

Floats = NDArray[np.float64]
Weighted = Callable[[Floats], Floats]
"""Takes weights of shape (draws, blocks) and gives the metric of each draw, shape (draws,); NaN
where a draw leaves it undefined."""


class MetricError(ValueError):
    """A metric cannot be computed from these rows; the message says why."""


@dataclass(frozen=True)
class Scored:
    """Rows with the truth, a model's answer, and the block each belongs to.

    Attributes
    ----------
    task
        What kind of label and answer they are.
    label
        As the task encodes it, shape (rows,).
    answers
        Shape (rows,) for a task with one output, (rows, outputs) otherwise.
    block
        Index of the row's block, shape (rows,), from 0 to `blocks` - 1.
    blocks
        How many blocks there are.
    """

    task: Task
    label: Floats
    answers: Floats
    block: NDArray[np.intp]
    blocks: int

    @classmethod
    def of(
        cls,
        task: Task,
        label: NDArray[np.generic],
        answers: NDArray[np.generic],
        days: NDArray[np.generic],
    ) -> "Scored":
        """Check the rows and number their days.

        Parameters
        ----------
        task
            Says which labels and answers are right.
        label, days
            Arrays of shape (rows,); days are anything that sorts.
        answers
            Shape (rows,) or (rows, outputs).

        Raises
        ------
        MetricError
            When the shapes differ, there is no row, or a label or an answer is not one of the task.
        """
        if label.ndim != 1 or not label.shape == days.shape == answers.shape[:1]:
            raise MetricError(
                f"label {label.shape}, answers {answers.shape} and days {days.shape} must be "
                "equally long, label and days one-dimensional"
            )
        if not len(label):
            raise MetricError("there is no row to measure on")
        truth, given = label.astype(np.float64), answers.astype(np.float64)
        try:
            task.check_encoded(truth)
            task.check_answers(given, len(truth))
        except TaskError as error:
            raise MetricError(str(error)) from error
        names, block = np.unique(days, return_inverse=True)
        return cls(task, truth, given, block.reshape(-1), len(names))

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: NDArray[np.bool_]) -> "Scored":
        """Return some of the rows, with their blocks numbered afresh.

        Parameters
        ----------
        chosen
            Which ones, shape (rows,).
        """
        kept, block = np.unique(self.block[chosen], return_inverse=True)
        label, answers = self.label[chosen], self.answers[chosen]
        return Scored(self.task, label, answers, block.reshape(-1), len(kept))

    def per_block(self, values: Floats) -> Floats:
        """Sum values of shape (rows,) within each block, giving shape (blocks,)."""
        sums: Floats = np.bincount(self.block, weights=values, minlength=self.blocks).astype(float)
        return sums

    @property
    def rows_per_block(self) -> Floats:
        """How many rows each block has, shape (blocks,)."""
        return np.bincount(self.block, minlength=self.blocks).astype(np.float64)


@dataclass(frozen=True)
class Metric:
    """A named metric.

    Attributes
    ----------
    name, title
        Key in logs, and name for people.
    greater_is_better
        Direction of improvement; None for a metric whose ideal is a value in between.
    ideal
        The best possible value.
    reduce
        From rows to a function of block weights. Raises `MetricError` when the metric is undefined.
    """

    name: str
    title: str
    greater_is_better: bool | None
    ideal: float
    reduce: Callable[[Scored], Weighted]

    @property
    def sign(self) -> float:
        """What to multiply a value by so that more is better.

        Raises
        ------
        MetricError
            When the metric has no direction.
        """
        if self.greater_is_better is None:
            raise MetricError(f"{self.name} has no direction, so nothing can be ranked by it")
        return 1.0 if self.greater_is_better else -1.0

    @property
    def better(self) -> str:
        """Which values are better, in a word or two."""
        if self.greater_is_better is None:
            return f"near {self.ideal:g}"
        return "higher" if self.greater_is_better else "lower"

    def value(self, rows: Scored) -> float:
        """Measure it on all rows, without an interval.

        Raises
        ------
        MetricError
            When it is undefined.
        """
        return float(self.reduce(rows)(np.ones((1, rows.blocks)))[0])


def named(*metrics: Metric) -> dict[str, Metric]:
    """Return the metrics by name, in the order given."""
    return {metric.name: metric for metric in metrics}


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, giving NaN where a draw holds nothing to divide by."""
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0
    )


def mean(per_row: Callable[[Scored], Floats]) -> Callable[[Scored], Weighted]:
    """Make the reduction of a metric that is a mean over rows.

    Parameters
    ----------
    per_row
        From rows to one value each, shape (rows,).
    """

    def reduce(rows: Scored) -> Weighted:
        total, count = rows.per_block(per_row(rows)), rows.rows_per_block
        return lambda weights: ratio(weights @ total, weights @ count)

    return reduce
