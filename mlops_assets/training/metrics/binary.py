"""Metrics of a binary model: how well it ranks, how much it loses, how honest its answers are."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mlops_assets.training.metrics.gaps import root_mean_square_gap
from mlops_assets.training.metrics.scored import (
    Floats,
    Metric,
    MetricError,
    Scored,
    Weighted,
    mean,
    named,
    ratio,
)

CALIBRATION_BINS = 15
CLIP = 1e-15
"""Keeps the log loss of a confident mistake finite, as scikit-learn does."""

_CHUNK_CELLS = 4_000_000  # float64 cells held at once per intermediate, about 32 MB


def _both_classes(rows: Scored) -> None:
    positives = int(rows.label.sum())
    if positives in {0, len(rows.label)}:
        raise MetricError(
            f"all {len(rows.label)} rows have label {int(rows.label[0])}; both classes are needed"
        )


def roc_auc(rows: Scored) -> Weighted:
    """Area under the ROC curve: the share of (positive, negative) pairs ranked right.

    With `pairs[d, e]` the number of pairs of a positive of day d and a negative of day e in which
    the positive scores higher (ties count one half; Hanley & McNeil 1982, Radiology 143), the area
    under day weights w is w' pairs w over the weighted number of pairs. Exact, ties included.
    """
    from scipy.sparse import csr_array

    _both_classes(rows)
    yes = rows.label == 1
    levels, level = np.unique(rows.answers[yes], return_inverse=True)
    positives = csr_array(
        (np.ones(len(level)), (rows.block[yes], level)), shape=(rows.blocks, len(levels))
    )
    score, day = rows.answers[~yes], rows.block[~yes]
    # A negative counts fully for the levels above its score and half for the level equal to it:
    # the mean of counting from the first level not below it and from the first level above it.
    first_not_below = np.searchsorted(levels, score, side="left")
    first_above = np.searchsorted(levels, score, side="right")
    pairs = np.zeros((rows.blocks, rows.blocks))
    per_chunk = max(1, _CHUNK_CELLS // (len(levels) + 1))
    for first in range(0, rows.blocks, per_chunk):
        last = min(first + per_chunk, rows.blocks)
        here = (day >= first) & (day < last)
        shape = (len(levels) + 1, last - first)
        credit = np.zeros(shape)
        for start in (first_not_below[here], first_above[here]):
            cell = start * shape[1] + (day[here] - first)
            credit += 0.5 * np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
        np.cumsum(credit, axis=0, out=credit)
        pairs[:, first:last] = positives @ credit[:-1]
    positive, negative = rows.per_block(rows.label), rows.per_block(1 - rows.label)

    def area(weights: Floats) -> Floats:
        right = np.einsum("bd,bd->b", weights @ pairs, weights)
        return ratio(right, (weights @ positive) * (weights @ negative))

    return area


def average_precision(rows: Scored) -> Weighted:
    """Average precision: precision at each threshold, weighted by the recall it adds.

    As scikit-learn defines it, without interpolation. Only score values that some positive has add
    recall, so the statistics are kept for those alone.
    """
    _both_classes(rows)
    order = np.argsort(-rows.answers, kind="stable")
    block, label, score = rows.block[order], rows.label[order], rows.answers[order]
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    # A threshold is the last row of a group of ties that holds a positive. The rows since the
    # threshold before it form one cell row; the sum of the cell rows so far is what lies at or
    # above it. Summing before the days are weighted leaves a draw nothing but matrix products.
    holds_positive = np.add.reduceat(label, starts) > 0
    level_of_group = np.cumsum(np.r_[0, holds_positive[:-1]])
    level = np.repeat(level_of_group, np.diff(np.r_[starts, len(score)]))
    levels = int(holds_positive.sum())
    kept = level < levels  # rows below the last positive change nothing
    cell = level[kept] * rows.blocks + block[kept]
    size = levels * rows.blocks
    shape = (levels, rows.blocks)
    gained = np.bincount(cell, weights=label[kept], minlength=size).reshape(shape)
    everyone = np.bincount(cell, minlength=size).reshape(shape).astype(np.float64)
    found, answered = np.cumsum(gained, axis=0), np.cumsum(everyone, axis=0)

    def area(weights: Floats) -> Floats:
        # Counts below 2^24 are exact in single precision too, which is twice as fast; what its one
        # division loses, about 1e-8, is nothing beside the spread of the draws. The point value,
        # a single weighting, is computed in double precision.
        counts_are_exact = weights.max(initial=0) * len(rows) < 2**24
        number: type[np.floating] = (
            np.float32 if len(weights) > 1 and counts_are_exact else np.float64
        )
        by_draw: list[NDArray[np.floating]] = [
            statistic.astype(number).T for statistic in (gained, found, answered)
        ]
        added_by, above, upto = by_draw
        per_batch = max(1, _CHUNK_CELLS // levels)
        result = np.empty(len(weights))
        for first in range(0, len(weights), per_batch):
            batch: NDArray[np.floating] = weights[first : first + per_batch].astype(number)
            right = batch @ above
            total = right[:, -1].astype(np.float64)
            right /= np.maximum(batch @ upto, 1)
            right *= batch @ added_by
            result[first : first + per_batch] = ratio(right.sum(axis=1, dtype=np.float64), total)
        return result

    return area


def row_log_loss(rows: Scored) -> Floats:
    """Return each row's log loss, shape (rows,)."""
    p = np.clip(rows.answers, CLIP, 1 - CLIP)
    loss: Floats = -(rows.label * np.log(p) + (1 - rows.label) * np.log1p(-p))
    return loss


