"""The gate: does the challenger deserve to serve? A pure decision over answers to the same rows.

The opponent is the champion or, for a family without one, the declared trivial baseline. The
challenger must meet every condition. A condition that cannot be judged is not met: nothing is
promoted on a number that does not exist. A further condition joins `_CONDITIONS`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mlops_assets.registry.latency import Latency
from mlops_assets.registry.non_inferiority import (
    Sides,
    SliceComparison,
    Verdict,
    columns_unjudged,
    compare_slices,
    judged,
)
from mlops_assets.training.bootstrap import PairedDifference, Resampling, paired_difference
from mlops_assets.training.dataset import Part
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import Metric, MetricError, Scored

_SHOWN = 5  # slices that a reason names
_CALIBRATION = ("calibration_error", "coverage")  # of probabilities, and of intervals


@dataclass(frozen=True)
class Contender:
    """One side of the comparison.

    Attributes
    ----------
    name
        `flight_delay/3`, or `baseline`.
    answers
        To the gate's rows, shape (rows,) or (rows, outputs), as the task has them.
    learnt_until
        Last calendar day of the rows it learnt from.
    latency
        How long it takes to answer one row; None when it was not measured.
    """

    name: str
    answers: NDArray[np.float64]
    learnt_until: date
    latency: Latency | None = None


@dataclass(frozen=True)
class Condition:
    """One thing the challenger must satisfy, and whether it does.

    Attributes
    ----------
    name
        What is asked.
    met
        Whether it is so; False as well when it could not be judged.
    reason
        The numbers, or why they do not exist.
    """

    name: str
    met: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """The gate's decision with everything it rests on.

    Attributes
    ----------
    family, challenger, opponent
        Who met whom.
    metric, minimum_gain
        By what, and by how much the challenger had to be better.
    comparison
        The paired difference; None when it could not be computed.
    slices
        The same by slice, for the columns that the family's gate looks at.
    latency
        The challenger's, in milliseconds; None when it was not measured.
    conditions
        All of them, met or not.
    rows, first_day, last_day
        The rows on which both were judged.
    resampling
        Draws, seed and level of all intervals.
    """

    family: str
    challenger: str
    opponent: str
    metric: str
    minimum_gain: float
    comparison: PairedDifference | None
    slices: tuple[SliceComparison, ...]
    latency: Latency | None
    conditions: tuple[Condition, ...]
    rows: int
    first_day: date
    last_day: date
    resampling: Resampling

    @property
    def promote(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions)

    @property
    def summary(self) -> str:
        """One line for people."""
        verb = "beats" if self.promote else "does not replace"
        failed = [condition.reason for condition in self.conditions if not condition.met]
        numbers = next(c.reason for c in self.conditions if c.name == "gain")
        return f"{self.challenger} {verb} {self.opponent}: {'; '.join(failed) or numbers}"

    def to_json(self) -> str:
        """Return the decision as JSON, for the ledger."""
        return json.dumps({**asdict(self), "promote": self.promote}, default=str, allow_nan=False)


@dataclass(frozen=True)
class _Case:
    """What a condition may look at."""

    family: ModelFamily
    test: Part
    rows: Scored  # the challenger's answers
    challenger: Contender
    opponent: Contender
    comparison: PairedDifference | None
    failure: str
    slices: tuple[SliceComparison, ...]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return self.test.task.metrics


def _untouched(case: _Case) -> Condition:
    first = case.test.days.min().astype(date)
    seen = [side for side in (case.challenger, case.opponent) if side.learnt_until >= first]
    if seen:
        reason = ", ".join(
            f"{side.name} learnt from rows up to {side.learnt_until}" for side in seen
        )
        return Condition("untouched rows", False, f"{reason}, but the test rows begin on {first}")
    return Condition("untouched rows", True, f"neither learnt from rows of {first} or later")


def _different(case: _Case) -> Condition:
    same = np.array_equal(case.challenger.answers, case.opponent.answers)
    reason = "both give the same answer to every row" if same else "their answers differ"
    return Condition("different answers", not same, reason)


def _gain(case: _Case) -> Condition:
    found, needed = case.comparison, case.family.gate.minimum_gain
    if found is None:
        return Condition("gain", False, case.failure)
    title = case.test.task.metric(found.metric).title
    numbers = (
        f"{title} {found.value_b:.4f} against {found.value_a:.4f}, gain {found.gain:+.4f} "
        f"({found.low:+.4f} to {found.high:+.4f})"
    )
    return Condition("gain", found.low > needed, f"{numbers}; must lie above {needed:+.4f}")


def _calibration(case: _Case) -> Condition:
    name, limit = "calibration", case.family.gate.max_calibration_error
    if limit is None:
        return Condition(name, True, "the family sets no limit")
    metric = next(case.test.task.metric(known) for known in _CALIBRATION if known in case.metrics)
    try:
        weighted = metric.reduce(case.rows)
    except MetricError as error:
        return Condition(name, False, f"{metric.name} cannot be computed: {error}")
    found = float(weighted(np.ones((1, case.rows.blocks)))[0])
    off = abs(found - metric.ideal)
    shown = f"{metric.title.lower()} {found:.4f}"
    if metric.ideal:
        shown += f", {off:.4f} from {metric.ideal:g}"
    return Condition(name, off <= limit, f"{shown}; at most {limit:.4f}")


def _slices(case: _Case) -> Condition:
    name, limit = "slices", case.family.gate.slices
    if limit is None:
        return Condition(name, True, "the family sets no margin")
    if case.comparison is None:
        return Condition(name, False, case.failure)
    worse = [found for found in case.slices if found.verdict is Verdict.worse]
    if worse:
        shown = ", ".join(str(found) for found in worse[:_SHOWN])
        more = f" and {len(worse) - _SHOWN} more" if len(worse) > _SHOWN else ""
        return Condition(
            name, False, f"worse by more than the margin of {limit.margin:g}: {shown}{more}"
        )
    if unjudged := columns_unjudged(case.slices):
        return Condition(
            name,
            False,
            f"no slice by {', '.join(unjudged)} has enough rows to show a margin of "
            f"{limit.margin:g}; widen gate.slices.margin, or leave the column out",
        )
    count = sum(1 for _ in judged(case.slices))
    reason = f"none of {count} slices is worse by more than {limit.margin:g}"
    small = len(case.slices) - count
    return Condition(
        name, True, f"{reason}; {small} are too small to judge alone" if small else reason
    )


def _latency(case: _Case) -> Condition:
    limit, found = case.family.gate.max_latency_ms, case.challenger.latency
    if limit is None:
        return Condition("latency", True, "the family sets no limit")
    if found is None:
        return Condition("latency", False, "the latency was not measured")
    return Condition(
        "latency",
        found.p95_ms <= limit,
        f"95 of 100 single predictions take up to {found.p95_ms:.2f} ms; at most {limit:g} ms",
    )


_CONDITIONS: tuple[Callable[[_Case], Condition], ...] = (
    _untouched,
    _different,
    _gain,
    _slices,
    _calibration,
    _latency,
)


def decide(
    family: ModelFamily,
    test: Part,
    challenger: Contender,
    opponent: Contender,
    resampling: Resampling,
) -> Decision:
    """Decide whether the challenger becomes champion.

    Parameters
    ----------
    family
        Declares metric, minimum gain and limits.
    test
        The untouched rows both answered.
    challenger, opponent
        Their answers, row by row to `test`.
    resampling
        Draws, seed and level of the interval.

    Returns
    -------
    Decision
        Also when the metric cannot be computed: then it says so and does not promote.

    Raises
    ------
    MetricError
        When the challenger's answers do not fit the rows or the task.
    """
    rows = Scored.of(test.task, test.label, challenger.answers, test.days)
    comparison: PairedDifference | None = None
    failure = ""
    try:
        comparison = paired_difference(
            family.primary_metric,
            test.task,
            test.label,
            opponent.answers,
            challenger.answers,
            test.days,
            resampling,
        )
    except MetricError as error:
        failure = f"{family.primary_metric} cannot be compared: {error}"
    slices = _compare_slices(family, test, challenger, opponent, resampling) if comparison else ()
    case = _Case(family, test, rows, challenger, opponent, comparison, failure, slices)
    return Decision(
        family=family.name,
        challenger=challenger.name,
        opponent=opponent.name,
        metric=family.primary_metric,
        minimum_gain=family.gate.minimum_gain,
        comparison=comparison,
        slices=slices,
        latency=challenger.latency,
        conditions=tuple(condition(case) for condition in _CONDITIONS),
        rows=len(test),
        first_day=test.days.min().astype(date),
        last_day=test.days.max().astype(date),
        resampling=resampling,
    )


def _compare_slices(
    family: ModelFamily,
    test: Part,
    challenger: Contender,
    opponent: Contender,
    resampling: Resampling,
) -> tuple[SliceComparison, ...]:
    declared = family.gate.slices
    if declared is None:
        return ()
    sides = Sides(
        test,
        test.task.metric(family.primary_metric),
        opponent.answers,
        challenger.answers,
        resampling,
    )
    return compare_slices(sides, declared.columns or family.slices, declared.margin)
