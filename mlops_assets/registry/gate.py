"""The gate: does the challenger deserve to serve? A pure decision over answers to the same rows.

The opponent is the champion or, for a family without one, the declared trivial baseline. The
challenger must meet every condition. A condition that cannot be judged is not met: nothing is
promoted on a number that does not exist. Further conditions (slices, latency) join `_CONDITIONS`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import PairedDifference, Resampling, paired_difference
from mlops_assets.training.dataset import Part
from mlops_assets.training.family import ModelFamily
from mlops_assets.training.metrics import METRICS, MetricError, Scored


@dataclass(frozen=True)
class Contender:
    """One side of the comparison.

    Attributes
    ----------
    name
        `flight_delay/3`, or `baseline`.
    probability
        Its answers to the gate's rows, shape (rows,).
    learnt_until
        Last calendar day of the rows it learnt from.
    """

    name: str
    probability: NDArray[np.float64]
    learnt_until: date


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
    conditions
        All of them, met or not.
    rows, first_day, last_day
        The rows on which both were judged.
    """

    family: str
    challenger: str
    opponent: str
    metric: str
    minimum_gain: float
    comparison: PairedDifference | None
    conditions: tuple[Condition, ...]
    rows: int
    first_day: date
    last_day: date

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
        return json.dumps({**asdict(self), "promote": self.promote}, default=str)


@dataclass(frozen=True)
class _Case:
    """What a condition may look at."""

    family: ModelFamily
    test: Part
    challenger: Contender
    opponent: Contender
    comparison: PairedDifference | None
    failure: str


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
    same = np.array_equal(case.challenger.probability, case.opponent.probability)
    reason = "both give the same answer to every row" if same else "their answers differ"
    return Condition("different answers", not same, reason)


def _gain(case: _Case) -> Condition:
    found, needed = case.comparison, case.family.gate.minimum_gain
    if found is None:
        return Condition("gain", False, case.failure)
    title = METRICS[found.metric].title
    numbers = (
        f"{title} {found.value_b:.4f} against {found.value_a:.4f}, gain {found.gain:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}]"
    )
    return Condition("gain", found.low > needed, f"{numbers}; must lie above {needed:+.4f}")


def _calibration(case: _Case) -> Condition:
    limit = case.family.gate.max_calibration_error
    if limit is None:
        return Condition("calibration", True, "the family sets no limit")
    rows = Scored.of(case.test.label, case.challenger.probability, case.test.days)
    error = float(METRICS["calibration_error"].reduce(rows)(np.ones((1, rows.blocks)))[0])
    return Condition(
        "calibration", error <= limit, f"calibration error {error:.4f}; at most {limit:.4f}"
    )


_CONDITIONS: tuple[Callable[[_Case], Condition], ...] = (
    _untouched,
    _different,
    _gain,
    _calibration,
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
        When the challenger's answers do not fit the rows or are not probabilities.
    """
    Scored.of(test.label, challenger.probability, test.days)
    comparison: PairedDifference | None = None
    failure = ""
    try:
        comparison = paired_difference(
            family.primary_metric,
            test.label,
            opponent.probability,
            challenger.probability,
            test.days,
            resampling,
        )
    except MetricError as error:
        failure = f"{family.primary_metric} cannot be compared: {error}"
    case = _Case(family, test, challenger, opponent, comparison, failure)
    return Decision(
        family=family.name,
        challenger=challenger.name,
        opponent=opponent.name,
        metric=family.primary_metric,
        minimum_gain=family.gate.minimum_gain,
        comparison=comparison,
        conditions=tuple(condition(case) for condition in _CONDITIONS),
        rows=len(test),
        first_day=test.days.min().astype(date),
        last_day=test.days.max().astype(date),
    )