def _row_brier(rows: Scored) -> Floats:
    error: Floats = (rows.answers - rows.label) ** 2
    return error


def calibration_edges(probability: Floats, bins: int = CALIBRATION_BINS) -> Floats:
    """Return the inner edges of equally filled probability bins; fewer where values repeat."""
    return np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))


def calibration_error(rows: Scored) -> Weighted:
    """Reduce the calibration error: the root mean square gap of answer to outcome in bins.

    Equally filled bins, those of all rows in every draw. The root of the mean square (Nguyen &
    O'Connor 2015, EMNLP) and not the mean of absolute gaps (Naeini, Cooper & Hauskrecht 2015,
    AAAI), because noise can be taken off a square; see `root_mean_square_gap`.
    """
    edges = calibration_edges(rows.answers)
    bins = len(edges) + 1
    cell = rows.block * bins + np.searchsorted(edges, rows.answers, side="right")
    shape = (rows.blocks, bins)
    gap, count = (
        np.bincount(cell, weights=values, minlength=shape[0] * bins).reshape(shape).astype(float)
        for values in (rows.answers - rows.label, np.ones_like(rows.label))
    )
    return root_mean_square_gap(gap, count)


def _calibration_line(coefficient: int) -> Callable[[Scored], Weighted]:
    """Make the reduction of the calibration intercept (0) or slope (1): Cox 1958, Biometrika 45.

    It fits logit P(y) = intercept + slope * logit(p) by Newton's method. A draw takes one Newton
    step from the full fit, the one-step bootstrap of Davidson & MacKinnon 1999 (International
    Economic Review 40), which needs only per-day sums of gradient and curvature.
    """

    def reduce(rows: Scored) -> Weighted:
        _both_classes(rows)
        p = np.clip(rows.answers, CLIP, 1 - CLIP)
        x = np.log(p) - np.log1p(-p)
        if np.ptp(x) == 0:
            raise MetricError(f"every answer is {p[0]:.6g}, so no calibration line can be fitted")
        design = np.stack([np.ones_like(x), x])
        beta = np.array([0.0, 1.0])
        for _ in range(100):
            fitted = 1 / (1 + np.exp(-np.clip(beta @ design, -500, 500)))
            gradient = design @ (rows.label - fitted)
            curvature = (design * (fitted * (1 - fitted))) @ design.T
            if np.linalg.cond(curvature) > 1e12:
                raise MetricError("the answers separate the classes; no calibration line exists")
            step = np.linalg.solve(curvature, gradient)
            beta = beta + step
            if np.abs(step).max() < 1e-9:
                break
        else:
            raise MetricError("the fit of the calibration line did not converge in 100 steps")
        fitted = 1 / (1 + np.exp(-(beta @ design)))
        residual, spread = rows.label - fitted, fitted * (1 - fitted)
        g0, g1 = rows.per_block(residual), rows.per_block(residual * x)
        h00, h01, h11 = (rows.per_block(spread * power) for power in (np.ones_like(x), x, x * x))

        def line(weights: Floats) -> Floats:
            a, b, c = weights @ h00, weights @ h01, weights @ h11
            u, v = weights @ g0, weights @ g1
            steps = (c * u - b * v, a * v - b * u)
            moved: Floats = beta[coefficient] + ratio(steps[coefficient], a * c - b * b)
            return moved

        return line

    return reduce


BINARY_METRICS: Mapping[str, Metric] = named(
    Metric("roc_auc", "ROC AUC", True, 1.0, roc_auc),
    Metric("average_precision", "Average precision", True, 1.0, average_precision),
    Metric("log_loss", "Log loss", False, 0.0, mean(row_log_loss)),
    Metric("brier", "Brier score", False, 0.0, mean(_row_brier)),
    Metric("calibration_error", "Calibration error", False, 0.0, calibration_error),
    Metric("calibration_slope", "Calibration slope", None, 1.0, _calibration_line(1)),
    Metric("calibration_intercept", "Calibration intercept", None, 0.0, _calibration_line(0)),
)
"""Every metric of a binary model, by name."""
