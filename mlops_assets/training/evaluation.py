"""Evaluating a model on one part of the split: metrics with intervals, slices, and curves.

What a plot or a table of the report shows is computed here, once; drawing is elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.bootstrap import Estimate, Resampling, estimate
from mlops_assets.training.dataset import Part, column_for_slices
from mlops_assets.training.family import ModelFamily, ThresholdDeclaration
from mlops_assets.training.metrics import (
    METRICS,
    Floats,
    MetricError,
    Scored,
    calibration_edges,
    metric_named,
)

SMALL_SLICE = 200
"""A slice with fewer rows is marked as small: its interval is wide and its value says little."""

_CURVE_POINTS = 400
_HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class SliceResult:
    """Metrics of the rows that share one value of a column.

    Attributes
    ----------
    column, value
        Which slice.
    rows, positives
        What it holds.
    metrics
        The primary metric, log loss and calibration error, by name.
    small
        Whether there are fewer than `SMALL_SLICE` rows.
    """

    column: str
    value: str
    rows: int
    positives: int
    metrics: Mapping[str, Estimate]
    small: bool


@dataclass(frozen=True)
class Curves:
    """Points to draw, each array one-dimensional.

    Attributes
    ----------
    false_positive_rate, true_positive_rate
        The ROC curve.
    recall, precision
        The precision-recall curve.
    predicted, observed, bin_rows
        Mean answer and rate of yes in each calibration bin, and the rows in it.
    edges, positives, negatives
        Histogram of the answers by class; there is one more edge than counts.
    hour, hour_rows, hour_predicted, hour_observed, hour_log_loss
        Per hour of day; empty when the split column has no hours.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    recall: Floats
    precision: Floats
    predicted: Floats
    observed: Floats
    bin_rows: Floats
    edges: Floats
    positives: Floats
    negatives: Floats
    hour: Floats
    hour_rows: Floats
    hour_predicted: Floats
    hour_observed: Floats
    hour_log_loss: Floats


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
    rows, positives, days
        What was evaluated on.
    metrics
        Every metric by name, each with its interval.
    slices
        Broken down by the family's slices.
    curves
        Points to draw.
    decision
        Precision and recall at the family's threshold; None before one was chosen.
    resampling
        How intervals were made.
    probability
        The answers, shape (rows,), in the part's order.
    """

    part: str
    rows: int
    positives: int
    days: int
    metrics: Mapping[str, Estimate]
    slices: tuple[SliceResult, ...]
    curves: Curves
    decision: AtThreshold | None
    resampling: Resampling
    probability: Floats

    def value(self, metric: str) -> float:
        """Return a metric's value.

        Raises
        ------
        MetricError
            When it could not be computed, with the reason; it is never replaced by a number.
        """
        found = self.metrics[metric_named(metric).name]
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


def evaluate(
    part: Part,
    probability: NDArray[np.float64],
    family: ModelFamily,
    resampling: Resampling,
    threshold: float | None = None,
) -> Evaluation:
    """Evaluate answers on a part.

    Parameters
    ----------
    part
        The rows and their truth.
    probability
        The model's answers, shape (rows,).
    family
        Names the slices and the primary metric.
    resampling
        Draws, seed and level of the intervals.
    threshold
        From `choose_threshold` on validation.

    Raises
    ------
    MetricError
        When answers and rows do not match, or an answer is not a probability.
    DatasetError
        When a declared slice is no column of the training set.
    """
    rows = Scored.of(part.label, probability, part.days)
    return Evaluation(
        part=part.name,
        rows=len(part),
        positives=int(part.label.sum()),
        days=rows.blocks,
        metrics={name: estimate(metric, rows, resampling) for name, metric in METRICS.items()},
        slices=_slices(part, rows, family, resampling),
        curves=_curves(rows, part),
        decision=None if threshold is None else _at_threshold(rows, threshold),
        resampling=resampling,
        probability=rows.probability,
    )


def choose_threshold(
    part: Part, probability: NDArray[np.float64], rule: ThresholdDeclaration
) -> float:
    """Choose the probability at and above which the answer is yes.

    Parameters
    ----------
    part
        The validation part; the test part must not decide this.
    probability
        The model's answers on it, shape (rows,).
    rule
        The family's rule.

    Raises
    ------
    MetricError
        When the part is `test`, or has one class only.
    """
    if rule.value is not None:
        return rule.value
    if part.name == "test":
        raise MetricError(
            "the threshold is chosen on validation; test is left untouched for the gate"
        )
    rows = Scored.of(part.label, probability, part.days)
    scores, true_positives, flagged = _cumulated(rows)
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
    metric = metric_named(family.primary_metric)
    sign = 1 if metric.greater_is_better else -1
    declared = [candidate.name for candidate in family.candidates]
    order = sorted(evaluations, key=lambda n: declared.index(n) if n in declared else len(declared))
    return max(order, key=lambda name: sign * evaluations[name].value(metric.name))


def _slices(
    part: Part, rows: Scored, family: ModelFamily, resampling: Resampling
) -> tuple[SliceResult, ...]:
    names = dict.fromkeys((family.primary_metric, "log_loss", "calibration_error"))
    results: list[SliceResult] = []
    for column in family.slices:
        values = column_for_slices(part, column).astype(str).to_numpy(dtype=str)
        for value in _in_order(np.unique(values)):
            chosen = values == value
            inside = Scored.of(rows.label[chosen], rows.probability[chosen], part.days[chosen])
            results.append(
                SliceResult(
                    column=column,
                    value=value,
                    rows=int(chosen.sum()),
                    positives=int(inside.label.sum()),
                    metrics={name: estimate(METRICS[name], inside, resampling) for name in names},
                    small=bool(chosen.sum() < SMALL_SLICE),
                )
            )
    return tuple(results)


def _in_order(values: Sequence[str] | NDArray[np.str_]) -> list[str]:
    """Sort numbers as numbers and the rest as text."""

    def key(value: str) -> tuple[int, float, str]:
        number = value.removesuffix(".0")
        return (0, float(number), "") if number.lstrip("-").isdigit() else (1, 0.0, value)

    return sorted((str(value) for value in values), key=key)


def _cumulated(rows: Scored) -> tuple[Floats, Floats, Floats]:
    """Return each distinct answer, falling, with the positives and the rows at or above it."""
    order = np.argsort(-rows.probability, kind="stable")
    score = rows.probability[order]
    last = np.flatnonzero(np.r_[score[1:] != score[:-1], True])
    true_positives = np.cumsum(rows.label[order])[last]
    return score[last], true_positives, (last + 1).astype(np.float64)


def _at_threshold(rows: Scored, threshold: float) -> AtThreshold:
    yes = rows.probability >= threshold
    hits, flagged = float(rows.label[yes].sum()), int(yes.sum())
    positives = float(rows.label.sum())
    return AtThreshold(
        threshold=threshold,
        precision=hits / flagged if flagged else None,
        recall=hits / positives if positives else None,
        f1=2 * hits / (flagged + positives) if flagged and positives else None,
        flagged=flagged / len(rows.label),
    )


def _curves(rows: Scored, part: Part) -> Curves:
    _, hits, flagged = _cumulated(rows)
    positives = rows.label.sum()
    negatives = len(rows.label) - positives
    keep = np.unique(np.linspace(0, len(hits) - 1, _CURVE_POINTS).astype(int))
    if not positives or not negatives:
        keep = keep[:0]  # with one class there is no such curve
    edges = calibration_edges(rows.probability)
    cell = np.searchsorted(edges, rows.probability, side="right")
    in_bin = np.bincount(cell, minlength=len(edges) + 1).astype(np.float64)
    filled = in_bin > 0
    predicted = np.bincount(cell, weights=rows.probability, minlength=len(in_bin))[filled]
    observed = np.bincount(cell, weights=rows.label, minlength=len(in_bin))[filled]
    in_bin = in_bin[filled]
    grid = np.linspace(
        0, max(1e-6, float(np.quantile(rows.probability, 0.999))), _HISTOGRAM_BINS + 1
    )
    clipped = np.minimum(rows.probability, grid[-1])
    yes, no = clipped[rows.label == 1], clipped[rows.label == 0]
    return Curves(
        false_positive_rate=np.r_[0, (flagged - hits)[keep] / max(negatives, 1)],
        true_positive_rate=np.r_[0, hits[keep] / max(positives, 1)],
        recall=hits[keep] / max(positives, 1),
        precision=(hits / flagged)[keep],
        predicted=predicted / in_bin,
        observed=observed / in_bin,
        bin_rows=in_bin,
        edges=grid,
        positives=np.histogram(yes, grid)[0].astype(np.float64),
        negatives=np.histogram(no, grid)[0].astype(np.float64),
        **_by_hour(rows, part),
    )


def _by_hour(rows: Scored, part: Part) -> dict[str, Any]:
    names = ("hour", "hour_rows", "hour_predicted", "hour_observed", "hour_log_loss")
    hours = part.context["hour"].to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(hours).any():
        return {name: np.empty(0) for name in names}
    hour = hours.astype(int)
    count = np.bincount(hour, minlength=24).astype(np.float64)
    there = np.flatnonzero(count)
    p = np.clip(rows.probability, 1e-15, 1 - 1e-15)
    loss = -(rows.label * np.log(p) + (1 - rows.label) * np.log1p(-p))
    means = [
        np.bincount(hour, weights=values, minlength=24)[there] / count[there]
        for values in (rows.probability, rows.label, loss)
    ]
    return dict(zip(names, (there.astype(np.float64), count[there], *means), strict=True))
