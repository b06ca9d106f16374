"""Fairness: how often, and in which way, a model is wrong for each group.

Groups are the values of the family's slices. What is compared follows from the task: for yes or no,
the rates of Hardt, Price & Srebro 2016 (NeurIPS 29) and calibration within groups (Kleinberg,
Mullainathan & Raghavan 2017), which cannot all be equal where groups differ in how often the truth
is yes. So the figures are shown beside each other, and none of them is made into a verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate, Resampling
from mlops_assets.training.dataset import Part, column_for_slices
from mlops_assets.training.evaluation import SMALL_SLICE
from mlops_assets.training.explaining.blocks import DayBlocks, Ratios
from mlops_assets.training.metrics import Floats, MetricError
from mlops_assets.training.tasks import Binary, Multiclass, Task, in_order

SMALL_SUPPORT = 50
"""A figure that rests on fewer rows is marked as small, even in a large group."""


@dataclass(frozen=True)
class Answers:
    """Rows with the truth and what the model made of them.

    Attributes
    ----------
    label
        The truth, shape (rows,).
    point
        The one number people read of the model's answer, shape (rows,).
    low, high
        First and last column of the answers: the outer quantiles of a regression.
    called
        Whether the answer is called yes, or the predicted class is right; zeros and ones.
    """

    label: Floats
    point: Floats
    low: Floats
    high: Floats
    called: Floats


@dataclass(frozen=True)
class Figure:
    """One way in which groups can be treated differently: a mean over some of their rows.

    Attributes
    ----------
    name, title, meaning
        Key, name for people, and what it says.
    is_share
        Whether it is a share of rows; otherwise it is in the unit of the label or a difference.
    values
        What is averaged, shape (rows,).
    over
        The rows it is averaged over, as zeros and ones, shape (rows,).
    empty
        Why it is undefined for a group without such rows.
    """

    name: str
    title: str
    meaning: str
    is_share: bool
    values: Callable[[Answers], Floats]
    over: Callable[[Answers], Floats]
    empty: str


@dataclass(frozen=True)
class GroupFigure:
    """A figure of one group.

    Attributes
    ----------
    column, group
        Which group: the slice and its value.
    figure
        Name of the figure.
    estimate
        Its value and day-blocked interval.
    rows
        How many rows it rests on.
    small
        Whether the group has fewer than `SMALL_SLICE` rows or the figure fewer than
        `SMALL_SUPPORT`: it then says little, and is left out of the largest gap.
    """

    column: str
    group: str
    figure: str
    estimate: Estimate
    rows: int
    small: bool


@dataclass(frozen=True)
class LargestGap:
    """The two groups of a slice that are furthest apart in a figure.

    Attributes
    ----------
    column, figure
        Of which slice in what.
    highest, lowest
        The groups; small ones do not take part.
    gap
        Difference between them. Its interval is that of these two groups' difference, and since
        they were picked for being furthest apart, it errs on the side of a large gap.
    """

    column: str
    figure: str
    highest: str
    lowest: str
    gap: Estimate


@dataclass(frozen=True)
class Fairness:
    """Figures of every group of every slice.

    Attributes
    ----------
    figures
        What was computed, in order.
    overall
        Each figure over all rows, by name.
    groups
        The numbers, slice by slice, figure by figure, group by group.
    gaps
        The largest gap of each figure in each slice; none where fewer than two groups are large
        enough.
    threshold
        At and above which the answer was called yes; None for a task without.
    """

    figures: tuple[Figure, ...]
    overall: Mapping[str, Estimate]
    groups: tuple[GroupFigure, ...]
    gaps: tuple[LargestGap, ...]
    threshold: float | None

    @property
    def columns(self) -> tuple[str, ...]:
        """The slices, in declared order."""
        return tuple(dict.fromkeys(found.column for found in self.groups))


def _ones(rows: Answers) -> Floats:
    return np.ones_like(rows.label)


_BINARY = (
    Figure(
        "selection_rate", "Called yes", "share of rows called yes", True,
        lambda r: r.called, _ones, "no row",
    ),
    Figure(
        "true_positive_rate", "Found (TPR)", "share of the true yes that is called yes", True,
        lambda r: r.called, lambda r: r.label, "no row is yes",
    ),
    Figure(
        "false_positive_rate", "False alarms (FPR)", "share of the true no that is called yes",
        True, lambda r: r.called, lambda r: 1 - r.label, "no row is no",
    ),
    Figure(
        "precision", "Precision", "share of what is called yes that is yes", True,
        lambda r: r.label, lambda r: r.called, "no row is called yes",
    ),
    Figure(
        "calibration_gap", "Calibration gap", "mean probability less the rate of yes", False,
        lambda r: r.point - r.label, _ones, "no row",
    ),
)  # fmt: skip
_REGRESSION = (
    Figure(
        "mean_error", "Mean error", "mean of answer less truth", False,
        lambda r: r.point - r.label, _ones, "no row",
    ),
    Figure(
        "mae", "Mean absolute error", "mean distance of answer and truth", False,
        lambda r: np.abs(r.point - r.label), _ones, "no row",
    ),
    Figure(
        "coverage", "Interval coverage", "share of truths inside the outer quantiles", True,
        lambda r: ((r.low <= r.label) & (r.label <= r.high)).astype(np.float64), _ones, "no row",
    ),
)  # fmt: skip
_MULTICLASS = (
    Figure(
        "accuracy", "Accuracy", "share of rows whose class is predicted right", True,
        lambda r: r.called, _ones, "no row",
    ),
    Figure(
        "confidence_gap", "Confidence gap", "mean probability of the predicted class less accuracy",
        False, lambda r: r.point - r.called, _ones, "no row",
    ),
)  # fmt: skip


def figures_of(task: Task) -> tuple[Figure, ...]:
    """Return what is compared between groups for a task."""
    match task:
        case Binary():
            return _BINARY
        case Multiclass():
            return _MULTICLASS
        case _ if len(task.outputs) > 1:
            return _REGRESSION
        case _:
            return _REGRESSION[:-1]  # a single quantile makes no interval that could cover


def fairness(
    part: Part,
    answers: Floats,
    slices: Sequence[str],
    resampling: Resampling,
    threshold: float | None = None,
) -> Fairness:
    """Compute the figures of every group.

    Parameters
    ----------
    part
        The rows and their truth.
    answers
        As `Estimator.predict` gives them, row by row.
    slices
        Columns whose values are the groups.
    resampling
        Draws, seed and level of the intervals.
    threshold
        At and above which the answer is yes; needed for a binary task.

    Raises
    ------
    MetricError
        When a binary task comes without a threshold.
    DatasetError
        When a slice is no column of the training set.
    """
    figures = figures_of(part.task)
    rows = _answers(part, answers, threshold)
    values = np.stack([figure.values(rows) for figure in figures], axis=1)
    over = np.stack([figure.over(rows) for figure in figures], axis=1)
    blocks = DayBlocks.of(part.days, resampling)
    whole = blocks.ratios(blocks.sums(over * values), blocks.sums(over))
    groups: list[GroupFigure] = []
    gaps: list[LargestGap] = []
    for column in slices:
        names, group = _groups(part, column)
        inside = (group[:, None] == np.arange(len(names))[None, :]).astype(np.float64)
        counts = inside.sum(axis=0)
        for i, figure in enumerate(figures):
            denominator = inside * over[:, i : i + 1]
            ratios = blocks.ratios(
                blocks.sums(denominator * values[:, i : i + 1]), blocks.sums(denominator)
            )
            support = denominator.sum(axis=0)
            small = (counts < SMALL_SLICE) | (support < SMALL_SUPPORT)
            groups += [
                GroupFigure(
                    column=column,
                    group=name,
                    figure=figure.name,
                    estimate=ratios.estimate(j, figure.empty),
                    rows=int(support[j]),
                    small=bool(small[j]),
                )
                for j, name in enumerate(names)
            ]
            gaps += _largest(column, figure, names, ratios, small)
    order = {figure.name: i for i, figure in enumerate(figures)}
    groups.sort(key=lambda one: (slices.index(one.column), order[one.figure]))
    return Fairness(
        figures=figures,
        overall={one.name: whole.estimate(i, one.empty) for i, one in enumerate(figures)},
        groups=tuple(groups),
        gaps=tuple(gaps),
        threshold=threshold,
    )


def _answers(part: Part, answers: Floats, threshold: float | None) -> Answers:
    point, outputs = part.task.point(answers), part.task.table(answers)
    match part.task:
        case Binary():
            if threshold is None:
                raise MetricError(
                    "a binary task needs the threshold from which an answer is yes; "
                    "choose_threshold gives one on validation"
                )
            called = point >= threshold
        case Multiclass():
            called = outputs.argmax(axis=1) == part.label
        case _:
            called = np.zeros(len(part), dtype=bool)
    return Answers(
        label=part.label,
        point=point,
        low=outputs[:, 0],
        high=outputs[:, -1],
        called=called.astype(np.float64),
    )


def _groups(part: Part, column: str) -> tuple[list[str], NDArray[np.intp]]:
    """Return the groups in order, named as the evaluation names them, and the group of each row."""
    values = column_for_slices(part, column).astype(str).to_numpy(dtype=str)
    found, codes = np.unique(values, return_inverse=True)
    names = in_order(found.tolist())
    place = np.array([names.index(name) for name in found.tolist()])
    return names, place[codes.reshape(-1)]


def _largest(
    column: str, figure: Figure, names: Sequence[str], ratios: Ratios, small: NDArray[np.bool_]
) -> list[LargestGap]:
    eligible = np.flatnonzero(~small & np.isfinite(ratios.value))
    if len(eligible) < 2:
        return []
    ordered = eligible[np.argsort(ratios.value[eligible], kind="stable")]
    lowest, highest = int(ordered[0]), int(ordered[-1])
    return [
        LargestGap(
            column, figure.name, names[highest], names[lowest], ratios.difference(highest, lowest)
        )
    ]
