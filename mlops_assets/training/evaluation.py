"""Evaluating a model on one part of the split: metrics with intervals, slices, and curves.

What a plot or a table of the report shows is computed here, once, or in
`mlops_assets.training.curves`; drawing is elsewhere. An evaluation can be stored and read again
exactly, so that a model is measured once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate, Resampling, estimates
from mlops_assets.training.curves import (
    Curves,
    curves_from,
    curves_of,
    curves_state,
    rows_from_the_top,
)
from mlops_assets.training.dataset import Part, column_for_slices
from mlops_assets.training.family import ModelFamily, ThresholdDeclaration
from mlops_assets.training.metrics import Floats, MetricError, Scored
from mlops_assets.training.tasks import Binary, Task, in_order, task_from

SMALL_SLICE = 200
"""A slice with fewer rows is marked as small: its interval is wide and its value says little."""


@dataclass(frozen=True)
class SliceResult:
    """Metrics of the rows that share one value of a column.

    Attributes
    ----------
    column, value
        Which slice.
    rows
        How many it holds.
    label
        What their labels are, as `Task.describe` says it.
    metrics
        The primary metric and the task's metrics by slice, by name.
    small
        Whether there are fewer than `SMALL_SLICE` rows.
    """

    column: str
    value: str
    rows: int
    label: Mapping[str, float]
    metrics: Mapping[str, Estimate]
    small: bool


@dataclass(frozen=True)
class AtThreshold:
    """How the yes-or-no answer does.

    Attributes
    ----------
    threshold
        The probability at and above which the answer is yes.
    precision, recall, f1
        None where undefined: precision when nothing is called yes, recall when nothing is yes.
    flagged
        Share of rows called yes.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    flagged: float


@dataclass(frozen=True)
class Evaluation:
    """What one model does on one part.

    Attributes
    ----------
    part
        `validation` or `test`.
    task
        What kind of label it is.
    rows, days
        How many were evaluated on.
    label
        What the labels are, as `Task.describe` says it.
    metrics
        Every metric by name, each with its interval.
    slices
        Broken down by the family's slices.
    curves
        Points to draw.
    decision
        Precision and recall at the family's threshold; None before one was chosen, and for a task
        without a threshold.
    resampling
        How intervals were made.
    answers
        In the part's order, shape (rows,) or (rows, outputs).
    """

    part: str
    task: Task
    rows: int
    days: int
    label: Mapping[str, float]
    metrics: Mapping[str, Estimate]
    slices: tuple[SliceResult, ...]
    curves: Curves
    decision: AtThreshold | None
    resampling: Resampling
    answers: Floats

    def value(self, metric: str) -> float:
        """Return a metric's value.

        Raises
        ------
        MetricError
            When it could not be computed, with the reason; it is never replaced by a number.
        """
        found = self.metrics[self.task.metric(metric).name]
        if found.value is None:
            raise MetricError(f"{metric} on {self.part} cannot be computed: {found.reason}")
        return found.value

    def numbers(self) -> dict[str, float]:
        """Return the computable metrics and interval ends under flat names, for logs and plots."""
        flat: dict[str, float] = {}
        for name, found in self.metrics.items():
            for suffix, number in (("", found.value), ("_low", found.low), ("_high", found.high)):
                if number is not None:
                    flat[f"{self.part}_{name}{suffix}"] = number
        if self.decision is not None:
            for name in ("threshold", "precision", "recall", "f1", "flagged"):
                number = getattr(self.decision, name)
                if number is not None:
                    flat[f"{self.part}_at_threshold_{name}"] = number
        return flat

    def to_json(self) -> str:
        """Return everything but the answers as JSON; every number survives to the last bit."""
        content = {
            "part": self.part,
            "task": self.task.state(),
            "rows": self.rows,
            "days": self.days,
            "label": dict(self.label),
            "metrics": {name: asdict(found) for name, found in self.metrics.items()},
            "slices": [asdict(found) for found in self.slices],
            "curves": curves_state(self.curves),
            "decision": None if self.decision is None else asdict(self.decision),
            "resampling": asdict(self.resampling),
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, answers: NDArray[np.float64]) -> "Evaluation":
        """Read what `to_json` wrote.

        Parameters
        ----------
        text
            The JSON.
        answers
            The answers that were evaluated, which are stored apart.

        Raises
        ------
        MetricError
            When it is no evaluation, or these cannot be its answers.
        """
        try:
            raw = json.loads(text)
            task = task_from(raw["task"])
            task.check_answers(answers, raw["rows"])
            return cls(
                part=raw["part"],
                task=task,
                rows=raw["rows"],
                days=raw["days"],
                label=raw["label"],
                metrics={name: Estimate(**found) for name, found in raw["metrics"].items()},
                slices=tuple(_slice_from(found) for found in raw["slices"]),
                curves=curves_from(task, raw["curves"]),
                decision=None if raw["decision"] is None else AtThreshold(**raw["decision"]),
                resampling=Resampling(**raw["resampling"]),
                answers=answers,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MetricError(f"this is no stored evaluation with its answers: {error}") from error


def _slice_from(raw: Mapping[str, Any]) -> SliceResult:
    metrics = {name: Estimate(**found) for name, found in raw["metrics"].items()}
    return SliceResult(**{**raw, "metrics": metrics})


def evaluate(
    part: Part,
    answers: NDArray[np.float64],
    family: ModelFamily,
    resampling: Resampling,
    threshold: float | None = None,
) -> Evaluation:
    """Evaluate answers on a part.

    Parameters
    ----------
    part
        The rows and their truth.
    answers
        The model's, shape (rows,) or (rows, outputs).
    family
        Names the slices and the primary metric.
    resampling
        Draws, seed and level of the intervals.
    threshold
        From `choose_threshold` on validation.

    Raises
    ------
    MetricError
        When answers and rows do not match, or an answer is not one of the task.
    DatasetError
        When a declared slice is no column of the training set.
    """
    task = part.task
    rows = Scored.of(task, part.label, answers, part.days)
    return Evaluation(
        part=part.name,
        task=task,
        rows=len(part),
        days=rows.blocks,
        label=task.describe(rows.label),
        metrics=estimates(task.metrics.values(), rows, resampling),
        slices=_slices(part, rows, family, resampling),
        curves=curves_of(rows, part),
        decision=None if threshold is None else _at_threshold(rows, threshold),
        resampling=resampling,
        answers=rows.answers,
    )


def choose_threshold(
    part: Part, answers: NDArray[np.float64], rule: ThresholdDeclaration
) -> float | None:
    """Choose the probability at and above which the answer is yes.

    Parameters
    ----------
    part
        The validation part; the test part must not decide this.
    answers
        The model's answers on it.
    rule
        The family's rule.

    Returns
    -------
    float or None
        None for a task that does not answer yes or no.

    Raises
    ------
    MetricError
        When the part is `test`, or has one class only.
    """
    if not isinstance(part.task, Binary):
        return None
    if rule.value is not None:
        return rule.value
    if part.name == "test":
        raise MetricError(
            "the threshold is chosen on validation; test is left untouched for the gate"
        )
    rows = Scored.of(part.task, part.label, answers, part.days)
    scores, true_positives, flagged = rows_from_the_top(rows)
    f1 = 2 * true_positives / (flagged + rows.label.sum())
    return float(scores[int(np.argmax(f1))])


def choose_challenger(family: ModelFamily, evaluations: Mapping[str, Evaluation]) -> str:
    """Choose the best candidate by the primary metric on validation.

    Parameters
    ----------
    family
        Names the primary metric.
    evaluations
        By candidate, each on validation. Equal values: the one declared first wins.

    Raises
    ------
    MetricError
        When there is none, one is not on validation, or one's metric cannot be computed.
    """
    if not evaluations:
        raise MetricError(f"{family.name}: no candidate was evaluated")
    if wrong := [name for name, found in evaluations.items() if found.part != "validation"]:
        raise MetricError(
            f"{family.name}: {wrong} are not evaluated on validation; test chooses nothing"
        )
    metric = next(iter(evaluations.values())).task.metric(family.primary_metric)
    declared = [candidate.name for candidate in family.candidates]
    order = sorted(evaluations, key=lambda n: declared.index(n) if n in declared else len(declared))
    return max(order, key=lambda name: metric.sign * evaluations[name].value(metric.name))


def _slices(
    part: Part, rows: Scored, family: ModelFamily, resampling: Resampling
) -> tuple[SliceResult, ...]:
    task = part.task
    wanted = dict.fromkeys((family.primary_metric, *task.by_slice))
    metrics = [task.metrics[name] for name in wanted if name in task.metrics]
    results: list[SliceResult] = []
    for column in family.slices:
        values = column_for_slices(part, column).astype(str).to_numpy(dtype=str)
        for value in in_order(np.unique(values).tolist()):
            inside = rows.take(values == value)
            results.append(
                SliceResult(
                    column=column,
                    value=value,
                    rows=len(inside),
                    label=task.describe(inside.label),
                    metrics=estimates(metrics, inside, resampling),
                    small=len(inside) < SMALL_SLICE,
                )
            )
    return tuple(results)


def _at_threshold(rows: Scored, threshold: float) -> AtThreshold:
    yes = rows.answers >= threshold
    hits, flagged = float(rows.label[yes].sum()), int(yes.sum())
    positives = float(rows.label.sum())
    return AtThreshold(
        threshold=threshold,
        precision=hits / flagged if flagged else None,
        recall=hits / positives if positives else None,
        f1=2 * hits / (flagged + positives) if flagged and positives else None,
        flagged=flagged / len(rows.label),
    )
